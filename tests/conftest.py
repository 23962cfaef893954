"""Shared by all tests: one thread each, no coloured output."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["NO_COLOR"] = "1"
os.environ["DVC_NO_ANALYTICS"] = "1"

import torch

torch.set_num_threads(1)
