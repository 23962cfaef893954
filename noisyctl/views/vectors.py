"""Views of vectors: the features of a frozen encoder instead of images.

An encoder has looked at every image once, so an image can no longer be cropped or turned. What stands in for that is noise:
`weak` adds a little Gaussian noise to every feature, `strong` adds more and drops some features, that is, sets them to their
mean. Features are first standardized: the mean of each becomes 0 and its deviation 1, so that the amounts below are parts of
each feature's own deviation. Methods see the same names as on images (`plain`, `weak`, `strong`) and need not know.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float
from torch import Generator, Tensor

from noisyctl.errors import DataError, ParamsError

WEAK_NOISE, STRONG_NOISE = 0.1, 0.3  # deviations of the added noise, in each feature's deviation
WEAK_DROP, STRONG_DROP = 0.0, 0.3  # shares of the features that are set to their mean
LEAST_DEVIATION = 1e-6  # a feature that varies less is constant: it is only centered


@dataclass(frozen=True)
class VectorViews:
    """The views of one set of vectors: float32 [b d] to float32 [b d 1 1], standardized.

    The result has the shape of an image of one pixel and d channels, which is what backbones take. `mean` and `std` are
    those of each feature over the training samples.
    """

    mean: Sequence[float]
    std: Sequence[float]
    weak_noise: float = WEAK_NOISE
    strong_noise: float = STRONG_NOISE
    weak_drop: float = WEAK_DROP
    strong_drop: float = STRONG_DROP
    _scale: tuple[Tensor, Tensor] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if len(self.mean) != len(self.std) or not self.mean:
            raise ParamsError(
                f"vector views: {len(self.mean)} means and {len(self.std)} deviations; give one of each a feature"
            )
        deviation = np.asarray(self.std, dtype=np.float32)
        deviation = np.where(deviation < LEAST_DEVIATION, np.float32(1), deviation)
        mean = torch.tensor(np.asarray(self.mean, dtype=np.float32))
        object.__setattr__(self, "_scale", (mean, torch.tensor(deviation)))

    def plain(self, vectors: Float[Tensor, "b d"]) -> Float[Tensor, "b d 1 1"]:
        """The standardized vectors."""
        if vectors.shape[1] != len(self.mean):
            raise DataError(
                f"the vectors have {vectors.shape[1]} features, these views {len(self.mean)}; "
                "use the features that the run was trained on"
            )
        mean, deviation = (part.to(vectors.device) for part in self._scale)
        return vectors.sub(mean).div_(deviation)[:, :, None, None]

    def weak(self, vectors: Float[Tensor, "b d"], rng: Generator) -> Float[Tensor, "b d 1 1"]:
        """With a little noise."""
        return self._disturbed(vectors, self.weak_noise, self.weak_drop, rng)

    def strong(self, vectors: Float[Tensor, "b d"], rng: Generator) -> Float[Tensor, "b d 1 1"]:
        """With more noise, and without some of the features."""
        return self._disturbed(vectors, self.strong_noise, self.strong_drop, rng)

    def simclr(self, vectors: Float[Tensor, "b d"], rng: Generator) -> Float[Tensor, "b d 1 1"]:
        """Refused: an encoder is trained on images."""
        raise ParamsError("SimCLR trains an encoder on images, and these are vectors of an encoder already")

    def moco(self, vectors: Float[Tensor, "b d"], rng: Generator) -> Float[Tensor, "b d 1 1"]:
        """Refused: an encoder is trained on images."""
        raise ParamsError("MoCo trains an encoder on images, and these are vectors of an encoder already")

    def _disturbed(
        self, vectors: Float[Tensor, "b d"], noise: float, drop: float, rng: Generator
    ) -> Float[Tensor, "b d 1 1"]:
        views = self.plain(vectors)
        if noise > 0:
            views = views + noise * torch.randn(views.shape, generator=rng, device=views.device)
        if drop > 0:
            views = views * (torch.rand(views.shape, generator=rng, device=views.device) >= drop)
        return views
