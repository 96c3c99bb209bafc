"""A training from where it stands to its last step, across any number of interruptions. Every part meets here.

Nothing is shown and nothing asked: the training is a generator of events that the command line, the library and
the tests drain alike.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

from PIL import Image
from torch import nn

from kakusan.config.loading import to_mapping
from kakusan.config.machine import environment, require_device, set_machine, set_threads_of
from kakusan.config.networks.own import OWN
from kakusan.config.section import Auto
from kakusan.config.settings import WHEN_DONE, Settings, answered
from kakusan.data.dataset import Dataset, Progress, silent
from kakusan.data.rendering import encode_png, grid, pairs_grid
from kakusan.errors import NumbersError, RunError
from kakusan.samplers import DDIM, Consistency, Sampler, SamplingRequest, sample
from kakusan.shapes import Samples
from kakusan.storage import durable
from kakusan.storage.agreement import changed_settings, fitting, require_agreement
from kakusan.storage.checkpoints import Checkpoint
from kakusan.storage.dumps import forget_after
from kakusan.storage.journal import Journal
from kakusan.storage.run_folder import RunFolder
from kakusan.training.bad_numbers import (
    MOST_REWINDS,
    explained,
    last_well,
    may_rewind,
    rewind,
    spared_for_a_rewind,
)
from kakusan.training.loop import check_finite, fit
from kakusan.training.prepare import reopen_data
from kakusan.training.rates import learning_rate
from kakusan.training.state import (
    Task,
    advice_on_memory,
    assemble,
    averaged,
    course_of,
    early_weights,
    load_state,
    snapshot,
    watch,
)
from kakusan.training.stopping import end_in_figures, how_it_ended
from kakusan.training.validation import Compared, compared


@dataclass(frozen=True)
class Began:
    """The training is set up and stands before its next step."""

    step: int
    steps: int
    parameters: int
    training_images: int
    held_out_images: int


@dataclass(frozen=True)
class Stepped:
    """A step is done; `line` is the new line of metrics.jsonl, if there is one."""

    step: int
    line: Mapping[str, Any] | None


@dataclass(frozen=True)
class Saved:
    """A checkpoint is on the disk."""

    step: int
    path: Path


@dataclass(frozen=True)
class Sampled:
    """A picture of samples is on the disk."""

    step: int
    path: Path


@dataclass(frozen=True)
class Ended:
    """The last step is done (finished), or a stop was asked for. All is saved."""

    step: int
    finished: bool


@dataclass(frozen=True)
class Warned:
    """A warning to the user that does not stop the work."""

    text: str


@dataclass(frozen=True)
class Turned:
    """The training takes another course than planned: it goes on from a step at a lower rate, or ends there."""

    step: int
    steps: int
    """Its last step from now on."""
    text: str


Event: TypeAlias = Began | Stepped | Saved | Sampled | Ended | Warned | Turned


@dataclass(frozen=True)
class Trainer:
    """A run, and what trains it from where it stands to its last step."""

    run: RunFolder
    settings: Settings
    """Those of the run, perhaps with another length or cadence, which are stored when the training begins."""
    task: Task | None = None
    """Its parts, where they are built already and no step is done."""
    cautions: tuple[str, ...] = ()
    """Cautions for the user before the training, in sentences."""
    in_memory: Dataset | None = None
    """Its data, where no file has them."""
    network: nn.Module | None = None
    """The module that it trains, in place, where that is one's own."""

    def events(
        self, stop: Callable[[], bool] = lambda: False, progress: Progress = silent
    ) -> Iterator[Event]:
        """Train to the last step, bit for bit as if the run had never been interrupted.

        stop: asked after every step; a yes saves and ends. progress: of reading the data. Raises NumbersError after
        dumping the inputs, RunError if another process trains this run or the data are not those it began with.
        """
        yield from map(Warned, self.cautions)
        run = self.run
        with run.lock():
            task = self._reopened(progress) if self.task is None else self.task
            set_threads_of(task.settings.machine)
            yield from map(Warned, task.loss.cautions(task.model))
            yield from _restore(task, run)
            if to_mapping(self.settings) != run.config:
                run = run.update_config(to_mapping(self.settings))
            yield Began(
                step=task.state.step,
                steps=task.steps,
                parameters=sum(p.numel() for p in task.network.parameters()),
                training_images=len(task.prepared.split.training),
                held_out_images=len(task.prepared.split.held_out),
            )
            with advice_on_memory(task.settings):
                yield from _trained(task, run, stop)

    def _reopened(self, progress: Progress) -> Task:
        settings, stored = self.settings, self.run.data
        require_device(settings.machine, self.run.folder)
        set_machine(settings.machine)
        prepared = reopen_data(settings, stored, progress, in_memory=self.in_memory, write_cache=True)
        prepared = replace(prepared, network=self.network)
        with advice_on_memory(settings):
            return assemble(settings, prepared, stored)


