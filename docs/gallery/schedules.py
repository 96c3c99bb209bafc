"""Four schedules: the share of the variance that is still data, alpha_bar_t of Eq. (3), and the log of SNR(t)."""

from matplotlib.figure import Figure

import kakusan as kk

SCHEDULES = {
    "linear": kk.Linear(),
    "scaled linear": kk.ScaledLinear(),
    "cosine": kk.Cosine(),
    "sigmoid": kk.Sigmoid(),
}


def draw() -> Figure:
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    share, ratio = figure.subplots(1, 2)
    for name, schedule in SCHEDULES.items():
        share.plot(schedule.alpha_bar, label=name)
        ratio.plot(schedule.log_snr[1:], label=name)
    share.set(xlabel="t", ylabel=r"$\bar\alpha_t$")
    ratio.set(xlabel="t", ylabel="log SNR(t)", ylim=(-20, 12))
    share.legend()
    return figure
