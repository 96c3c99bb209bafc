"""Figures about sets of images: nearest neighbours, the copy rate, the Fréchet distance."""

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kakusan.errors import DataError, NumbersError, SettingsError

COPY_RATIO = 1 / 3
"""A sample less than a third as far from its nearest training image as from the second nearest is a copy."""

_NUMBERS_AT_A_TIME = 1 << 24  # what one block may hold: 128 MiB of float64, whatever the size of an image
_SPARE = 4  # candidates kept beyond k, since rounding may swap near-equals before they are measured again


class Neighbours(NamedTuple):
    """For each query its k nearest references, the nearest first; ties in any order."""

    distances: Tensor
    """Euclidean, float64, (queries, k)."""
    indices: Tensor
    """Places in the references, (queries, k)."""


@dataclass(frozen=True)
class CopyRate:
    """The share of some images that are copies of training images, and which these are."""

    rate: float
    """Share of the images whose ratio is below `COPY_RATIO`."""
    nearest: Tensor
    """For each image the place of the nearest training image."""
    ratios: Tensor
    """For each image the distance to its nearest training image over that to its second nearest."""
    distances: Tensor
    """For each image the distance to its nearest training image, in the units given."""


def nearest(queries: Tensor, references: Tensor, k: int = 2) -> Neighbours:
    """The k references nearest to each query, exactly, by Euclidean distance over all values.

    Candidates come from |q - r|^2 = |q|^2 - 2 qr + |r|^2, blocks of matrix products in float64, all values counted
    from the first reference, so that a common offset costs no digits; since those differences lose digits where q and
    r nearly agree, the few best are measured again, value by value.
    Memory is a fixed number of blocks, whatever the counts. Values that are not finite raise `NumbersError`.
    """
    q, r = _flat(queries, "queries"), _flat(references, "references")
    if q.shape[1] != r.shape[1]:
        raise DataError(f"queries of {q.shape[1]} values cannot be compared with references of {r.shape[1]}")
    if not 1 <= k <= len(r):
        raise SettingsError(f"there are {len(r)} references: their {k} nearest cannot be found")
    found = [_nearest_of_block(block, r, k) for block in torch.split(q, _rows(q, k + _SPARE))]
    return Neighbours(
        torch.cat([block.distances for block in found]), torch.cat([block.indices for block in found])
    )


def copy_rate(samples: Tensor, training: Tensor) -> CopyRate:
    """The share of samples that sit on one training image rather than among several.

    A sample is a copy if its nearest training image is less than a third as far as the second nearest (the
    criterion of Yoon et al. 2023, "Diffusion probabilistic models generalize when they fail to memorize").
    Training images that are equal count as one, so that a copy of an image held twice is still a copy; a
    sample that equals a training image has ratio 0. Compare it with the same figure of held-out images.

    The rate does not see copies of an image that nearly equals another training image (a second scan, the next frame
    of a film): both are then about as near. There `distances` are the witness: those of samples to their nearest
    training image, beside those of held-out images.
    """
    kept = _first_of_equals(training)
    if len(kept) < 2:
        raise DataError("a copy rate needs at least two different training images")
    distances, indices = nearest(samples, training[kept.to(training.device)], k=2)
    ratios = torch.where(distances[:, 0] == 0, 0.0, distances[:, 0] / distances[:, 1])
    rate = float((ratios < COPY_RATIO).double().mean())
    return CopyRate(rate, kept[indices[:, 0].cpu()], ratios.cpu(), distances[:, 0].cpu())


def frechet(features_a: NDArray[Any], features_b: NDArray[Any]) -> float:
    """The Fréchet distance between two sets of features, (n, d) and (m, d), each taken as a Gaussian.

    With the features of an Inception network this is the FID (Heusel et al. 2017, "GANs trained by a two
    time-scale update rule converge to a local Nash equilibrium", eq. 6). Biased upwards by few images:
    compare only figures of equal counts. Values that are not finite raise `NumbersError`.
    """
    return frechet_distance(*feature_moments(features_a), *feature_moments(features_b))


