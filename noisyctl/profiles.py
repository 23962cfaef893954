"""The warm-up profiles that are there without a block of `warmups:` in params.yaml; a block of that name changes values."""

from typing import Any

PROFILES: dict[str, dict[str, Any]] = {
    "default": {},
    "clustered": {"start": "clusters", "train": "head", "views": "strong"},  # ScanMix's code
    "pretrained": {"start": "encoder"},  # ScanMix 3.2
}
