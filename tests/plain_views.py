"""Views that change nothing: what is left of an epoch is the algorithm."""

import torch
from torch import Tensor


class PlainViews:
    """Pixels as they are, whatever the view."""

    def plain(self, images: Tensor) -> Tensor:
        return images.permute(0, 3, 1, 2).float() / 255

    def weak(self, images: Tensor, rng: torch.Generator) -> Tensor:
        return self.plain(images)

    simclr = moco = strong = weak
