"""Run the stale stages of a DVC pipeline several at a time, on this machine or on a SLURM cluster."""
