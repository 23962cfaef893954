"""The runner: it trains methods epoch by epoch, with checkpoints and exact resume."""
