"""Label-free pretraining; one file each."""
