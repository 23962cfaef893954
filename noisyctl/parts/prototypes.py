"""Prototypes: a few feature vectors that stand for a class, and the similarity of samples to them.

Han et al., "Deep Self-Learning From Noisy Labels" (SMP), ICCV 2019, compare three ways to choose them from the features
of one class (Table 4). Each gives `number` prototypes, or fewer if the class has fewer samples:

  [1] densest_apart: the densest samples, by the cosine, to which no denser sample is close (SMP 3.3)
  [2] density_peaks: the samples with the largest product of density and distance (Rodriguez and Laio, Science 2014)
  [3] kmeans_centers: the centers of k-means++ (Arthur and Vassilvitskii, SODA 2007)
"""

import torch
from jaxtyping import Float
from torch import Generator, Tensor
from torch.nn.functional import normalize

from noisyctl.seeds import draw_seed

PEAK_PERCENT = 2  # percentage of pairs that are closer than the cutoff; "1 to 2%" in Rodriguez and Laio


def densest_apart(
    features: Float[Tensor, "m d"], number: int, *, percent: int, limit: float
) -> Float[Tensor, "p d"]:
    """The samples of largest density among those with a closeness below `limit`; equals in the order given.

    Where fewer than `number` samples are below it, the densest of the others follow. Otherwise a compact class with
    few samples would be represented by its outliers, which are never close to a denser sample.
    """
    similarity = cosine_similarity(features, features)
    similarity = (
        similarity + similarity.T
    ) / 2  # S_c is an entry of this matrix, and must equal its mirror image exactly
    dense = density(similarity, ranked(similarity, percent))
    order = dense.argsort(descending=True, stable=True)
    apart = closeness(similarity, dense)[order] < limit
    return features[torch.cat([order[apart], order[~apart]])[:number]]


def density_peaks(features: Float[Tensor, "m d"], number: int) -> Float[Tensor, "p d"]:
    """The samples with the largest product of density and Euclidean distance to the nearest denser sample.

    The density of a sample counts the samples that are closer to it than a cutoff. Of equally dense samples the
    earlier one counts as denser. The densest sample has no denser one; its distance is the one to the farthest
    sample.
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
    """The centers of Euclidean k-means from one k-means++ start; fewer if there are fewer distinct samples."""
    from sklearn.cluster import KMeans

    distinct = len(features.unique(dim=0))
    kmeans = KMeans(min(number, distinct), n_init=1, random_state=draw_seed(rng))
    centers = kmeans.fit(features.double().cpu().numpy()).cluster_centers_
    return torch.as_tensor(centers, dtype=features.dtype, device=features.device)


def cosine_similarity(a: Float[Tensor, "n d"], b: Float[Tensor, "m d"]) -> Float[Tensor, "n m"]:
    """The cosine of every row of `a` with every row of `b` (SMP Eq. 5); 0 for a row of zeros."""
    return _product(normalize(a, dim=1), normalize(b, dim=1))


def ranked(values: Tensor, percent: int) -> Float[Tensor, ""]:
    """The element at the percentile `percent` of all elements in ascending order (SMP's S_c).

    It is always one of the elements, never a value between two of them.
    """
    count = values.numel()
    return values.flatten().kthvalue(min(count * percent // 100 + 1, count)).values


def density(similarity: Float[Tensor, "m m"], threshold: Float[Tensor, ""]) -> Float[Tensor, " m"]:
    """For each sample: how many are more similar than the threshold minus how many are less similar (SMP Eq. 6)."""
    return (similarity - threshold).sign().sum(dim=1)


def closeness(similarity: Float[Tensor, "m m"], density: Float[Tensor, " m"]) -> Float[Tensor, " m"]:
    """The similarity of each sample to the most similar denser one (SMP Eq. 7).

    For the densest samples it is their least similarity to any sample.
    """
    denser = density[None, :] > density[:, None]
    nearest = similarity.masked_fill(~denser, -torch.inf).amax(dim=1)
    return torch.where(denser.any(dim=1), nearest, similarity.amin(dim=1))


def mean_direction(prototypes: Float[Tensor, "p d"]) -> Float[Tensor, " d"]:
    """(1 / p) sum_l x_l / |x_l| over the p prototypes x_l of a class.

    The product of this vector with a unit vector is the mean of the p cosines (SMP Eq. 8).
    """
    unit = normalize(prototypes, dim=1)
    return unit.sum(dim=0) / len(unit)


def class_similarity(
    features: Float[Tensor, "b d"], directions: Float[Tensor, "c d"]
) -> Float[Tensor, "b c"]:
    """Mean cosine of each row with the prototypes of each class (SMP Eq. 8), given their `mean_direction`s."""
    return _product(normalize(features, dim=1), directions)


def _product(a: Float[Tensor, "n d"], b: Float[Tensor, "m d"]) -> Float[Tensor, "n m"]:
    """Products of the rows of `a` with those of `b`, in full precision even under autocast.

    In bfloat16, similarities that differ by less than 1% would be equal.
    """
    with torch.autocast(a.device.type, enabled=False):
        return a @ b.T
