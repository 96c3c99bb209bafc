"""Images of a run to the content of a file, and back to the last bit.

To read is to ask the network the same questions in the same order, and to get the same bits. So it runs in float32
on the CPU, with the batches and the number of threads that the file states; a fingerprint says beforehand whether
the bits are the same here, and what is left of the stack says afterwards whether they were.
"""

import hashlib
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from kakusan.config.parallel import one_part
from kakusan.config.settings import answered
from kakusan.data import Dataset
from kakusan.data.dataset import Progress as Reading
from kakusan.data.dataset import silent
from kakusan.data.units import Levels
from kakusan.errors import DataError, RunError, quoted
from kakusan.evaluation.coding.calibration import Calibrated
from kakusan.evaluation.coding.chain import Chain, batches, pace_for
from kakusan.evaluation.coding.container import CHECK, DIGEST, Packed, packed_names, stored
from kakusan.evaluation.coding.options import CodingOptions
from kakusan.evaluation.coding.plan import MEASURED_IMAGES, Plan, planned
from kakusan.evaluation.coding.reading import images_of
from kakusan.evaluation.coding.stack import EmptyStackError, Stack
from kakusan.run import Loaded, Run
from kakusan.shapes import Samples
from kakusan.training.validation import spread

SEED = 0
"""Of the first bits that are borrowed."""
MOST_MEASURED = 1 << 21
"""Values of the images that a plan is made with."""
USUAL = CodingOptions()

Progress = Callable[[float, str], None]
Images = NDArray[np.uint8]
"""(n, channels, ...), levels."""


def quiet(share: float, words: str) -> None:
    """A progress callback that does nothing."""


@dataclass(frozen=True)
class Compression:
    """Compressed images, and what they take."""

    packed: Packed
    bound: float
    """The bits of all images by the bound of this chain, with the draws that were made."""
    seconds: float

    @property
    def values(self) -> int:
        """Of all images."""
        return self.packed.count * int(np.prod(self.packed.shape))

    @property
    def image_bytes(self) -> int:
        """The images alone, without what is needed to read them and their names."""
        return len(self.packed.state) + len(self.packed.words)

    def as_json(self) -> dict[str, float | int]:
        """The figures by name."""
        size = len(self.packed.to_bytes())
        return {
            "images": self.packed.count,
            "bytes": size,
            "bytes_of_images": self.image_bytes,
            "bytes_of_names": len(self.packed.names),
            "bits_per_dim": 8 * size / self.values,
            "bits_per_dim_of_images": 8 * self.image_bytes / self.values,
            "net_bound_bits_per_dim": self.bound / self.values,
            "steps": len(self.packed.times),
            "seconds": round(self.seconds, 2),
            "seconds_an_image": self.seconds / self.packed.count,
        }


def compress(
    run: Run,
    source: Path | Dataset,
    options: CodingOptions = USUAL,
    *,
    reading: Reading = silent,
    progress: Progress = quiet,
) -> Compression:
    """Images in as few bytes as the run's averaged weights know of them, to the last bit. Nothing is written.

    source: a folder of images, whose names are kept, an array file, a built-in name, or a `Dataset`.
    Raises DataError for images that the run knows nothing of, or that could not be kept as they are.
    """
    begun = time.perf_counter()
    images, names = images_of(run, source, reading)
    loaded = run.load(device="cpu", precision="fp32")
    threads = options.threads or answered(loaded.settings.machine.threads)
    with one_part(threads):
        plan = _plan(loaded, images, options, progress)
        chain, pace = _chain(loaded, run.data.shape, plan.variance), pace_for(plan.bits)
        stack, bound = Stack(seed=SEED), 0.0
        for batch in batches(len(images), pace):
            bound += chain.push(stack, images[batch])
            progress(batch.stop / len(images), "compressing")
        fingerprint = _fingerprint(chain, len(images), pace)
    state, words = stored(stack)
    packed = Packed(
        model=identity(loaded),
        step=loaded.step,
        made_with=made_with(),
        fingerprint=fingerprint,
        threads=threads,
        shape=run.data.shape,
        levels=_levels(loaded),
        count=len(images),
        pace=pace,
        times=plan.times,
        grouping=plan.variance.grouping,
        errors=b"".join(plan.variance.codes),
        names=packed_names(names),
        state=state,
        words=words,
    )
    return Compression(packed, bound, time.perf_counter() - begun)


