"""A run, opened for use: its denoiser, its samples, its report. What `kakusan.Run` is in Python."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from kakusan.agreement import fitting, require_agreement
from kakusan.assembly import DataRecord, build_denoiser, build_network, named, usual_label
from kakusan.config import Asked, flat, settings_for, with_values
from kakusan.denoiser import NetworkDenoiser
from kakusan.errors import RunError, SettingsError
from kakusan.experiment import Event, continue_training
from kakusan.launching import absolute_source, free_folder, launch, stored_settings
from kakusan.maths.units import Real
from kakusan.maths.variances import Analytic
from kakusan.resolve import resolve_machine
from kakusan.runs import RunFolder, quoted
from kakusan.samplers import DDIM, SAMPLERS, Sampler, sample
from kakusan.settings import ProcessSettings, Settings
from kakusan.shapes import Images


@dataclass(frozen=True)
class Loaded:
    """Weights of a run in a network, ready to be asked."""

    denoiser: NetworkDenoiser
    network: nn.Module
    step: int
    settings: Settings
    """Those of the run, with the machine of today."""
    weights: str = "ema"

    @property
    def analytic_key(self) -> dict[str, Any]:
        """What the errors of its guesses depend on."""
        return {"step": self.step, "weights": self.weights, "clip": self.denoiser.clip}

    @property
    def device(self) -> str:
        return self.settings.machine.device


class Run:
    """A training and all that came of it, in one folder.

    `kakusan.train` makes one; `Run.open` finds it again. Raises RunError where the folder is none.
    """

    def __init__(self, folder: RunFolder) -> None:
        self.files = folder
        self.warnings: list[str] = []

    @classmethod
    def open(cls, folder: Path | str) -> "Run":
        """The run in this folder."""
        return cls(RunFolder.open(Path(folder)))

    @property
    def folder(self) -> Path:
        return self.files.folder

    @cached_property
    def settings(self) -> Settings:
        """The resolved settings, as in config.toml."""
        return stored_settings(self.files)

    @cached_property
    def data(self) -> DataRecord:
        """What the run remembers of its data: shape, units, classes."""
        return DataRecord.read(self.files.data)

    def load(
        self,
        *,
        weights: Literal["ema", "model"] = "ema",
        step: int | None = None,
        device: str = "auto",
        precision: Literal["auto", "fp32", "bf16"] = "auto",
        variance: str | None = None,
        sigma_1: str | None = None,
        clip: bool | None = None,
    ) -> Loaded:
        """The newest good weights (or those of a step) in a network; "auto" is as trained, if that device is here.

        variance, sigma_1, clip: as the run says unless given; "analytic" needs what `kakusan evaluate` estimates.
        """
        settings = self._for_use(device, precision)
        checkpoint = self.files.load(
            self.warnings.append, step=step, parts=[weights], device=settings.machine.device
        )
        require_agreement(self.files, self.settings, checkpoint)
        with fitting(self.files, checkpoint):
            network = build_network(settings, self.data)
            network.load_state_dict(checkpoint.tensors[weights])
        network.eval().requires_grad_(requires_grad=False)
        fixed = None if variance == Analytic.name else variance
        given = {"process.variance": fixed, "process.sigma_1": sigma_1, "process.clip": clip}
        settings = with_values(settings, {k: value for k, value in given.items() if value is not None})
        if settings.process.clip and isinstance(self.data.units, Real):
            raise SettingsError("real data have no bounds to clip to")
        denoiser = build_denoiser(settings, network, self.data.units)
        loaded = Loaded(denoiser, network, checkpoint.step, settings, weights)
        return self.with_analytic_variance(loaded) if variance == Analytic.name else loaded

    def with_analytic_variance(self, loaded: Loaded) -> Loaded:
        """The same with the best variance for its guesses. Raises RunError where it has not been estimated."""
        errors = self.files.analytic(loaded.analytic_key)
        if errors is None:
            flags = " --weights model" * (loaded.weights == "model")
            if bool(self.settings.process.clip) != (loaded.denoiser.clip is not None):
                flags += f" --clip {'no' if loaded.denoiser.clip is None else 'yes'}"
            raise RunError(
                f"the analytic variance of {self.folder} at step {loaded.step} has not been estimated",
                f"to do so, from its training images: kakusan evaluate {quoted(self.folder)} "
                f"--variance analytic{flags}",
            )
        best = Analytic(torch.tensor(errors, dtype=torch.float64))
        return replace(loaded, denoiser=replace(loaded.denoiser, variance=best))

    def _for_use(self, device: str, precision: Literal["auto", "fp32", "bf16"]) -> Settings:
        machine = self.settings.machine
        try:
            resolve_machine(replace(machine, device=machine.device if device == "auto" else device))
            device = machine.device if device == "auto" else device
        except SettingsError:
            if device != "auto":
                raise
        if device != machine.device:  # trained elsewhere: what that machine chose does not bind this one
            machine = replace(machine, device=device, layout="auto", threads="auto", precision="auto")
        if precision != "auto":
            machine = replace(machine, precision=precision)
        return replace(self.settings, machine=resolve_machine(machine))

    def denoiser(
        self,
        weights: Literal["ema", "model"] = "ema",
        device: str = "auto",
        precision: Literal["auto", "fp32", "bf16"] = "auto",
    ) -> NetworkDenoiser:
        """The trained network with its process, on its averaged weights; bounds want precision "fp32"."""
        return self.load(weights=weights, device=device, precision=precision).denoiser

    def sample(
        self,
        count: int = 16,
        sampler: Sampler | None = None,
        *,
        seed: int = 0,
        first: int = 0,
        label: str | None = None,
        exact: bool = False,
        device: str = "auto",
    ) -> Images:
        """New images, in the network's units: `run.data.units.decode(images)` gives the data's own.

        sampler: DDIM in 50 steps where none is given; its times are spaced as the run says, unless it says how.
        label: a class, by name or number.
        Image k of a seed is the same whatever the count.
        """
        loaded = self.load(device=device)
        sampler = sampler or usual_sampler(self.settings.process)
        return sample(
            loaded.denoiser,
            replace(sampler, spacing=sampler.spacing or self.settings.process.spacing),
            count=count,
            shape=self.data.shape,
            seed=seed,
            first=first,
            label=self.label_of(label),
            micro_batch=self.settings.machine.micro_batch,
            exact=exact,
            device=loaded.device,
        )

    def label_of(self, label: str | None) -> int | tuple[int, ...] | None:
        """What samples are to show: this class, or what is usual in this run."""
        return usual_label(self.settings, self.data) if label is None else self.class_number(label)

    def class_number(self, label: str) -> int:
        """The number of a class given by name or number. Raises SettingsError if there is none."""
        names = self.data.class_names
        if not names:
            raise SettingsError(f"{self.folder} has learned no classes", "leave --label out")
        if label in names:
            return names.index(label)
        if label.isdecimal() and int(label) < len(names):
            return int(label)
        raise SettingsError(f"there is no class {label!r}", f"classes: {', '.join(names[:20])}")

    def resume(self, stop: Callable[[], bool] = lambda: False) -> Iterator[Event]:
        """Go on training where the run stands; drain the events to do so."""
        return continue_training(self.files, self.settings, stop=stop)


def usual_sampler(process: ProcessSettings) -> Sampler:
    """DDIM in 50 steps, or in T where there are fewer, spaced as the run says."""
    return DDIM(steps=min(50, process.T), spacing=process.spacing)


def sampler_from(name: str, options: Mapping[str, Any]) -> Sampler:
    """The sampler of this name with those of the options that were given. Raises SettingsError for one it lacks."""
    kind = named(SAMPLERS, name, "--sampler")
    given = {key: value for key, value in options.items() if value is not None}
    unknown = set(given) - set(kind.__dataclass_fields__)
    if unknown:
        raise SettingsError(f"the {name} sampler has no --{min(unknown)}")
    made: Sampler = kind(**given)
    return made


def train(
    source: str,
    *,
    run: Path | str | None = None,
    settings: Settings | None = None,
    weights_from: Path | str | None = None,
    watch: Callable[[Event], None] = lambda _: None,
) -> Run:
    """Train on data to the end, or go on where the run in this folder stands. The twin of `kakusan train`.

    source: a bundled name, a folder of images, an array file; settings: `kakusan.settings_for(source)` and changes.
    """
    usual = settings_for(source)
    wanted = settings if settings is not None else usual
    chosen = frozenset(name for name, value in flat(wanted).items() if value != flat(usual)[name])
    wanted = with_values(wanted, {"data.source": absolute_source(source)})
    folder = Path(run) if run is not None else free_folder(source)
    parent = None if weights_from is None else Path(weights_from)
    launched = launch(Asked(wanted, chosen), folder, weights_from=parent)
    for event in continue_training(launched.run, launched.settings, launched.task):
        watch(event)
    return Run(launched.run)
