"""What stages exchange on disk: one file a kind; `store` does the reading, writing and checking."""
