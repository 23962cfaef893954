"""The frame of a command: what every command says in the same way."""
