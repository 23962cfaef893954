"""Pure functions that several methods share."""
