"""Label-free pretraining methods, one file each. A method's file name is its name on the command line."""

from noisyctl.registry import Registry

CONTRACT = ("Params", "NEEDS", "start", "run_epoch", "predict")
REGISTRY = Registry(__name__, "pretraining", CONTRACT)

available, load = REGISTRY.available, REGISTRY.load
