"""The content of a report: plain numbers, strings and PNG bytes, put together by `gather`.

Every part but the title may be missing; the page then leaves its section out. Strings may come from anywhere
(file names, settings): the page escapes them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kakusan.data.space import IMAGES, Noun
from kakusan.evaluation.diagnosis.finding import Finding
from kakusan.training.verdicts import Copies, LossGap


@dataclass(frozen=True, kw_only=True)
class SampleGrid:
    """The grid of new samples that opens the page."""

    png: bytes
    caption: str
    """Number, sampler, steps and seed: "64 samples, sa-solver, 10 steps, seed 0"."""


@dataclass(frozen=True, kw_only=True)
class FilmStrip:
    """One walk from noise to image: x_t in the upper row, the guess of x_0 in the lower."""

    png: bytes
    """As `rendering.walk_strip` makes it: no outer margin, one column for each of `times`."""
    times: Sequence[int]
    """The t of each column, T first."""
    caption: str = ""


@dataclass(frozen=True, kw_only=True)
class Forward:
    """A training sample on its way to noise, drawn by Eq. (3) at a few t."""

    png: bytes
    """One row, as `rendering.walk_strip` makes it."""
    times: Sequence[int]
    """The t of each column; 0 is the image itself."""
    alpha_bar: Sequence[float]
    """The alpha_bar_t of each column."""
    table: Sequence[float] = ()
    """The whole schedule, alpha_bar_0 = 1 to alpha_bar_T, for the curves of signal and noise."""
    caption: str = ""
    """The name of the image: a character, a file name."""
    beside: Mapping[str, Sequence[float]] = field(default_factory=dict)
    """The log-SNR at t = 1..T of a schedule that was learned, and of others to compare it with, by their names, it
    first; empty where nothing was learned."""


@dataclass(frozen=True, kw_only=True)
class Channel:
    """One channel of some samples of real data, with what is seen of it. All numbers are in the data's units."""

    name: str
    png: bytes
    low: str
    """The value that is black, and all below; of signals that of the lower edge."""
    high: str
    """The value that is white, or that of the upper edge."""
    lowest: str
    """The lowest value of the samples."""
    highest: str
    is_shaded: bool = True
    """Whether values are shades from black to white, rather than heights."""
    histogram: "Histogram | None" = None


@dataclass(frozen=True, kw_only=True)
class Histogram:
    """A histogram of the values of a channel."""

    edges: Sequence[float]
    """The edges of the bins; what lies beyond the ends counts with the first and the last."""
    samples: Sequence[float]
    """The share of the values in each bin."""
    training: Sequence[float] = ()
    """The same of as many training samples; empty where the data are gone."""


@dataclass(frozen=True, kw_only=True)
class Neighbour:
    """One sample, or held-out image, and the training image nearest to it."""

    png: bytes
    nearest_png: bytes
    ratio: float
    """Its distance to the nearest training image over that to the second nearest."""
    caption: str = ""
    """The name of the image, where it has one: a character, a file name."""
    nearest_caption: str = ""


@dataclass(frozen=True, kw_only=True)
class Copying:
    """Does the model make or repeat? Samples beside as many held-out images, which it never saw."""

    samples: Sequence[Neighbour] = ()
    """About twelve, to look at."""
    held_out: Sequence[Neighbour] = ()
    sample_rate: float | None = None
    """The copy rate of all samples compared, `metrics.copy_rate(...).rate`."""
    held_out_rate: float | None = None
    sample_ratios: Sequence[float] = ()
    """The ratio of every sample compared, for the histogram and the count."""
    held_out_ratios: Sequence[float] = ()
    doubt: str = ""
    """The reason to doubt that the held-out images are new to the weights; empty where there is none."""

    @property
    def copies(self) -> Copies | None:
        """The two rates, to be judged; None where there are none."""
        if self.sample_rate is None:
            return None
        counts = len(self.sample_ratios), len(self.held_out_ratios)
        return Copies(self.sample_rate, self.held_out_rate, *counts, self.doubt)


@dataclass(frozen=True, kw_only=True)
class Power:
    """The power of one channel by frequency."""

    name: str
    samples: Sequence[float]
    samples_error: Sequence[float]
    """Standard errors."""
    real: Sequence[float] = ()
    """Of as many real samples; empty where there are none."""
    reference: Sequence[float] = ()


@dataclass(frozen=True, kw_only=True)
class Distances:
    """Distances of samples from real ones, as `kakusan evaluate --distance` wrote them, in words."""

    rows: Sequence[tuple[str, str, str]]
    """Name of the figure; of the samples; of as many real samples, empty where there are none."""
    moments: Sequence[tuple[str, Sequence[str]]] = ()
    """Name of the moment; the values of `columns`."""
    columns: Sequence[str] = ()
    real: str = ""
    """The name of the other real samples: "held-out"; empty where there are none."""
    reference: str = ""
    count: int = 0
    """Samples of each seed, and other real samples."""
    words: str = ""
    """The conditions of the figures, in sentences."""
    frequency: Sequence[float] = ()
    powers: Sequence[Power] = ()


@dataclass(frozen=True, kw_only=True)
class Story:
    """Everything the page shows, in the page's order."""

    title: str
    noun: Noun = IMAGES
    """The noun for the samples."""
    subtitle: str = ""
    """One sentence: what was trained on what."""
    facts: Mapping[str, str] = field(default_factory=dict)
    """Data, counts, parameters, steps, device, time: label to value, ready to read, in this order."""
    shortfall: str = ""
    """That the network has hardly learned yet, with the evidence; the page opens with it. Empty where it has. The
    diagnosis says so, too."""
    diagnosis: Sequence[Finding] = ()
    """The four questions of `kakusan diagnose`, answered: the page opens with them, and says nothing of it twice."""
    warnings: Sequence[str] = ()
    samples: SampleGrid | None = None
    forward: Forward | None = None
    film: FilmStrip | None = None
    channels: Sequence[Channel] = ()
    """Of real data, each by itself."""
    channels_left: int = 0
    """The number of channels that are not shown."""
    metrics: Sequence[Mapping[str, Any]] = ()
    """The lines of metrics.jsonl, in order. Read here: step; loss, loss_smooth; loss_by_t, a list of equal parts
    of 1..T; training_loss, held_out_loss; gradient_norm, learning_rate, images_per_second."""
    gap: LossGap | None = None
    """The last losses on training and on held-out images, and what their difference says."""
    T: int | None = None
    """The number of noise levels, for the axis of the loss by t."""
    predicts: str = "eps"
    loss: str = "simple"
    """Prediction target, "eps", "x_0" or "v", and loss of the network: the words about the loss depend on them."""
    copying: Copying | None = None
    distances: Distances | None = None
    next_words: str = "The run goes on exactly where it stopped, and gives the same images for the same seed."
    detail_words: str = "All that is needed to make this run again."
    commands: Sequence[tuple[str, str]] = ()
    """(purpose, line to type): ("Go on training", "kakusan resume runs/demo --steps 4000")."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """The resolved settings, nested as in config.toml."""
    environment: Mapping[str, Any] = field(default_factory=dict)
    """Versions and machine: name to value."""
    footer: str = ""
    """The date and the version that this page was written by."""
