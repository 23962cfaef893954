"""Prototypes: a few feature vectors that stand for a class, and the similarity of samples to them.

Three ways to choose them from the features of one class, as Han et al., "Deep Self-Learning From Noisy Labels" (SMP),
ICCV 2019, compare in Table 4; each gives `number` rows, fewer of a class that has fewer samples:

  [1] densest_apart: the densest samples by cosine that no denser sample is close to (SMP 3.3)
  [2] density_peaks: the samples with the largest density times distance (Rodriguez and Laio, Science 2014)
  [3] kmeans_centers: the centers of k-means++ (Arthur and Vassilvitskii, SODA 2007)
"""

import torch
from jaxtyping import Float
from torch import Generator, Tensor
from torch.nn.functional import normalize

from noisyctl.seeds import draw_seed

PEAK_PERCENT = 2  # of all pairs are closer than the cutoff: "1 to 2%" in Rodriguez and Laio


def densest_apart(
    features: Float[Tensor, "m d"], number: int, *, percent: int, limit: float
) -> Float[Tensor, "p d"]:
    """The samples of largest density among those with closeness below `limit`; equals in the order given.

    Where fewer than `number` are below it, the densest of the others follow: else a tight class with few samples would be
    judged by its outliers, which are never close to a denser one.
    """
    similarity = cosine_similarity(features, features)
    similarity = (
        similarity + similarity.T
    ) / 2  # S_c is one of them: its mirror image must equal it to the bit
    dense = density(similarity, ranked(similarity, percent))
    order = dense.argsort(descending=True, stable=True)
    apart = closeness(similarity, dense)[order] < limit
    return features[torch.cat([order[apart], order[~apart]])[:number]]


def density_peaks(features: Float[Tensor, "m d"], number: int) -> Float[Tensor, "p d"]:
    """The samples with the largest product of density and Euclidean distance to the nearest denser sample.

    The density counts the samples closer than a cutoff. Of equally dense samples the earlier counts as denser; the densest
    gets its largest distance.
    """
    distances = torch.cdist(features, features, compute_mode="donot_use_mm_for_euclid_dist")
    pairs = distances[torch.ones_like(distances, dtype=torch.bool).triu(1)]
    cutoff = ranked(pairs, PEAK_PERCENT) if len(pairs) else distances[0, 0]
    dense = (distances < cutoff).sum(dim=1)
    order = dense.argsort(descending=True, stable=True)
    place = order.argsort()
    far = distances.masked_fill(place[None, :] >= place[:, None], torch.inf).amin(dim=1)
    far[order[0]] = distances[order[0]].max()
    return features[(dense * far).argsort(descending=True, stable=True)[:number]]


def kmeans_centers(features: Float[Tensor, "m d"], number: int, rng: Generator) -> Float[Tensor, "p d"]:
    """Euclidean k-means from one k-means++ start; fewer centers where there are fewer distinct samples."""
    from sklearn.cluster import KMeans

    distinct = len(features.unique(dim=0))
    kmeans = KMeans(min(number, distinct), n_init=1, random_state=draw_seed(rng))
    centers = kmeans.fit(features.double().cpu().numpy()).cluster_centers_
    return torch.as_tensor(centers, dtype=features.dtype, device=features.device)


def cosine_similarity(a: Float[Tensor, "n d"], b: Float[Tensor, "m d"]) -> Float[Tensor, "n m"]:
    """Cosine of every row of `a` with every row of `b` (SMP Eq. 5); 0 for a row of zeros."""
    return _product(normalize(a, dim=1), normalize(b, dim=1))


def ranked(values: Tensor, percent: int) -> Float[Tensor, ""]:
    """The element that `percent` of all elements come before in ascending order; never one between two (SMP's S_c)."""
    count = values.numel()
    return values.flatten().kthvalue(min(count * percent // 100 + 1, count)).values


def density(similarity: Float[Tensor, "m m"], threshold: Float[Tensor, ""]) -> Float[Tensor, " m"]:
    """Samples more similar than the threshold minus samples less similar, itself included (SMP Eq. 6)."""
    return (similarity - threshold).sign().sum(dim=1)


def closeness(similarity: Float[Tensor, "m m"], density: Float[Tensor, " m"]) -> Float[Tensor, " m"]:
    """Similarity to the most similar denser sample; the least similarity of all for the densest (SMP Eq. 7)."""
    denser = density[None, :] > density[:, None]
    nearest = similarity.masked_fill(~denser, -torch.inf).amax(dim=1)
    return torch.where(denser.any(dim=1), nearest, similarity.amin(dim=1))


def mean_direction(prototypes: Float[Tensor, "p d"]) -> Float[Tensor, " d"]:
    """The mean of the unit prototypes: its product with a unit vector is the mean of the cosines."""
    return normalize(prototypes, dim=1).mean(dim=0)


def class_similarity(
    features: Float[Tensor, "b d"], directions: Float[Tensor, "c d"]
) -> Float[Tensor, "b c"]:
    """Mean cosine with the prototypes of each class, given their `mean_direction` (SMP Eq. 8)."""
    return _product(normalize(features, dim=1), directions)


def _product(a: Float[Tensor, "n d"], b: Float[Tensor, "m d"]) -> Float[Tensor, "n m"]:
    """Rows with rows, at full precision though autocast is on: bfloat16 would tie what differs by less than 1%."""
    with torch.autocast(a.device.type, enabled=False):
        return a @ b.T
