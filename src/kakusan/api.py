"""Whole runs from Python: `train`, `sample` and `Run`, as the command line has them, on files or on data in memory.

Progress is shown on a terminal or in a notebook, on stderr. `progress=False` switches it off.
"""

import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from kakusan import run
from kakusan.config.loading import Requested, flat, from_mapping, settings_for, usual_for, with_values
from kakusan.config.settings import DataSettings, Settings
from kakusan.data import Dataset, InMemory, open_data
from kakusan.data.dataset import Progress, silent
from kakusan.data.units import Levels
from kakusan.diffusion.denoiser import Denoiser
from kakusan.errors import KakusanError, SettingsError
from kakusan.evaluation.bound import BoundReport, measure_bound
from kakusan.evaluation.comparison import Comparison, compare
from kakusan.evaluation.diagnosis.diagnose import diagnose
from kakusan.evaluation.diagnosis.finding import Diagnosis
from kakusan.evaluation.options import BoundOptions, CompareOptions, DiagnosisOptions, TuneOptions
from kakusan.evaluation.tuning import tune_times
from kakusan.interop import importing
from kakusan.pages.report.gather import write_report
from kakusan.run.shown import Watch, is_seen, training_shown
from kakusan.samplers import Origin, Sampler, SamplingRequest, as_sampler, of_classes
from kakusan.samplers import sample as samples_of
from kakusan.samplers.base import AnyModel
from kakusan.shapes import Condition, Samples
from kakusan.storage.run_folder import RunFolder
from kakusan.storage.times import TunedTimes
from kakusan.terminal.display import bar, console, reading
from kakusan.terminal.signals import StopRequest
from kakusan.training.distill import distillation, folder_beside, require_same_start
from kakusan.training.launch import absolute_source, adjusted, free_folder, launch, steps_after
from kakusan.training.plan import Plan
from kakusan.training.plan import plan as planned
from kakusan.training.trainer import Began, Event, Trainer


def nobody(event: Event) -> None:
    """A watcher of a training that passes over each event."""


@contextmanager
def _share(title: str, progress: bool | None) -> Iterator[Callable[[float, str], None]]:
    """A progress bar that is updated by (share, words), or nothing."""
    if not is_seen(progress):
        yield lambda _, __: None
        return
    with bar(title, 1.0, console()) as shown:
        yield shown.at


@contextmanager
def _reading(progress: bool | None) -> Iterator[Progress]:
    if not is_seen(progress):
        yield silent
        return
    with reading(console()) as shown:
        yield shown


