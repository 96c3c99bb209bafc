"""Options of `kakusan evaluate`, `kakusan diagnose` and their twins in Python, without torch: --help is quick."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from kakusan.config.facts import SpacingName
from kakusan.config.section import AUTO
from kakusan.errors import SettingsError

FEWEST_SAMPLES = 32
"""Of a diagnosis."""


@dataclass(frozen=True, kw_only=True)
class BoundOptions:
    """Options of a bound: the images, the model, and the method. Raises SettingsError for fewer than 1 image."""

    images: int = 180
    """Images of each split, evenly spread over it."""
    terms: int | None = None
    """Measure so many of the T terms of each image, a stratified draw (unbiased); default: all."""
    split: Literal["both", "held-out", "training"] = "both"
    """Images of the run: a split, or both."""
    data: Path | None = None
    """Other images: a folder or a file like those that `train` takes."""
    variance: Literal["fixed-large", "fixed-small", "learned", "analytic"] | None = None
    """sigma^2 of the reverse steps; default: as the run says. analytic is estimated from training images and stored."""
    sigma_1: Literal["beta~_2", "beta_1"] | None = None
    """sigma^2 of the step that ends at the data; default: as the run says."""
    clip: Literal["yes", "no"] | None = None
    """Hold guesses of x_0 to [-1, 1]; default: as the run says."""
    weights: Literal["ema", "model"] = "ema"
    """Averaged weights, or those of the last step."""
    seed: int = 0
    """Seed of the noise, and of the draw of terms."""
    device: str = "auto"
    """cpu, cuda or mps; default: as trained, where that is here."""
    precision: Literal["auto", "fp32", "bf16"] = "fp32"
    """Type of convolutions and products; auto: as trained. Half precision costs bits."""
    memorizer: bool = True
    """Compare the guesses with those of the optimal denoiser of the training images, which memorizes them."""
    samples: int | None = None
    """Also the importance-weighted bound, from so many walks an image of T network calls each: the tighter the more."""
    exact: bool = False
    """Also the likelihood by the probability flow from t = 1 to T, an ODE: exact but for the last step to the data."""
    last_step: Literal["decoder", "uniform", "truncated"] | None = None
    """Of --exact, from t = 1 to the data: the decoder of the bound (default), or for levels the density there over
    each bin, at a uniform place or with the noise of t = 1 cut off at its edges."""
    probes: int | None = None
    """Of --exact: random directions that estimate the trace; 0: the exact one; default: exact up to 16 values, else
    2."""
    tolerance: float | None = None
    """Of --exact: local error of a solver's step, in the network's units and in nats/dim; default: 1e-4."""

    def __post_init__(self) -> None:
        if self.images < 1:
            raise SettingsError(f"an evaluation needs at least 1 image, not {self.images}")
        if self.samples is not None and self.samples < 1:
            raise SettingsError(f"an importance-weighted bound has 1 sample or more, not {self.samples}")
        of_exact = ("last_step", "probes", "tolerance")
        if not self.exact and (given := [name for name in of_exact if getattr(self, name) is not None]):
            raise SettingsError(f"{given[0]} belongs to the exact likelihood", "ask for it: --exact")


@dataclass(frozen=True, kw_only=True)
class DistanceOptions:
    """Options of distances: the samples, the reference, and the features. Raises SettingsError for fewer than 32
    samples, and for no seed."""

    count: int = 1000
    """Samples of each seed; as many as there are real images to set beside them, at the most."""
    seeds: int = 3
    """Seeds: what stands behind ± is half of the 95 % interval of the mean over them."""
    seed: int = 0
    """The first of them."""
    reference: str = "training"
    """Images that samples are compared with: training or held-out, a folder or an array file, read as the run's data
    are, or statistics of pytorch-fid (.npz with mu and sigma: the Fréchet distance alone). Other real images of the
    run, as many as there are samples, are compared with them too."""
    reference_count: int = 10_000
    """Images of the reference, evenly spread, at the most."""
    features: Path | None = None
    """A network that makes features: an ONNX file, or the weights of pytorch-fid's InceptionV3 (.pth, .safetensors);
    default: of the bundled digits a classifier that ships, else one that learns the training images in a minute, a
    classifier where they have classes, else an autoencoder."""
    sampler: str = AUTO
    """Sampler by name, as of `kakusan sample`; auto: the one that it takes. --sampler NAME --help shows the options of
    this one."""
    steps: int | str | None = None
    """Its steps, or tuned:N or best:N for the times that `kakusan tune` has found for N; default: as usual."""
    spacing: SpacingName | None = None
    """Times that fewer steps visit, as of `kakusan sample`."""
    times: tuple[float, ...] | None = None
    """These times one by one, in place of steps and spacing."""
    label: str | None = None
    """A class, of which then the real images of the run are, too; "each" in turn; or several at once: 3:1+7:0.5.
    Default: none; with guidance, and of imported runs, each class as often as it is in the reference."""
    vector: str | None = None
    """Numbers that describe the samples, as of `kakusan sample`; default: those of held-out samples."""
    condition: str | None = None
    """An image that belongs to the samples, or several, as of `kakusan sample`; default: those of held-out samples."""
    mask: str | None = None
    """Masks of the samples, as of `kakusan sample`; default: those of held-out samples."""
    guidance: float | None = None
    """Weight of guidance: 1 none, more for samples that are more like their class."""
    guidance_interval: tuple[float, float] | None = None
    """Lowest and highest t at which to guide; default: all."""
    guidance_rescale: float | None = None
    """Share, 0 to 1, to which guided contrast is brought back to that of the model."""
    guide: str | None = None
    """Model to be guided away from, as of `kakusan sample`."""
    device: str = "auto"
    """cpu, cuda or mps; default: as trained, where that is here."""

    def __post_init__(self) -> None:
        if self.count < FEWEST_SAMPLES:
            raise SettingsError(f"a distance needs at least {FEWEST_SAMPLES} samples, not {self.count}")
        if self.seeds < 1:
            raise SettingsError(f"a distance needs at least 1 seed, not {self.seeds}")
        details = ("guidance_interval", "guidance_rescale", "guide")
        if self.guidance is None and (given := [name for name in details if getattr(self, name) is not None]):
            raise SettingsError(
                f"{given[0]} belongs to guidance, which is missing", "such as a guidance of 2"
            )


@dataclass(frozen=True, kw_only=True)
class DiagnosisOptions:
    """The samples of a diagnosis. Raises SettingsError for fewer than 32, which tell nothing."""

    count: int = 256
    """Samples whose values are compared with those of held-out data: DDIM, 50 steps."""
    seed: int = 0
    """Of the samples."""
    device: str = "auto"
    """cpu, cuda or mps; default: as trained, where that is here."""

    def __post_init__(self) -> None:
        if self.count < FEWEST_SAMPLES:
            raise SettingsError(f"a diagnosis needs at least {FEWEST_SAMPLES} samples, not {self.count}")


@dataclass(frozen=True, kw_only=True)
class CalibrationOptions:
    """Options of a calibration. Raises SettingsError for fewer than 2 images or 2 samples of each."""

    images: int = 32
    """Held-out images, evenly spread, whose measurements are simulated: the more, the narrower the intervals."""
    count: int = 39
    """Samples of each. With the truth 39 make 40, of which intervals of 50, 80, 90 and 95 % hold whole numbers."""
    scored: int = 8
    """Images whose samples are also compared with the score of the posterior (kernel Stein discrepancy); 0: none."""
    seed: int = 0
    """Of the noise of the measurements, and of the samples."""
    guidance: float | None = None
    """Weight of guidance: 1 none, more for samples that are more like their condition."""
    weights: Literal["ema", "model"] = "ema"
    """Averaged weights, or those of the last step."""
    device: str = "auto"
    """cpu, cuda or mps; default: as trained, where that is here."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Type of convolutions and products; auto: as trained."""

    def __post_init__(self) -> None:
        if self.images < 2 or self.count < 2 or self.scored < 0:
            raise SettingsError(
                f"a calibration needs at least 2 images and 2 samples of each, not {self.images} and {self.count}"
            )


