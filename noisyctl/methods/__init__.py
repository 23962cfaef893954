"""Noisy-label methods; one file each. File name, command-line name and params block are the same word."""

from noisyctl.registry import Registry

RENAMED = {
    "scanmix_official": "scanmix"
}  # another name of a method until the next version, and the name it has
CONTRACT = ("Params", "NEEDS", "start", "run_epoch", "predict")  # what a method file must have
REGISTRY = Registry(__name__, "method", CONTRACT, RENAMED, open_to_others=True)

modules, available, load, spec_of = REGISTRY.modules, REGISTRY.available, REGISTRY.load, REGISTRY.spec_of
module_of, present_name = REGISTRY.module_of, REGISTRY.present_name
