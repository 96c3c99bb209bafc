"""At which noise levels the bits are spent: the terms of the bound, Eq. (11), of values of mean 0.3 and deviation 0.5.

The denoiser is exact and the variance the best one, so the sum is the entropy of the data but for what is left of them
at T.
"""

import math

from matplotlib.figure import Figure

import kakusan as kk
from kakusan.diffusion.variances import Analytic

COUNT = 400
SCHEDULES = {"linear": kk.Linear(T=100), "cosine": kk.Cosine(T=100)}


def draw() -> Figure:
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    axes = figure.subplots()
    for name, schedule in SCHEDULES.items():
        data = kk.oracles.GaussianOracle(schedule, mean=0.3, covariance=0.25)
        best = kk.Model(data, Analytic(data.errors()))
        bound = kk.variational_bound(best, data.sample(COUNT))
        in_all = f"{name}: {bound.mean:.2f} ± {bound.mean_standard_error:.2f} bits in all"
        axes.plot(range(2, schedule.T + 1), bound.bits.mean(0)[1:], label=in_all)
    axes.set(
        xlabel="t", ylabel=r"$L_{t-1}$, bits", yscale="log", title=f"the entropy is {entropy():.2f} bits"
    )
    axes.legend()
    return figure


def entropy() -> float:
    """Of N(0.3, 0.25), in bits."""
    return kk.oracles.GaussianOracle(kk.Linear(), 0.3, 0.25).entropy / math.log(2)
