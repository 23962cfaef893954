"""The commands: the only code that parses arguments or knows where things lie."""
