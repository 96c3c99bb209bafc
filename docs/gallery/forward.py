"""A digit on its way to noise, in single jumps by Eq. (3): the same noise under two schedules."""

import torch
from matplotlib.figure import Figure

import kakusan as kk

TIMES = (0, 50, 100, 200, 300, 400, 500, 700, 1000)
SCHEDULES = {"linear": kk.Linear(), "cosine": kk.Cosine()}


def draw() -> Figure:
    x_0 = kk.open_data("digits").x_0(range(1)).expand(len(TIMES), -1, -1, -1)
    noise = kk.SeededNoise(seed=0, indices=torch.zeros(len(TIMES), dtype=torch.long), shape=(1, 8, 8)).start()
    t = torch.tensor(TIMES, dtype=torch.float64)

    figure = Figure(figsize=(9, 2.4), layout="constrained")
    rows = figure.subplots(2, len(TIMES))
    for axes, (name, schedule) in zip(rows, SCHEDULES.items(), strict=True):
        x_t = kk.q_marginal(schedule, x_0, t).reparametrize(noise)
        for place, image, time in zip(axes, x_t, TIMES, strict=True):
            place.imshow(image[0], cmap="gray", vmin=-2, vmax=2)
            place.set(xticks=[], yticks=[], xlabel=f"t = {time}" if name == "cosine" else "")
        axes[0].set_ylabel(name)
    return figure
