"""Label noise: pure functions of clean labels; one file a model."""
