"""A State as tensors and JSON, and back.

A State may hold modules, optimizers, tensors, numbers, texts, and lists and dicts of these.
"""

import json
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor, nn


def pack(state: Any) -> tuple[dict[str, Tensor], str]:
    """The tensors of a State by their path in it, and all the rest as JSON. Raises TypeError for other contents."""
    tensors: dict[str, Tensor] = {}
    tree = {f.name: _pack(getattr(state, f.name), f.name, tensors) for f in fields(state)}
    return tensors, json.dumps(tree, sort_keys=True)


def unpack(state: Any, tensors: dict[str, Tensor], tree: str) -> None:
    """Fill a State that `start` has just made with what `pack` returned."""
    for name, node in json.loads(tree).items():
        setattr(state, name, _unpack(getattr(state, name), node, tensors))


def _pack(value: Any, path: str, tensors: dict[str, Tensor]) -> Any:
    match value:
        case nn.Module():
            return {"module": _pack(dict(value.state_dict()), path, tensors)}
        case torch.optim.Optimizer():
            return {"optimizer": _pack(value.state_dict(), path, tensors)}
        case Tensor():
            tensors[path] = value.detach().cpu().contiguous().clone()
            return {"tensor": path, "device": str(value.device), "channels_last": _is_channels_last(value)}
        case dict():
            return {"dict": [[key, _pack(item, f"{path}.{key}", tensors)] for key, item in value.items()]}
        case list() | tuple():
            return {"list": [_pack(item, f"{path}.{i}", tensors) for i, item in enumerate(value)]}
        case None | bool() | int() | float() | str():
            return {"value": value}
    raise TypeError(f"{path}: {type(value).__name__} cannot stand in a State")


def _unpack(current: Any, node: dict[str, Any], tensors: dict[str, Tensor]) -> Any:
    if "module" in node:
        current.load_state_dict(_unpack(None, node["module"], tensors))
        return current
    if "optimizer" in node:
        current.load_state_dict(_unpack(None, node["optimizer"], tensors))
        return current
    if "tensor" in node:
        layout = torch.channels_last if node["channels_last"] else torch.preserve_format
        return tensors[node["tensor"]].to(node["device"], memory_format=layout)
    if "dict" in node:
        known = current if isinstance(current, dict) else {}
        return {key: _unpack(known.get(key), item, tensors) for key, item in node["dict"]}
    if "list" in node:
        held = current if isinstance(current, list) else [None] * len(node["list"])
        return [_unpack(old, item, tensors) for old, item in zip(held, node["list"], strict=True)]
    return node["value"]


def _is_channels_last(value: Tensor) -> bool:
    """Whether a tensor is stored in channels-last order, as convolution weights and their optimizer averages are."""
    return (
        value.ndim == 4
        and not value.is_contiguous()
        and value.is_contiguous(memory_format=torch.channels_last)
    )
