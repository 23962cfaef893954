"""Label-free pretraining; one file each, found by name."""

from noisyctl.registry import Registry

CONTRACT = ("Params", "NEEDS", "start", "run_epoch", "predict")
REGISTRY = Registry(__name__, "pretraining", CONTRACT)

available, load = REGISTRY.available, REGISTRY.load
