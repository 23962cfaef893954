"""Noisy-label methods, one file each. A method's file name is its name on the command line and in params.yaml."""

from noisyctl.registry import Registry

# former names of methods, kept until the next version, and their present names
RENAMED = {"scanmix_official": "scanmix"}
CONTRACT = ("Params", "NEEDS", "start", "run_epoch", "predict")  # what a method file must have
REGISTRY = Registry(__name__, "method", CONTRACT, RENAMED, open_to_others=True)

modules, available, load, spec_of = REGISTRY.modules, REGISTRY.available, REGISTRY.load, REGISTRY.spec_of
module_of, present_name = REGISTRY.module_of, REGISTRY.present_name
