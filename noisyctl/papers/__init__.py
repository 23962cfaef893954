"""The papers' result tables: each printed number, the commands that answer it, and the comparison with what was measured."""
