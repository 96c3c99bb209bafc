"""Points in the plane whose coordinates were measured in sum, with noise: the line has all points of this sum.

Grey are exact samples of x given y, red those of two methods that only ask the denoiser. Moment matching goes to the
right places in the wrong shares; particles know the shares.
"""

import torch
from matplotlib.figure import Figure

import kakusan as kk
from kakusan.operators import function
from kakusan.posterior import MMPS, SMC, Exact, Gaussian, Measurement, Restoration, restore

Y, SIGMA, COUNT = 0.5, 0.2, 300
METHODS = {"MMPS: moment matching": MMPS(), "SMC: 16 particles": SMC(particles=16, steps=50)}


def prior() -> kk.oracles.MixtureOracle:
    """Five Gaussians of deviation 0.1 on a circle of radius 1."""
    angles = torch.arange(5) * 2 * torch.pi / 5
    means = torch.stack([angles.cos(), angles.sin()], 1).view(5, 2, 1)
    return kk.oracles.MixtureOracle(kk.Cosine(), torch.ones(5), means, torch.full((5,), 0.01))


def draw() -> Figure:
    oracle, request = prior(), Restoration(count=COUNT, micro_batch=20_000)
    total = function(lambda x: x.sum(1, keepdim=True), linear=True)
    measurement = Measurement(total, torch.tensor([[[Y]]]), Gaussian(SIGMA), shape=oracle.shape)
    truth = restore(oracle, measurement, Exact(), request)[0].flatten(1)

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    before, *others = figure.subplots(1, 1 + len(METHODS))
    before.scatter(*oracle.sample(COUNT).flatten(1).T, s=3, color="tab:blue")
    before.set_title("before: the data")
    for axes, (name, method) in zip(others, METHODS.items(), strict=True):
        axes.scatter(*truth.T, s=3, color="0.75")
        axes.scatter(*restore(oracle, measurement, method, request)[0].flatten(1).T, s=3, color="tab:red")
        axes.set_title(name)
    for axes in (before, *others):
        axes.axline((0, Y), slope=-1, color="0.4", linewidth=0.8)
        axes.set(xticks=[], yticks=[], aspect="equal", xlim=(-1.5, 1.5), ylim=(-1.5, 1.5))
    return figure
