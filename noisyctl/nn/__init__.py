"""Networks and what acts on them."""