def frechet_distance(
    mean_1: NDArray[Any], cov_1: NDArray[Any], mean_2: NDArray[Any], cov_2: NDArray[Any]
) -> float:
    """|m_1 - m_2|^2 + tr(C_1 + C_2 - 2 (C_1 C_2)^(1/2)): the squared 2-Wasserstein distance of two Gaussians.

    The trace of the root is tr (C_1^(1/2) C_2 C_1^(1/2))^(1/2), which is the sum of the singular values of
    C_1^(1/2) C_2^(1/2): no root is taken of a rounding error, so covariances of low rank (fewer images than
    features) cost no digits. Dowson & Landau 1982; as a measure of images: Heusel et al. 2017. Float64.
    """
    if not all(np.isfinite(moment).all() for moment in (mean_1, cov_1, mean_2, cov_2)):
        raise NumbersError("features with values that are not finite have no Fréchet distance")
    shift = np.asarray(mean_1, dtype=np.float64) - np.asarray(mean_2, dtype=np.float64)
    root_1, root_2 = _symmetric_root(cov_1), _symmetric_root(cov_2)
    overlap = np.linalg.svd(root_1 @ root_2, compute_uv=False).sum()
    distance = shift @ shift + np.trace(np.asarray(cov_1)) + np.trace(np.asarray(cov_2)) - 2 * overlap
    return max(float(distance), 0.0)  # a distance; below 0 is rounding only


def feature_moments(features: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean (d,) and covariance (d, d), with n - 1 below the line, of features (n, d). Raises DataError for n < 2."""
    values = np.asarray(features, dtype=np.float64)
    if values.ndim != 2 or len(values) < 2:
        raise DataError(f"a Fréchet distance needs (n, d) features with n >= 2, not shape {values.shape}")
    with np.errstate(invalid="ignore", over="ignore"):  # what is not finite is refused with the moments
        mean = values.mean(0)
        deviations = values - mean
        return mean, deviations.T @ deviations / (len(values) - 1)


def _nearest_of_block(queries: Tensor, references: Tensor, k: int) -> Neighbours:
    origin = references[0].double()
    q = queries.double() - origin
    candidates = min(k + _SPARE, len(references))
    best, places = q.new_empty(len(q), 0), torch.empty(len(q), 0, dtype=torch.int64, device=q.device)
    for start, r in _blocks(references):
        r = r - origin
        squares = q.square().sum(1, keepdim=True) - 2 * q @ r.T + r.square().sum(1)
        here = torch.arange(start, start + len(r), device=q.device).expand(len(q), -1)
        best, places = torch.cat([best, squares], 1), torch.cat([places, here], 1)
        best, order = best.topk(min(candidates, best.shape[1]), largest=False)
        places = places.gather(1, order)
    exact = torch.linalg.vector_norm(references[places].double() - queries.double()[:, None], dim=2)
    exact, order = exact.sort(dim=1, stable=True)
    return Neighbours(exact[:, :k], places.gather(1, order)[:, :k])


def _blocks(references: Tensor) -> Iterator[tuple[int, Tensor]]:
    rows = _rows(references)
    for start in range(0, len(references), rows):
        yield start, references[start : start + rows].double()


def _rows(x: Tensor, copies: int = 1) -> int:
    """The number of rows of x in a block; at most 2048, so that the products of two blocks stay small."""
    return max(1, min(2048, _NUMBERS_AT_A_TIME // (copies * x.shape[1])))


def _flat(images: Tensor, what: str) -> Tensor:
    if not len(images):
        raise DataError(f"there are no {what} to compare")
    flat = images.detach().flatten(1)
    flat = flat.cpu() if flat.device.type == "mps" else flat  # MPS has no float64
    if not flat.isfinite().all():
        raise NumbersError(f"the {what} hold values that are not finite: they have no distances")
    return flat


def _first_of_equals(images: Tensor) -> Tensor:
    """Places of the images that differ from all before them. By value: -0.0 is 0.0."""
    first: dict[bytes, int] = {}
    for place, row in enumerate(np.ascontiguousarray((images.detach().cpu().flatten(1) + 0.0).numpy())):
        first.setdefault(blake2b(row.tobytes(), digest_size=16).digest(), place)
    return torch.tensor(list(first.values()))


def _symmetric_root(covariance: NDArray[Any]) -> NDArray[np.float64]:
    """The positive root; eigenvalues that are only rounding, below d eps of the largest, count as 0."""
    values, vectors = np.linalg.eigh(np.asarray(covariance, dtype=np.float64))
    floor = len(values) * np.finfo(np.float64).eps * max(values[-1], 0)
    roots = np.sqrt(np.where(values > floor, values, 0))
    return np.asarray((vectors * roots) @ vectors.T)
