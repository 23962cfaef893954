"""What a person does with the list of `noisyctl clean`: look, decide, apply, take back, audit, export."""
