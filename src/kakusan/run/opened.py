"""A run, opened: its settings, its data, its weights in a network, and what its figures allow to say."""

from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self

import torch
from torch import nn

from kakusan.config.loading import with_values
from kakusan.config.machine import for_use, resolve_machine, set_machine, share_threads
from kakusan.config.settings import LEARNED, MachineSettings, Settings, answered
from kakusan.data import Dataset
from kakusan.data.dataset import Progress, silent
from kakusan.data.record import DataRecord
from kakusan.data.units import Real
from kakusan.diffusion.paths import Path as NoisePath
from kakusan.diffusion.variances import Analytic
from kakusan.errors import KakusanError, RunError, SettingsError, quoted
from kakusan.storage.agreement import fitting, require_agreement
from kakusan.storage.checkpoints import Checkpoint
from kakusan.storage.run_folder import RunFolder
from kakusan.training.build import build_model, build_network, build_path
from kakusan.training.course import unplanned
from kakusan.training.launch import stored_settings
from kakusan.training.losses import NetworkModel
from kakusan.training.prepare import Prepared, doubt_of_held_out, reopen_data
from kakusan.training.state import Task, assemble, load_state
from kakusan.training.verdicts import LossGap, Trained, hardly_learned, loss_gap


@dataclass(frozen=True)
class Loaded:
    """Weights of a run in a network, ready to be asked."""

    model: NetworkModel
    network: nn.Module
    step: int
    settings: Settings
    """Those of the run, with the machine of today."""
    weights: Literal["ema", "model"] = "ema"

    def __repr__(self) -> str:
        parameters = sum(parameter.numel() for parameter in self.network.parameters())
        which = {"ema": "averaged weights", "model": "weights"}[self.weights]
        kind = self.settings.network.kind
        return f"<Loaded {which} of step {self.step}: {kind}, {parameters:,} parameters, on {self.device}>"

    @property
    def analytic_key(self) -> dict[str, Any]:
        """The settings that the errors of its guesses depend on."""
        return {
            "step": self.step,
            "weights": self.weights,
            "clip": self.model.clip,
            "precision": self.settings.machine.precision,
        }

    @property
    def device(self) -> str:
        return self.settings.machine.device


