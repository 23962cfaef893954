"""MixMatch with a labeled and an unlabeled side found by a division, as DivideMix and its successors train it.

Berthelot et al., "MixMatch: A Holistic Approach to Semi-Supervised Learning", NeurIPS 2019; Li et al., "DivideMix", ICLR
2020, section 3.2 and Algorithm 1.

The rows of a step are ordered [labeled view 1, labeled view 2, unlabeled view 1, unlabeled view 2]. The unlabeled side
may be empty.

Shapes: m = rows of a step, b = labeled images (2 b rows), v = views, c = classes.
"""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor

from noisyctl.parts.losses import prior_penalty, squared_error
from noisyctl.parts.mixing import draw_beta, mix_pair, mixmatch_weight
from noisyctl.parts.targets import average_probs, sharpen, soft_cross_entropy

Network = Callable[[Tensor], Tensor]


def unit_range(losses: Float[Tensor, "k n"]) -> Float[Tensor, "k n"]:
    """Each row of losses, shifted and scaled to [0, 1]; a row of equal losses becomes 0."""
    low, high = losses.aminmax(dim=1, keepdim=True)
    return (losses - low) / (high - low).clamp(min=torch.finfo(losses.dtype).tiny)


def labeled_side(clean_probability: Float[Tensor, " n"], threshold: float, least: int) -> Bool[Tensor, " n"]:
    """Mask of the labeled side: the samples with P(clean) above the threshold.

    Where no sample is above it, it is the `least` samples with the largest P(clean).
    """
    clean = clean_probability > threshold
    if not clean.any():
        clean[clean_probability.topk(min(least, len(clean))).indices] = True
    return clean


def two_sides(
    index: Int[Tensor, " n"], labeled: Bool[Tensor, " n"]
) -> tuple[Int[Tensor, " l"], Int[Tensor, " u"]]:
    """Positions of the labeled and of the unlabeled samples.

    A side with a single sample holds it twice, because batch norm in train mode needs at least two.
    """
    sides = index[labeled], index[~labeled]
    first, second = (side.repeat(2) if len(side) == 1 else side for side in sides)
    return first, second


def co_refine(
    given: Float[Tensor, "b c"],
    clean_probability: Float[Tensor, " b"],
    logits: Float[Tensor, "v b c"],
    temperature: float,
) -> Float[Tensor, "b c"]:
    """Targets of labeled images (DivideMix Eq. 3, 4).

    A target is w given + (1 - w) prediction, sharpened, where w is P(clean) and the prediction is averaged over the
    views.
    """
    return sharpen(mix_pair(given, average_probs(*logits), clean_probability), temperature)


def co_guess(logits: Float[Tensor, "v b c"], temperature: float) -> Float[Tensor, "b c"]:
    """Targets of unlabeled images: the prediction averaged over networks and views, sharpened."""
    return sharpen(average_probs(*logits), temperature)


@torch.no_grad()
def make_targets(
    learner: Network,
    peer: Network,
    images: Float[Tensor, "m ch h w"],
    given: Float[Tensor, "b c"],
    clean_probability: Float[Tensor, " b"],
    temperature: float,
) -> Float[Tensor, "m c"]:
    """The targets of all rows: co-guess for the unlabeled ones, co-refine for the labeled ones.

    The learner is in train mode, where its batch statistics depend on what it sees, so it gets one view at a time.
    The peer is in eval mode and gets both views at once.
    """
    labeled, unlabeled = images[: 2 * len(given)], images[2 * len(given) :]
    guessed = given[:0]
    if len(unlabeled):
        own = [learner(view) for view in unlabeled.chunk(2)]
        guessed = co_guess(torch.stack([*own, *peer(unlabeled).chunk(2)]), temperature)
    own = [learner(view) for view in labeled.chunk(2)]
    refined = co_refine(given, clean_probability, torch.stack(own), temperature)
    return torch.cat([refined, refined, guessed, guessed])


def mixmatch(
    images: Float[Tensor, "m ch h w"], targets: Float[Tensor, "m c"], alpha: float, rng: Generator
) -> tuple[Float[Tensor, "m ch h w"], Float[Tensor, "m c"]]:
    """Mix every row with a random row of either side, with one weight for all, which is at least a half for the own row."""
    weight = mixmatch_weight(draw_beta(alpha, (1,), rng))
    order = torch.randperm(len(images), generator=rng, device=rng.device)
    return mix_pair(images, images[order], weight), mix_pair(targets, targets[order], weight)


def mixmatch_loss(
    logits: Float[Tensor, "m c"],
    targets: Float[Tensor, "m c"],
    num_labeled: int,
    unlabeled_weight: float,
    prior_weight: float,
) -> Float[Tensor, ""]:
    """Cross-entropy of the first `num_labeled` rows, squared error of the other rows, and prior penalty of all rows.

    Each is a mean over its rows; without other rows the squared error is 0.
    """
    others = squared_error(logits[num_labeled:], targets[num_labeled:])
    labeled = soft_cross_entropy(logits[:num_labeled], targets[:num_labeled]).mean()
    unlabeled = others.sum() / max(len(others), 1)
    return labeled + unlabeled_weight * unlabeled + prior_weight * prior_penalty(logits)