def decompress(run: Run, packed: Packed, name: str = "the file", *, progress: Progress = quiet) -> Images:
    """The images, as they were. name: of the file, for errors.

    Raises RunError where they were compressed with another model, or this machine computes other bits than the one
    where they were; DataError where what comes out is not what was put in.
    """
    loaded = _loaded(run, packed, name)
    if max(packed.times) != loaded.model.path.T:
        raise DataError(f"{name} is damaged: its chain does not begin at T = {loaded.model.path.T}")
    chain = _chain(loaded, packed.shape, Calibrated(packed.times, packed.grouping, packed.codes))
    with one_part(packed.threads):
        if _fingerprint(chain, packed.count, packed.pace) != packed.fingerprint:
            raise RunError(
                f"{name} was compressed where the network gives other last bits than here",
                f"there: {packed.made_with}; here: {made_with()}",
                "read it there, or with the same version of torch on the same kind of processor",
            )
        stack, parts = packed.stack(), []
        for batch in reversed(batches(packed.count, packed.pace)):
            try:
                parts.append(chain.pop(stack, batch.stop - batch.start))
            except EmptyStackError as error:
                raise DataError(f"{name} is damaged: it ends before its images do") from error
            progress(1 - batch.start / packed.count, "decompressing")
    if not stack.is_as_begun(SEED):
        raise DataError(f"{name} gives other images than those that were compressed")
    return np.concatenate(parts[::-1])


def identity(loaded: Loaded) -> bytes:
    """The first bytes of SHA-256 of all that a guess depends on: weights, path, and what an output means."""
    model, digest = loaded.model, hashlib.sha256()
    for key, tensor in sorted(loaded.network.state_dict().items()):
        digest.update(f"{key} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    times = torch.arange(model.path.T + 1, dtype=torch.float64)
    for column in model.path.at(times):
        digest.update(column.numpy().tobytes())
    digest.update(f"{model.denoiser.predicts} {model.clip} {model.levels}".encode())
    return digest.digest()[:DIGEST]


def made_with() -> str:
    """The version of torch and the kind of processor."""
    return f"torch {metadata.version('torch')}, {platform.machine()}"


def _plan(loaded: Loaded, images: Images, options: CodingOptions, progress: Progress) -> Plan:
    """The plan for these images, by some of them."""
    some = spread(np.arange(len(images)), max(1, min(MEASURED_IMAGES, MOST_MEASURED // images[0].size)))
    x_0 = _encoded(loaded, images[some])
    return planned(
        loaded.model,
        x_0,
        images.size,
        steps=options.steps,
        progress=lambda share: progress(share, "looking for the best steps"),
    )


def _chain(loaded: Loaded, shape: tuple[int, ...], variance: Calibrated) -> Chain:
    return Chain(replace(loaded.model, variance=variance), variance.times, shape)


def _encoded(loaded: Loaded, images: Images) -> Samples:
    return Levels(_levels(loaded)).encode(np.moveaxis(images, 1, -1).copy())


def _levels(loaded: Loaded) -> int:
    assert loaded.model.levels is not None
    return loaded.model.levels


def _fingerprint(chain: Chain, count: int, pace: int) -> bytes:
    """Of the network in batches of each size that there is."""
    sizes = {batch.stop - batch.start for batch in batches(count, pace)}
    return chain.fingerprint(sorted(sizes))[:CHECK]


def _loaded(run: Run, packed: Packed, name: str) -> Loaded:
    """The model that these images were compressed with. Raises RunError where this run has another."""
    if (packed.shape, packed.levels) != (run.data.shape, getattr(run.data.units, "levels", None)):
        raise RunError(
            f"{name} was compressed with another run than {run.folder}: it holds samples of shape {packed.shape}"
            f" with {packed.levels} levels"
        )
    is_kept = packed.step in run.files.steps
    loaded = run.load(step=packed.step if is_kept else None, device="cpu", precision="fp32")
    if identity(loaded) != packed.model:
        raise RunError(
            f"{name} was compressed with other weights than those of {run.folder} at step {loaded.step}",
            f"they were those of step {packed.step}: name the run, or a copy of it, as it was then",
            f"what there is: ls {quoted(run.files.checkpoints)}",
        )
    return loaded