class Run(run.Run):
    """A training and all that came of it, in one folder: `kakusan.train` makes one, `Run.open` finds it again."""

    def evaluate(
        self, *, data: str | Path | InMemory | None = None, progress: bool | None = None, **options: Any
    ) -> BoundReport:
        """The bound on training and on held-out images: `kakusan evaluate`. Nothing is written.

        data: other images, a path, an array or a `Dataset`. options: images=180, terms=None (all), split="both",
        variance, sigma_1, clip, weights, seed, precision, memorizer, samples=K, exact=True, ...:
        `kakusan.evaluation.options.BoundOptions`.
        """
        path, other, units = None, None, self.data.units
        if isinstance(data, str | Path):
            path = Path(data)
        elif data is not None:
            ours = DataSettings(missing=self.settings.data.missing)
            ours = replace(ours, levels=units.levels) if isinstance(units, Levels) else ours
            other = open_data(data, ours)
        if isinstance(clip := options.get("clip"), bool):
            options["clip"] = "yes" if clip else "no"
        asked = BoundOptions(data=path, **options)
        with _reading(progress) as read, _share("the bound", progress) as show:
            return measure_bound(self, asked, other=other, reading=read, progress=show)

    def diagnose(
        self, *, data: InMemory | None = None, progress: bool | None = None, **options: Any
    ) -> Diagnosis:
        """Is it broken, is it done, does it copy, are the colours right: `kakusan diagnose`. Nothing is written.

        Answers are in `broken`, `done`, `copies` and `colours`, each with `answer`, `sentences` and `figures`; printed,
        the whole is four lines. data: those it was trained on, where they were in memory.
        options: count=256, seed=0, device: `kakusan.evaluation.options.DiagnosisOptions`.
        """
        asked = DiagnosisOptions(**options)
        run = self if data is None else Run(self.files, self._reopened(data), self._own)
        with _reading(progress) as read, _share("diagnosis", progress) as show:
            return diagnose(run, asked, reading=read, progress=show)

    def tune(self, *calls: int, progress: bool | None = None, **options: Any) -> list[TunedTimes]:
        """Find the times at which walks of so few calls end best, and keep them in the run: `kakusan tune`.

        `run.sampler(steps="tuned:8")` has them, and `run.sampler(steps=8)` too. options: sampler="auto", count=128,
        seed=0, device: `kakusan.evaluation.options.TuneOptions`.
        """
        with _share("tuning", progress) as show:
            return tune_times(self, TuneOptions(calls=calls or (8,), **options), show)

    def compare(self, *others: run.Run, progress: bool | None = None, **options: Any) -> Comparison:
        """Ways to sample side by side from the same noise: `kakusan compare`. Nothing is written.

        others: more runs of such samples. options: samplers=("ddim", "dpmpp-2m", "unipc"), steps=(5, 10, 20), where
        "tuned:8" is one too, guidance=(1, 2), count=500, seeds=1, ...: `kakusan.evaluation.options.CompareOptions`.
        Printed, the result has a line for each way; `kakusan.evaluation.comparison_picture.comparison_png` draws it.
        """
        for name in {"samplers", "steps", "guidance"} & set(options):
            options[name] = _listed(options[name])
        asked = CompareOptions(**options)
        with _reading(progress) as read, _share("comparison", progress) as show:
            return compare([self, *others], asked, show, read)

    def report(self, *, progress: bool | None = None) -> Path:
        """Write RUN/report.html: `kakusan report`. Its path."""
        with _share("report", progress) as show:
            return write_report(self, show)

    def resume(
        self,
        *,
        steps: int | None = None,
        minutes: float | None = None,
        data: InMemory | None = None,
        labels: ArrayLike | None = None,
        vectors: ArrayLike | None = None,
        conditions: NDArray[Any] | Tensor | None = None,
        network: nn.Module | None = None,
        watch: Watch = nobody,
        progress: bool | None = None,
    ) -> "Run":
        """Train to the last step from where the run stands: `kakusan resume`. The same run.

        steps: a new last step; or minutes: about so long from here, at the speed of the run so far.
        data, labels, vectors, conditions: those it began with, where it was trained on data in memory.
        network: the module, where it trains one of your own and was opened without; its weights become the run's.
        Raises RunError where they are others.
        """
        dataset = self._in_memory
        if data is not None:
            dataset = self._reopened(data, labels=labels, vectors=vectors, conditions=conditions)
        if steps is not None and minutes is not None:
            raise SettingsError("steps and minutes are two lengths", "give one of them")
        if minutes is not None:
            steps = steps_after(self.files, minutes)
        changes = {} if steps is None else {"training.steps": steps}
        module = self._own if network is None else network
        trainer = Trainer(self.files, adjusted(self.files, changes), in_memory=dataset, network=module)
        return _trained(trainer, watch, progress)

    def distill(
        self,
        *,
        steps: int | None = None,
        minutes: float | None = None,
        run: Path | str | None = None,
        data: str | Path | None = None,
        watch: Watch = nobody,
        progress: bool | None = None,
    ) -> "Run":
        """A new run, whose network makes samples in one to four calls: `kakusan distill`.

        steps or minutes: its length; by default half of this training's time. run: its folder, by default that of this
        one with "-distilled"; where it is a run already, it goes on. data: a path, where the run's own are not here.
        `kakusan.evaluation.distillation.cost_of` measures what it costs. Raises SettingsError for a run that was
        distilled already, RunError where the folder holds another training.
        """
        asked = distillation(
            self.files, steps=steps, minutes=minutes, source=None if data is None else str(data)
        )
        folder, ours = Path(run) if run is not None else folder_beside(self.files), self._in_memory
        require_same_start(folder, self.files)
        with _reading(progress) as read:
            trainer = launch(
                asked, folder, weights_from=self.folder, progress=read, in_memory=ours, network=self._own
            )
        return _trained(trainer, watch, progress)

    def _reopened(self, data: InMemory, **conditions: Any) -> Dataset:
        """In the layout that the run began with, or in another that has its shape."""
        options = self.settings.data
        try:
            return open_data(data, options, **conditions)
        except KakusanError:
            return open_data(data, replace(options, layout="auto"), **conditions)

    @contextmanager
    def _watching(self, title: str, progress: bool | None) -> Iterator[Callable[[float, str], None]]:
        with _share(title, progress) as show:
            yield show


