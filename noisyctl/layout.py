"""Where every artifact lies under data/: the default of every path option."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

FILES = "files"  # beside images.zarr: a link to the folder of images that stay in their files


TRAINED_HERE = (
    "simclr",
    "moco",
)  # encoders that are trained on the images themselves; all others come trained


def folder_of(encoder: str) -> str:
    """The folder of an encoder's artifacts in that of a data set: its name, without what no folder should be called."""
    return "".join(c if c.isalnum() or c in "._-" else "-" for c in encoder)


def encoder_in(folder: str) -> str | None:
    """The encoder that comes trained and whose artifacts lie in a folder of this name; None where it is another's."""
    if folder == "efficientnet_lite0":
        return folder
    return f"timm:{folder.removeprefix('timm-')}" if folder.startswith("timm-") else None


@dataclass(frozen=True)
class Layout:
    """The default of every path option. `noise` is a block of `noises:`, or `given` for the user's own labels.

    `input` is what networks see: `images`, or the `features` of the encoder; what is trained on these lies in its folder.
    `named` are features that were named by their place: networks see these, and their folder stands for the encoder's.
    """

    dataset: str = "digits"
    pretrain: str = "simclr"
    noise: str = "given"
    seed: int = 0
    root: Path = Path("data")
    input: str = "images"
    named: Path | None = None

    @property
    def home(self) -> Path:
        return self.root / self.dataset

    @property
    def labels(self) -> Path:
        return (
            self.home / "labels.zarr"
            if self.noise == "given"
            else self.home / "noise" / self.cell / "labels.zarr"
        )

    @property
    def has_images(self) -> bool:
        """Whether networks can see images: own features have none."""
        return (self.home / "images.zarr").exists() or not (self.home / "features.zarr").exists()

    @property
    def cell(self) -> str:
        return f"{self.noise}-s{self.seed}"

    @property
    def encoder(self) -> Path:
        """Where features lie: your own in the data set's folder, an encoder's in that of its pretraining."""
        if self.named is not None:
            return self.named.parent
        return self.home if (self.home / "features.zarr").exists() else self.home / folder_of(self.pretrain)

    @property
    def encoder_file(self) -> Path:
        return self.encoder / "encoder.safetensors"

    @property
    def neighbors(self) -> Path:
        return self.encoder / "neighbors.zarr"

    @property
    def features(self) -> Path:
        return self.encoder / "features.zarr"

    @property
    def vectors(self) -> Path | None:
        """The features that networks see; None where they see images."""
        return self.named or (self.features if self.input == "features" else None)

    @property
    def clusters(self) -> Path:
        folder = self.encoder / "vectors" if self.input == "features" else self.encoder
        return folder / "clusters.safetensors"

    @property
    def trained(self) -> Path:
        """The folder of warm-ups and runs: those on features never meet those on images."""
        return self.encoder if self.input == "features" else self.home

    def warmup(self, profile: str) -> Path:
        return self.trained / "warmup" / profile / self.cell

    def run(self, method: str) -> Path:
        return self.trained / "runs" / method / self.cell


def beside(labels: Path, name: str) -> Path:
    """Where an artifact lies that belongs to labels: NAME.zarr beside labels.zarr, L.NAME.zarr beside any other L.zarr."""
    plain = labels.name == "labels.zarr"
    return labels.with_name(f"{name}.zarr" if plain else f"{labels.stem}.{name}.zarr")
