"""Any encoder of timm by its name, such as timm:vit_small_patch14_dinov2: from a file of weights, or downloaded when asked.

Size, crop, interpolation and normalization are those that timm states for the weights. A file is read without pickle's
programs (`weights_only`), or as safetensors.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from noisyctl.embedding import Encoder
from noisyctl.errors import DataError, ParamsError, suggest

NAMES: tuple[str, ...] = ()
CURE = "install it with `pip install 'noisyctl[cpu]'` or `pip install 'noisyctl[gpu]'`"


def load(name: str, weights: Path | None, download: bool) -> Encoder:
    """The encoder. Raises ParamsError where timm has no such network or no weights, DataError for a bad file."""
    try:
        import timm
        from timm.data import resolve_model_data_config
    except ImportError as error:
        raise ParamsError(f"encoder timm:{name} needs timm, which is not installed; {CURE}") from error
    if not timm.is_model(name):
        raise ParamsError(f"timm has no network {name!r}; {suggest(name, timm.list_models())}")
    if weights is None and not download:
        raise ParamsError(
            f"the weights of timm:{name} are not here; give their file with --weights, or fetch them with --download"
        )
    if weights is not None and not weights.is_file():
        raise ParamsError(f"--weights {weights}: there is no such file")
    try:
        network = timm.create_model(name, pretrained=weights is None, num_classes=0)
        if weights is not None:
            _fill(network, timm.models.load_state_dict(str(weights), use_ema=False, weights_only=True))
    except Exception as error:  # torch, safetensors and the hub raise many types
        what = f"{weights} does not hold" if weights else "cannot fetch"
        raise DataError(f"{what} the weights of timm:{name} ({str(error).splitlines()[0]})") from error
    config = resolve_model_data_config(network)
    side = int(config["input_size"][-1])
    return Encoder(
        f"timm:{name}",
        network,
        side,
        round(side / float(config["crop_pct"])),
        tuple(map(float, config["mean"])),
        tuple(map(float, config["std"])),
        "bilinear" if config["interpolation"] == "bilinear" else "bicubic",
        f"timm {timm.__version__}, {_tag(network)}" if weights is None else f"sha256 {_sha256(weights)}",
    )


def _fill(network: nn.Module, stored: Mapping[str, Tensor]) -> None:
    """Take the network's tensors from a file, where the classifier's may be too. ValueError where one is missing."""
    wanted = network.state_dict()
    missing = [
        name for name, tensor in wanted.items() if name not in stored or stored[name].shape != tensor.shape
    ]
    if missing:
        raise ValueError(
            f"{len(missing)} of {len(wanted)} tensors are missing or of another shape: {missing[0]}"
        )
    network.load_state_dict({name: stored[name] for name in wanted})


def _tag(network: Any) -> str:
    return str(network.pretrained_cfg.get("tag") or "default weights")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