def _trained(task: Task, run: RunFolder, stop: Callable[[], bool]) -> Iterator[Event]:
    """Train to the end; where numbers are not finite and settings have it so, again from where all was well."""
    while True:
        try:
            yield from _train(task, run, stop)
        except NumbersError as error:
            if not may_rewind(task):
                raise explained(task, run, error) from error
            problem = error.problem
        else:
            return
        yield from _rewound(task, run, problem)


def _rewound(task: Task, run: RunFolder, problem: str) -> Iterator[Event]:
    """Back, with half the rate. It is noted at the next step, which a resume from before comes to again."""
    well, complaints = last_well(task), list[str]()
    rewind(task, run, complaints.append)
    yield from map(Warned, complaints)
    step, rewinds = task.state.step, task.state.course.rewinds
    line = {"step": step + 1, "rewinds": rewinds, "rate_factor": task.state.course.rate_factor}
    yield from _warned(Journal(run).add({**line, "not_finite_step": well + 1}))
    words = f"{problem}: back to step {step:,}, with half the learning rate ({rewinds} of {MOST_REWINDS})"
    yield Turned(step, task.steps, words)


def _train(task: Task, run: RunFolder, stop: Callable[[], bool]) -> Iterator[Event]:
    settings, state = task.settings, task.state
    pace, since_save, journal = _Pace(task), time.monotonic(), Journal(run)
    saved = state.step if run.steps else -1
    yield from _kept_early(task, run)  # of the step it stands at, if that was not asked for before
    yield from _owed(task, run, journal)
    for report in fit(state, task.batches, task.loss, settings.training, settings.log.every):
        line = None if report.metrics is None else pace.line(report.step, report.metrics)
        if line is not None:
            yield from _warned(journal.add(line))
        yield from _kept_early(task, run)  # before a checkpoint of the step, so that none is passed by
        asked = stop()
        due, watched = _due(task, settings.samples.every), settings.training.stop == WHEN_DONE
        if due and (watched or not asked):  # before a checkpoint, which holds what follows from them
            yield from (_watched if watched else _measured)(task, journal)
        waited = time.monotonic() - since_save > 60 * settings.checkpoint.minutes
        if asked or waited or _due(task, settings.checkpoint.every):
            check_finite(state)
            yield Saved(state.step, _save(task, run))  # before the picture: a resume makes one that is owed
            saved, since_save = state.step, time.monotonic()
        if due and not asked:
            yield _picture(task, run)
            pace.restart(state.step)
        yield Stepped(state.step, line)
        set_threads_of(
            settings.machine
        )  # whoever was told of the step may have planned or trained something else
        if asked:
            break
    if saved < 0:  # nothing to do, and nothing ever saved
        yield Saved(state.step, _save(task, run))
    yield from _warned(journal.end())
    yield Ended(state.step, finished=state.step >= task.steps)


def _warned(text: str | None) -> Iterator[Event]:
    if text is not None:
        yield Warned(text)


def _due(task: Task, every: int | Auto) -> bool:
    return task.state.step == task.steps or task.state.step % answered(every) == 0


class _Pace:
    """Images a second since the last log line, without the time that pictures and checkpoints take."""

    def __init__(self, task: Task) -> None:
        self._batch_size = answered(task.settings.training.batch_size)
        self._images = len(task.prepared.split.training)
        self.restart(task.state.step)

    def restart(self, step: int) -> None:
        self._step, self._time = step, time.perf_counter()

    def line(self, step: int, metrics: dict[str, Any]) -> dict[str, Any]:
        """The figures of a step with the epoch and the pace."""
        steps, seconds = step - self._step, time.perf_counter() - self._time
        self.restart(step)
        pace = round(steps * self._batch_size / seconds, 2) if steps else None
        return {**metrics, "epoch": step * self._batch_size / self._images, "images_per_second": pace}


# The state on disk


def _save(task: Task, run: RunFolder) -> Path:
    checkpoint, spared = task.settings.checkpoint, spared_for_a_rewind(task)
    keep_every = checkpoint.keep_every or None
    return run.save(snapshot(task), keep=checkpoint.keep, keep_every=keep_every, spared=spared)


def _kept_early(task: Task, run: RunFolder) -> Iterator[Event]:
    """The snapshot of this step, if one is due. That it cannot be written is no reason to stop."""
    if task.state.step not in task.settings.checkpoint.snapshot_steps:
        return
    check_finite(task.state)
    try:
        run.save_snapshot(early_weights(task))
    except RunError as error:
        yield Warned(str(error))


