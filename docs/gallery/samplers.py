"""Samplers in ten calls on a mixture of five Gaussians in the plane, whose denoiser is exact: grey are true samples."""

import torch
from matplotlib.figure import Figure

import kakusan as kk
from kakusan import samplers

CALLS, COUNT = 10, 1000
WAYS = {
    "Ancestral": kk.Ancestral(steps=CALLS),
    "DDIM": kk.DDIM(steps=CALLS),
    "DPM-Solver++(2M)": samplers.DPMpp2M(steps=CALLS),
    "UniPC": samplers.UniPC(steps=CALLS),
}


def mixture() -> kk.oracles.MixtureOracle:
    """Five Gaussians of deviation 0.1 on a circle of radius 1."""
    angles = torch.arange(5) * 2 * torch.pi / 5
    means = torch.stack([angles.cos(), angles.sin()], 1).view(5, 2, 1, 1)
    return kk.oracles.MixtureOracle(kk.Cosine(), torch.ones(5), means, torch.full((5,), 0.01))


def draw() -> Figure:
    oracle = mixture()
    truth = oracle.sample(COUNT, seed=1).flatten(1)
    figure = Figure(figsize=(9, 2.7), layout="constrained")
    for axes, (name, sampler) in zip(figure.subplots(1, len(WAYS)), WAYS.items(), strict=True):
        found = kk.sample(oracle, sampler, count=COUNT, shape=oracle.shape, progress=False).flatten(1)
        axes.scatter(*truth.T, s=2, color="0.8")
        axes.scatter(*found.T, s=2, color="tab:red")
        axes.set(title=name, xticks=[], yticks=[], aspect="equal", xlim=(-1.5, 1.5), ylim=(-1.5, 1.5))
    return figure