def _listed(value: Any) -> str | None:
    """Entries as the command line lists them."""
    if value is None or isinstance(value, str):
        return value
    return ",".join(map(str, value)) if isinstance(value, Sequence) else str(value)


def sample(
    model: AnyModel | Denoiser,
    sampler: Sampler | str,
    *,
    count: int | None = None,
    shape: tuple[int, ...] | None = None,
    seed: int = 0,
    first: int = 0,
    label: int | tuple[int, ...] | None = None,
    condition: Condition | None = None,
    micro_batch: int = 64,
    exact: bool = False,
    device: str = "cpu",
    images: Samples | None = None,
    t: int | None = None,
    progress: bool | None = None,
) -> Samples:
    """Images number first, ..., first + count - 1 of a seed, in the network's units. Algorithm 2.

    shape: (channels, ...) of a sample; label: a class for all, or several in turn; condition: in place of a
    label, rows of what the denoiser is given, which samples take in turn; exact: the same to the last bit in
    any company. images, t: start from these, with noise added up to time t, rather than from noise at T: one sample for
    each, and count and shape are theirs. progress: show it; by default where somebody sees it.
    Raises SettingsError for a micro_batch that is no multiple of 16, or more steps than the schedule has.
    """
    origin = None
    if images is not None and t is not None:
        origin, count, shape = Origin(images, t), len(images), tuple(images.shape[1:])
    if count is None or shape is None or (images is None) != (t is None):
        raise TypeError("a sampling needs count and shape or, to start from images, images and t")
    request = SamplingRequest(
        count=count,
        shape=shape,
        seed=seed,
        first=first,
        condition=of_classes(label) if condition is None else condition,
        micro_batch=micro_batch,
        exact=exact,
        device=device,
        origin=origin,
    )
    with _share(f"sampling {count:,} images", progress) as show:
        return samples_of(model, as_sampler(sampler, model.path.T), request, show)


def train(
    source: str | Path | InMemory,
    *,
    labels: ArrayLike | None = None,
    vectors: ArrayLike | None = None,
    conditions: NDArray[Any] | Tensor | None = None,
    steps: int | None = None,
    minutes: float | None = None,
    settings: Settings | Mapping[str, Any] | None = None,
    network: nn.Module | None = None,
    run: Path | str | None = None,
    weights_from: Path | str | None = None,
    watch: Watch = nobody,
    progress: bool | None = None,
) -> Run:
    """Train on data to the end, or go on where the run in this folder stands. The twin of `kakusan train`.

    source: a bundled name, a folder of images, an array file; or, in memory, a NumPy array of shape
    (n, height, width, channels), (n, height, width) or (n, 2), a tensor (n, channels, height, width), or a `Dataset`.
    labels, vectors, conditions: with an array, the class of each image, numbers (n, k) that describe it, an image that
    belongs to it (in the axes of the data): what is given is learned, and samples can be asked for by it.
    settings: {"training.batch_size": 64}, by the names of the command line's flags, or all of them, from
    `kakusan.settings_for(source)`. run: its folder; by default a new one, runs/NAME.
    watch: called with each event of the training; progress: show it, by default where somebody sees it. Warnings, and
    what was chosen in reading the data, are shown with it, or else go to the logger "kakusan".
    Ctrl-C saves the step that it comes in, and is then raised; the same call with run= goes on.

    network: a module of your own in place of one that the settings build, called with (x_t, time, condition) where
    time = t - 1, which gives as many channels as x_t has (twice as many where process.variance is learned). It is
    trained in place, from the weights it has, and ends with those of the last step; the run has the averaged ones. The
    folder keeps no code: give the same module to this function, `Run.open` or `Run.resume` to come back to it.
    A loss of your own: see docs/python.md. Raises SettingsError where the network does not fit, before any training.
    """
    budget = {"training.steps": steps, "training.minutes": minutes}
    columns = {"labels": labels, "vectors": vectors, "conditions": conditions}
    name, dataset, asked = _opened(source, columns, settings, budget)
    folder = Path(run) if run is not None else free_folder(name)
    parent = None if weights_from is None else Path(weights_from)
    with _reading(progress) as read:
        trainer = launch(
            asked, folder, weights_from=parent, progress=read, in_memory=dataset, network=network
        )
    return _trained(trainer, watch, progress)