def _restore(task: Task, run: RunFolder) -> Iterator[Event]:
    """Put the newest good checkpoint into the task; complain of those that are passed over."""
    complaints: list[str] = []
    source = run.data.get("weights_from")
    if run.steps:
        checkpoint = run.load(complaints.append, device=task.settings.machine.device)
        yield from map(Warned, complaints)
        require_agreement(run, task.settings, checkpoint)
        yield from _differences(checkpoint, task)
        with fitting(run, checkpoint):
            load_state(task, checkpoint)
        run.record_environment(environment(task.settings.machine))
    elif source:
        parent = RunFolder.open(Path(source["run"]))
        checkpoint = parent.load(complaints.append, step=source["step"], parts=["ema"])
        weights = checkpoint.tensors["ema"]
        with fitting(parent, checkpoint):
            task.network.load_state_dict(weights)
            task.state.ema.load(dict(weights))
    if not run.steps and (source or task.settings.network.kind == OWN):
        yield Saved(0, _save(task, run))  # from now on the parent, or the module, may go its own way
    run.truncate_metrics(task.state.step)
    run.truncate_snapshots(task.state.step)
    with durable.os_errors_as_run_errors(f"cannot remove a dump in {run.folder}", run.folder):
        forget_after(run, task.state.step)


def _differences(checkpoint: Checkpoint, task: Task) -> Iterator[Event]:
    """Warnings of what has changed since the checkpoint was written, and may have."""
    changed = changed_settings(task.settings, checkpoint)
    changed.pop("data.source", None)  # the data are the same
    here, there = environment(task.settings.machine), checkpoint.state["environment"]
    changed |= {name: (there.get(name), here[name]) for name in here if here[name] != there.get(name)}
    if changed:
        words = "; ".join(f"{name} was {had}, is {has}" for name, (had, has) in changed.items())
        yield Warned(f"not the machine or versions of the checkpoint, so not bit for bit: {words}")
    rate_was, rate_is = (
        checkpoint.state["learning_rate"],
        learning_rate(task.settings.training, checkpoint.step, course_of(task.settings, checkpoint)),
    )
    if rate_was != rate_is:
        yield Warned(
            f"with its new length, the learning rate goes on from {rate_is:.3g}, not from {rate_was:.3g}"
        )


# Pictures and figures on the way


def _owed(task: Task, run: RunFolder, journal: Journal) -> Iterator[Event]:
    """The figures and the picture of the step it stands at, where the last training was ended before it made them."""
    step = task.state.step
    if step == 0 or not _due(task, task.settings.samples.every):
        return
    try:
        measured = any(line["step"] == step and "training_loss" in line for line in run.metrics())
    except RunError:  # figures that cannot be read are no reason to stop
        measured = True
    if not measured:
        yield from _measured(task, journal)
    if run.samples_picture(step) is None:
        yield _picture(task, run)


def _measured(task: Task, journal: Journal) -> Iterator[Event]:
    """The losses of a step on training and held-out images."""
    losses = _losses(task)
    yield from _warned(journal.add({"step": task.state.step, **losses.figures}))


def _watched(task: Task, journal: Journal) -> Iterator[Event]:
    """The same where they may end the training; at its end, for the averaged weights that it ends with, too."""
    step, planned, losses = task.state.step, task.steps, _losses(task)
    watch(task, losses.held_out)
    end = end_in_figures(task.state.course.watch, step, planned) if step == task.steps else {}
    yield from _warned(journal.add({"step": step, **losses.figures, **end}))
    if words := how_it_ended([{"step": step, **end}], step):
        yield from _measured(task, journal)
        yield Turned(step, task.steps, words)


def _losses(task: Task) -> Compared:
    """On as many training as held-out images, with the same t and noise, of the averaged weights."""
    check_finite(task.state)
    data = task.prepared
    with averaged(task):
        return compared(task.model, task.loss, data.dataset, data.split, task.state.device)


def _picture(task: Task, run: RunFolder) -> Sampled | Warned:
    """A grid of samples, from the same noise each time. That it cannot be written is no reason to stop."""
    samples, machine, process = task.settings.samples, task.settings.machine, task.settings.process
    sampler: Sampler = DDIM(steps=min(samples.steps, process.T), spacing=process.spacing)
    if task.settings.is_distilled:
        sampler = Consistency(steps=min(2, process.T))
    request = SamplingRequest(
        count=samples.count,
        shape=task.record.shape,
        seed=samples.seed,
        condition=task.shown,
        micro_batch=machine.micro_batch,
        device=machine.device,
    )
    with averaged(task):
        x_0 = sample(task.model, sampler, request)
    try:
        path = run.samples_path(task.state.step)
        with durable.os_errors_as_run_errors(f"cannot write {path}", path.parent):
            durable.atomic_write(path, encode_png(_grid(task, x_0)))
    except RunError as error:
        return Warned(str(error))
    return Sampled(task.state.step, path)


def _grid(task: Task, x_0: Samples) -> Image.Image:
    """The samples, below the images that they were given, if any."""
    given, pairs, units = task.shown, task.record.pairs, task.record.units
    if given is None or given.image is None or pairs is None:
        return grid(x_0, units)
    return pairs_grid(given.image, pairs.units, x_0, units)
