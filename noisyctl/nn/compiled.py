"""Networks whose backbones are compiled: the same functions up to rounding, in fewer passes over memory."""

from typing import Any

from torch import nn

from noisyctl.nn.networks import Classifier

# every batch size is one function, so that the bytes of a resumed run do not hang on which batch came first; dropout draws
# from torch's generator, as without compiling
OPTIONS: dict[str, Any] = {"dynamic": True, "options": {"fallback_random": True}}
MODES = 64  # kinds of calls that may be compiled apart: networks, training or not, with gradients or not


def compile_backbones(module: nn.Module) -> None:
    """Compile the backbone of every classifier in there, in place: weights keep their names, and the module its methods."""
    import torch._dynamo

    torch._dynamo.config.recompile_limit = max(MODES, torch._dynamo.config.recompile_limit)
    for part in module.modules():
        if isinstance(part, Classifier):
            part.features.compile(**OPTIONS)