@dataclass(frozen=True, kw_only=True)
class TuneOptions:
    """Options of a tuning. Raises SettingsError for less than 1 call or 16 samples."""

    calls: tuple[int, ...] = (8,)
    """Network calls of a sample, which is steps; several are tuned one after the other."""
    sampler: str = "auto"
    """Sampler by name, with its usual options; auto: the one that `kakusan sample` takes, without its noise."""
    count: int = 128
    """Samples whose endpoints are compared with those of a fine walk."""
    seed: int = 0
    """Of their noise."""
    best: tuple[int, ...] = ()
    """Find instead the times that minimize the bound of the ancestral sampler in so many steps, exactly: the errors at
    all T times are measured on held-out images, and kept for any number of steps."""
    entropic: bool = False
    """Measure instead the errors by time that --spacing entropic follows, on held-out images."""
    device: str = "auto"
    """cpu, cuda or mps; default: as trained, where that is here."""

    def __post_init__(self) -> None:
        if self.count < 16 or min(self.calls, default=0) < 1:
            raise SettingsError("a tuning needs at least 1 call and 16 samples")
        if min(self.best, default=1) < 1:
            raise SettingsError(f"a walk has at least 1 step, not {min(self.best)}")
        if self.best and self.entropic:
            raise SettingsError("best steps and entropic times are two tunings", "ask for one of them")


@dataclass(frozen=True, kw_only=True)
class CompareOptions:
    """Options of a comparison. Raises SettingsError for lists with nothing in them, and for less than 32 samples."""

    samplers: str = "ddim,dpmpp-2m,unipc"
    """Samplers by name, separated by commas; NAME:SPACING has times of its own."""
    steps: str = "5,10,20"
    """Steps, separated by commas; tuned:N or best:N for times that `kakusan tune` has found."""
    guidance: str | None = None
    """Weights of guidance to compare, separated by commas, for runs that have learned classes or other conditions."""
    count: int = 500
    """Samples of each way; as many as there are real images to set beside them, at the most."""
    seeds: int = 1
    """Seeds: error bars are half of the 95 % interval of the mean over them; the picture shows the first."""
    seed: int = 0
    """The first of them: the same noise for each way."""
    shown: int = 8
    """Samples in the picture."""
    reference: str = "training"
    """Images that distances are from: training, held-out, a folder, an array file."""
    device: str = "auto"
    """cpu, cuda or mps; default: as trained, where that is here."""

    def __post_init__(self) -> None:
        if (
            not all(map(self.parts, (self.samplers, self.steps)))
            or self.count < FEWEST_SAMPLES
            or min(self.shown, self.seeds) < 1
        ):
            raise SettingsError(
                f"a comparison needs samplers, steps, at least {FEWEST_SAMPLES} samples of at least 1 seed, and at"
                " least 1 to show"
            )

    @staticmethod
    def parts(listed: str) -> list[str]:
        """The entries of a list that is separated by commas."""
        return [part.strip() for part in listed.split(",") if part.strip()]