def plan(
    source: str | Path | InMemory,
    *,
    labels: ArrayLike | None = None,
    vectors: ArrayLike | None = None,
    conditions: NDArray[Any] | Tensor | None = None,
    steps: int | None = None,
    minutes: float | None = None,
    settings: Settings | Mapping[str, Any] | None = None,
    network: nn.Module | None = None,
    weights_from: Path | str | None = None,
    progress: bool | None = None,
) -> Plan:
    """The training that `train` would begin with the same arguments, and what it is likely to come to.

    The twin of `kakusan plan`: nothing is written, and a network of your own is left as it is. Raises what `train`
    raises before its first step. The plan has the `settings` of the run and a `forecast`; `to_dict()` is for JSON.
    """
    budget = {"training.steps": steps, "training.minutes": minutes}
    columns = {"labels": labels, "vectors": vectors, "conditions": conditions}
    _, dataset, asked = _opened(source, columns, settings, budget)
    parent = None if weights_from is None else Path(weights_from)
    with _reading(progress) as read:
        threads = torch.get_num_threads()
        try:
            return planned(asked, weights_from=parent, progress=read, in_memory=dataset, network=network)
        finally:
            torch.set_num_threads(threads)


def _opened(
    source: str | Path | InMemory,
    columns: Mapping[str, Any],
    settings: Settings | Mapping[str, Any] | None,
    budget: Mapping[str, Any],
) -> tuple[str, Dataset | None, Requested]:
    """The name of the data, those that are in memory, and the settings in a call. columns: what comes with samples."""
    name = str(source) if isinstance(source, str | Path) else ""
    if name and all(column is None for column in columns.values()):
        return name, None, _asked(name, None, settings, budget)
    wanted = settings if isinstance(settings, Settings) else _in_the_call(settings or {})
    dataset = open_data(source, wanted.data, **columns)
    return dataset.name, dataset, _asked(dataset.name, dataset, settings, budget)


def _asked(
    name: str,
    dataset: Dataset | None,
    settings: Settings | Mapping[str, Any] | None,
    budget: Mapping[str, Any],
) -> Requested:
    """The settings in a call, and which of them it chooses: those that are given one by one, or are not as usual."""
    usual = settings_for(name)
    given = {key: value for key, value in budget.items() if value is not None}
    if isinstance(settings, Settings):
        wanted = settings
        before = usual_for(wanted, usual)
        chosen = {key for key, value in flat(wanted).items() if value != before[key]}
    else:
        wanted, chosen, given = usual, set(), {**(settings or {}), **given}
    if dataset is not None:
        learned = {"labels": dataset.labels, "vectors": dataset.vectors, "pairs": dataset.pairs}
        for key in (key for key, column in learned.items() if column is not None):
            given.setdefault(f"data.{key}", True)
    wanted = _in_the_call(given, wanted)
    source = absolute_source(name) if dataset is None else ""
    return Requested(with_values(wanted, {"data.source": source}), frozenset(chosen | set(given)))


def _in_the_call(values: Mapping[str, Any], base: Settings | None = None) -> Settings:
    """The settings of dotted names laid over a base. Raises SettingsError for a name without a section."""
    sections: dict[str, dict[str, Any]] = {}
    for dotted, value in values.items():
        section, _, name = dotted.replace("-", "_").partition(".")
        if not name:
            raise SettingsError(f"{dotted!r} is no setting", "their names are dotted: training.batch_size")
        sections.setdefault(section, {})[name] = value
    return from_mapping(sections, "the call", base)


def _trained(trainer: Trainer, watch: Watch, progress: bool | None) -> Run:
    """The run, trained to its end; or Ctrl-C, once the step that it came in is saved."""
    run = trainer.run
    stop = StopRequest()
    listens = stop if threading.current_thread() is threading.main_thread() else nullcontext()
    with _reading(progress) as read, training_shown(run, progress) as show, listens:
        for event in trainer.events(stop, read):
            if isinstance(event, Began):
                stop.arm()
            show(event)
            watch(event)
    if stop.signal:
        signal.raise_signal(stop.signal)  # for whoever would have had it
    return Run(RunFolder.open(run.folder), trainer.in_memory, trainer.network)


def import_model(
    source: str | Path,
    run: Path | str | None = None,
    *,
    size: int | tuple[int, int] | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> importing.Imported:
    """A run from a folder of diffusers, or from hf:owner/name[@revision]; by default in runs/NAME.

    size: height and width of its images, for models that do not say. Nothing of the folder is run; pickled weights are
    opened in a process of their own. Raises ModelError for what is not known here, by key and value.
    """
    imported = importing.import_model(source, run, size=size, say=say)
    return replace(imported, run=Run(imported.run.files))
