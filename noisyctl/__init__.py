"""What noisyctl computes, and its commands as functions: `from noisyctl import clean, train_method`.

`find_label_issues` judges the labels of features that are in memory, and `load_model` gives a run's networks as one PyTorch
module. The packages below are the library, without command line, paths or YAML; docs/python.md shows the functions.
"""

from typing import Any

__version__ = "0.1.0"

# functions that are no commands, and where they are
FUNCTIONS = {"find_label_issues": "noisyctl.opinions.issues", "load_model": "noisyctl.runs.model"}


def __getattr__(name: str) -> Any:
    """A command as a function, imported when it is asked for: see noisyctl/cli/python.py."""
    if name.startswith("_"):
        raise AttributeError(f"module 'noisyctl' has no attribute {name!r}")
    from importlib import import_module
    from importlib.util import find_spec

    if name in FUNCTIONS:
        return getattr(import_module(FUNCTIONS[name]), name)
    if find_spec(f"noisyctl.{name}") is not None:  # a package of the library that was not imported yet
        raise AttributeError(f"module 'noisyctl' has no attribute {name!r}")
    return import_module("noisyctl.cli.python").function(name)
