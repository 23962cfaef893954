"""What a file of networks says beside their weights: types that are written and read, and JSON in the file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from noisyctl.errors import ArtifactError, wrong_key

LISTS = ("class_names", "mean", "std", "size")  # fields of Preprocessing that are lists
WRITTEN = ("kind", "modules", "digest")  # that every file of networks has


@dataclass(frozen=True)
class Preprocessing:
    """What `predict` needs to know beside the networks: the classes, and how images are brought to a network's input.

    `size` is that of the images. Of a network on vectors, `encoder` says what makes vectors of images, and `mean`, `std` and
    `views` are those of the vectors.
    """

    class_names: list[str]
    mean: list[float]
    std: list[float]
    views: Any
    size: list[int]
    encoder: Mapping[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        """The encoder is named of vectors only."""
        return {name: value for name, value in asdict(self).items() if name != "encoder" or value is not None}

    @classmethod
    def from_json(cls, about: Mapping[str, Any]) -> Preprocessing:
        """Raises ArtifactError that lists what is missing or of another type."""
        wrong = [name for name in LISTS if not isinstance(about.get(name), list)]
        wrong += [] if "views" in about else ["views"]
        wrong += [] if isinstance(about.get("encoder", {}), dict) else ["encoder"]
        if wrong:
            raise ArtifactError(f"does not say its {', '.join(wrong)}")
        return cls(**about)


PREPROCESSING = (*LISTS, "views", "encoder")


@dataclass(frozen=True)
class RunHeader:
    """Of a run or a warm-up. `preprocessing` is None where there were no images; `digest` is of a file that was read."""

    method: str
    epochs: int
    inputs: Mapping[str, str]
    preprocessing: Preprocessing | None
    digest: str = ""
    kind: str = "networks"

    def to_json(self) -> dict[str, Any]:
        """As the file carries it: the preprocessing beside the rest, not below it."""
        about = {"kind": self.kind, "method": self.method, "epochs": self.epochs, "inputs": dict(self.inputs)}
        return about | (self.preprocessing.to_json() if self.preprocessing else {})

    @classmethod
    def from_json(cls, about: Mapping[str, Any]) -> RunHeader:
        """Raises ArtifactError that names a key which is unknown, missing or of another type."""
        _require_keys(about, (*WRITTEN, "method", "epochs", "inputs"), PREPROCESSING)
        seen = {name: about[name] for name in PREPROCESSING if name in about}
        how = Preprocessing.from_json(seen) if seen else None
        return cls(about["method"], about["epochs"], about["inputs"], how, about["digest"])


@dataclass(frozen=True)
class LabelFreeHeader:
    """Of a network that learned without labels: an encoder or clusters, as `kind` says."""

    kind: str
    params: Mapping[str, Any]
    inputs: Mapping[str, str]
    hardware: str
    digest: str = ""

    def to_json(self) -> dict[str, Any]:
        """As the file carries it."""
        return {
            "kind": self.kind,
            "params": dict(self.params),
            "inputs": dict(self.inputs),
            "hardware": self.hardware,
        }

    @classmethod
    def from_json(cls, about: Mapping[str, Any]) -> LabelFreeHeader:
        """Raises ArtifactError that names a key which is unknown or missing."""
        _require_keys(about, (*WRITTEN, "params", "inputs", "hardware"))
        return cls(about["kind"], about["params"], about["inputs"], about["hardware"], about["digest"])


def header_from_json(about: Mapping[str, Any]) -> RunHeader | LabelFreeHeader:
    """The header of a file of networks. Raises ArtifactError where it is none that this version knows."""
    kind = about.get("kind")
    if kind == "networks":
        return RunHeader.from_json(about)
    if kind in ("encoder", "clusters"):
        return LabelFreeHeader.from_json(about)
    raise ArtifactError(f"holds {kind}, not networks")


def _require_keys(about: Mapping[str, Any], known: tuple[str, ...], optional: tuple[str, ...] = ()) -> None:
    if wrong := wrong_key(about, known, optional):
        raise ArtifactError(f"has another header: {wrong}")
