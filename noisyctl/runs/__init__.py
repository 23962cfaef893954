"""From artifacts to artifacts: what is fresh, and what must be made again."""