class OpenRun:
    """A run's folder, opened: all of a `Run` but its samples."""

    def __init__(
        self, folder: RunFolder, in_memory: Dataset | None = None, network: nn.Module | None = None
    ) -> None:
        self.files = folder
        self.warnings: list[str] = []
        self._in_memory = in_memory
        self._own = network

    @classmethod
    def open(cls, folder: Path | str, *, network: nn.Module | None = None) -> Self:
        """The run in this folder.

        network: the module that it trained, where that was one's own. Its weights stay: copies of it get the run's.
        """
        return cls(RunFolder.open(Path(folder)), network=network)

    def __repr__(self) -> str:
        kind, steps = type(self).__name__, self.files.steps
        try:
            words = f"{self.data.name}, step {steps[-1] if steps else 0} of {self.settings.training.steps}"
        except KakusanError as error:  # whatever has become of the folder, it can be shown
            words = error.problem
        return f"<{kind} {self.folder}: {words}>"

    @property
    def folder(self) -> Path:
        return self.files.folder

    @cached_property
    def settings(self) -> Settings:
        """The resolved settings, as in config.toml."""
        return stored_settings(self.files)

    @cached_property
    def data(self) -> DataRecord:
        """The run's record of its data: shape, units, classes."""
        return DataRecord.read(self.files.data)

    @property
    def path(self) -> NoisePath:
        """The path from data to noise: that of its newest weights, where the schedule was learned."""
        process = self.settings.process
        return self.load(device="cpu").model.path if process.schedule == LEARNED else build_path(process)

    def prepared(self, progress: Progress = silent) -> Prepared:
        """Its images, divided as they were when it began. Raises RunError, DataError where they are not here."""
        return reopen_data(self.settings, self.files.data, progress, in_memory=self._in_memory)

    def task(self, prepared: Prepared) -> Task:
        """Its training in memory, as the newest good checkpoint left it, on the machine of today. Nothing is written.

        Raises RunError where the checkpoint is of other settings.
        """
        settings = self._for_use("auto", "auto")
        set_machine(settings.machine)
        own = deepcopy(self._own)
        task = assemble(settings, replace(prepared, network=own), self.files.data)
        if self.files.steps:
            checkpoint = self.files.load(self.warnings.append, device=settings.machine.device)
            require_agreement(self.files, self.settings, checkpoint)
            with fitting(self.files, checkpoint):
                load_state(task, checkpoint)
        return task

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
        network = self._network(settings, checkpoint, weights)
        fixed = None if variance == Analytic.name else variance
        given = {"process.variance": fixed, "process.sigma_1": sigma_1, "process.clip": clip}
        settings = with_values(settings, {k: value for k, value in given.items() if value is not None})
        if settings.process.clip and isinstance(self.data.units, Real):
            raise SettingsError("real data have no bounds to clip to")
        share_threads(settings.machine)
        model = build_model(settings, network, self.data.units)
        loaded = Loaded(model, network, checkpoint.step, settings, weights)
        return self.with_analytic_variance(loaded) if variance == Analytic.name else loaded

    def _network(self, settings: Settings, checkpoint: Checkpoint, weights: str) -> nn.Module:
        """The weights of a checkpoint in a network, to be asked. Raises RunError where they do not fit."""
        with fitting(self.files, checkpoint):
            network = build_network(settings, self.data, deepcopy(self._own))
            network.load_state_dict(checkpoint.tensors[weights])
        return network.eval().requires_grad_(requires_grad=False)

    def with_analytic_variance(self, loaded: Loaded) -> Loaded:
        """The same with the best variance for its guesses. Raises RunError where it has not been estimated."""
        key = loaded.analytic_key
        errors = self.files.analytic(key) or self.files.analytic({**key, "precision": "fp32"})
        if errors is None:
            flags = " --weights model" * (loaded.weights == "model")
            if bool(self.settings.process.clip) != (loaded.model.clip is not None):
                flags += f" --clip {'no' if loaded.model.clip is None else 'yes'}"
            raise RunError(
                f"the analytic variance of {self.folder} at step {loaded.step} has not been estimated",
                f"to do so, from its training images: kakusan evaluate {quoted(self.folder)} "
                f"--variance analytic{flags}",
            )
        best = Analytic(torch.tensor(errors, dtype=torch.float64))
        return replace(loaded, model=replace(loaded.model, variance=best))

    def _for_use(self, device: str, precision: Literal["auto", "fp32", "bf16"]) -> Settings:
        machine = self.settings.machine
        try:
            resolve_machine(replace(machine, device=machine.device if device == "auto" else device))
            device = machine.device if device == "auto" else device
        except SettingsError:
            if device != "auto":
                raise
        if device != machine.device:  # trained elsewhere: what that machine chose does not bind this one
            machine = replace(MachineSettings(device=device), micro_batch=machine.micro_batch)
        if precision != "auto":
            machine = replace(machine, precision=precision)
        return replace(self.settings, machine=for_use(resolve_machine(machine)))

    def model(
        self,
        weights: Literal["ema", "model"] = "ema",
        device: str = "auto",
        precision: Literal["auto", "fp32", "bf16"] = "auto",
    ) -> NetworkModel:
        """The trained network, on averaged weights, with path, variance and clipping; bounds need precision "fp32"."""
        return self.load(weights=weights, device=device, precision=precision).model

    def hardly_learned(self, step: int) -> str:
        """A sentence where these weights have learned hardly more of the data than mean and spread; else empty."""
        settings = self.settings
        return hardly_learned(
            Trained(
                lines=self._lines_to(step),
                step=step,
                warmup=answered(settings.training.warmup),
                batch_size=answered(settings.training.batch_size),
                predicts=settings.process.predicts,
                loss=settings.training.loss,
                continued="weights_from" in self.files.data or "imported" in self.files.data,
            )
        )

    def loss_gap(self, step: int) -> LossGap | None:
        """The losses on training and on held-out images that were measured last, up to this step."""
        return loss_gap(self._lines_to(step), self.doubt)

    def unplanned(self, step: int) -> dict[str, str]:
        """Departures of its training from the plan, by their names, in words; empty where there are none."""
        return unplanned(self._lines_to(step), step)

    @property
    def doubt(self) -> str:
        """The reason to doubt that its held-out images are new to it; empty where there is none."""
        return doubt_of_held_out(self.files.data)

    def _lines_to(self, step: int) -> list[dict[str, Any]]:
        return [line for line in self.files.metrics() if line.get("step", 0) <= step]
