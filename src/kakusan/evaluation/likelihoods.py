"""Figures beside the bound of a run: the importance-weighted bound, and the exact likelihood of its probability flow.

The flow is another model than the chain, of the same network: it is what walks without noise sample from (DDIM with
eta = 0, in many steps), and its likelihood is no limit of the chain's bound but where the denoiser is exact.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from kakusan.data import Dataset
from kakusan.diffusion.flow import (
    TOLERANCE,
    ExactLikelihood,
    FlowOptions,
    exact_likelihood,
    joined_likelihoods,
)
from kakusan.diffusion.weighted import WeightedBound, joined_weights, weighted_bound
from kakusan.errors import SettingsError
from kakusan.evaluation.options import BoundOptions
from kakusan.run import Loaded
from kakusan.shapes import Condition, Samples
from kakusan.training.validation import condition_of

SIZE = 32
"""Images at a time."""

Says = Callable[[float, str], None]
Batch = tuple[Samples, list[int], Condition | None]


def flow_options(options: BoundOptions) -> FlowOptions:
    """Those of the flow, as an evaluation has them."""
    tolerance = TOLERANCE if options.tolerance is None else options.tolerance
    return FlowOptions(last_step=options.last_step or "decoder", probes=options.probes, tolerance=tolerance)


def require_flow(loaded: Loaded, dataset: Dataset) -> None:
    """Raises SettingsError where there is no flow: of missing values, and where T is 1."""
    if dataset.masked:
        raise SettingsError(
            "samples with missing values have no exact likelihood: a flow has the density of whole ones",
            "leave out --exact; --samples is over the values that are there",
        )
    if loaded.model.path.T < 2:
        raise SettingsError("the flow goes from t = 1 to T, and T is 1", "leave out --exact")


def exact_of(
    loaded: Loaded, dataset: Dataset, numbers: NDArray[np.int64], options: BoundOptions, says: Says
) -> ExactLikelihood:
    """The likelihood of these images; their noise is that of the bound's L_0."""
    parts = []
    for done, (x_0, known, condition) in _batches(loaded, dataset, numbers):
        parts.append(
            exact_likelihood(
                loaded.model,
                x_0,
                flow_options(options),
                seed=options.seed,
                numbers=known,
                condition=condition,
            )
        )
        says(done, "the exact likelihood")
    return joined_likelihoods(parts)


def weighted_of(
    loaded: Loaded, dataset: Dataset, numbers: NDArray[np.int64], options: BoundOptions, says: Says
) -> WeightedBound:
    """The importance-weighted bound of these images."""
    assert options.samples is not None
    parts = []
    for done, (x_0, known, condition) in _batches(loaded, dataset, numbers):
        parts.append(
            weighted_bound(
                loaded.model, x_0, options.samples, seed=options.seed, numbers=known, condition=condition
            )
        )
        says(done, "the importance-weighted bound")
    return joined_weights(parts)


def _batches(loaded: Loaded, dataset: Dataset, numbers: NDArray[np.int64]) -> Iterator[tuple[float, Batch]]:
    """The images in batches, with the share that is done after each."""
    device = torch.device(loaded.device)
    for start in range(0, len(numbers), SIZE):
        part = numbers[start : start + SIZE]
        batch = dataset.x_0(part).to(device), part.tolist(), condition_of(dataset, part, device)
        yield min((start + SIZE) / len(numbers), 1.0), batch


def about_likelihoods(loaded: Loaded, options: BoundOptions, values: int) -> dict[str, Any]:
    """All else that the figures depend on; nothing where none was asked for."""
    about: dict[str, Any] = {}
    if options.samples is not None:
        about["samples"] = options.samples
    if options.exact:
        flow = flow_options(options)
        about["exact"] = {
            "last_step": flow.last_step,
            "trace": flow.directions(values) or "exact",
            "tolerance": flow.tolerance,
            "t_min": flow.t_min,
            "solver": "Dormand-Prince 5(4)",
            "log_snr": "interpolated between whole times"
            if loaded.model.path.preserves_variance
            else "of the path",
        }
    return about


def figures_of(weighted: WeightedBound | None, exact: ExactLikelihood | None) -> dict[str, Any]:
    """The figures of a part of the data, of what was measured."""
    figures: dict[str, Any] = {}
    if weighted is not None:
        figures["importance_weighted"] = {
            "bits_per_dim": weighted.mean,
            "standard_error": weighted.mean_standard_error,
            "single_walk": float(weighted.single.mean()),
            "effective_walks": float(weighted.effective.mean()),
        }
    if exact is not None:
        of_probes = float(exact.probes_error.square().sum().sqrt()) / len(exact.total)
        figures["exact"] = {
            "bits_per_dim": exact.mean,
            "standard_error": exact.mean_standard_error,
            "probes_standard_error": of_probes,
            "network_calls": float(exact.calls.double().mean()),
        }
    return figures
