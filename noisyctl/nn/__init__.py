"""Networks, and functions that run or change them."""
