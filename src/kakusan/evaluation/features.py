"""Features of samples for distances: what a network that has looked at the data makes of them.

A classifier of the run's own training images where they have classes, an autoencoder of them where they have none, or a
network of the user's by path. Ours are trained the same way each time, for a number of steps, on one thread, so that a
figure can be had again; each is known by a hash, which stands beside every figure.
"""

import hashlib
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from kakusan.data.dataset import Dataset
from kakusan.data.space import noun_of
from kakusan.data.units import Real, Units
from kakusan.errors import DataError, ModelError, SettingsError
from kakusan.networks.inception import with_weights
from kakusan.networks.layers import CONVOLUTIONS
from kakusan.randomness import Purpose, permutation
from kakusan.shapes import Labels, Samples
from kakusan.storage.unpickling import read_bin

WIDTHS = (32, 64, 128)
"""Channels of the levels, each with half the sides of the one before."""
CODE = 64
"""Features of an autoencoder."""
STEPS, BATCH, RATE = 800, 64, 2e-3
"""About a minute for images of 28x28 on one core."""
GROUPS = 8
SMALLEST_SIDE = 4
AT_ONCE = 256
INCEPTION_AT_ONCE = 32
"""Of 299x299: their features of all layers take about 300 MB."""
WEIGHTS = (".pth", ".pt", ".bin", ".safetensors")
"""Endings of files of weights, which are those of InceptionV3."""
DIGITS = 8
"""Of a hash, in a name."""
FEW = 20
"""Training images of a class, on average, below which classes are not learned."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class FeatureMap:
    """A function from samples to features, and what it is called."""

    name: str
    """Its kind with the first digits of its hash, as in "classifier 3f9a01c2"."""
    words: str
    """Its origin, in words."""
    call: Callable[[Samples], Tensor]
    sha256: str = ""
    """Of the weights, or of the file that has them; empty where there are none."""

    @torch.no_grad()
    def __call__(self, x: Samples, progress: Progress = lambda _, __: None) -> NDArray[np.float64]:
        """(n, d) of samples in the network's units. Raises DataError where they are no rows of numbers."""
        parts: list[Tensor] = []
        for part in torch.split(x.float(), AT_ONCE):
            parts.append(self.call(part))
            progress(sum(map(len, parts)), len(x))
        if any(
            part.ndim != 2 or len(part) != len(of)
            for part, of in zip(parts, torch.split(x, AT_ONCE), strict=True)
        ):
            raise DataError(
                f"the features of {self.name} have shape {tuple(parts[0].shape)} for {len(x[:AT_ONCE])} samples",
                "a network of features gives one row of numbers for each sample",
            )
        return torch.cat(parts).double().numpy()


def known_by(kind: str, sha256: str, words: str, call: Callable[[Samples], Tensor]) -> FeatureMap:
    """Features whose name ends in the first digits of their hash."""
    return FeatureMap(f"{kind} {sha256[:DIGITS]}", words, call, sha256)


class Encoder(nn.Module):
    """Convolutions down to a few positions; features are the means over these."""

    def __init__(self, shape: tuple[int, ...], widths: tuple[int, ...] = WIDTHS) -> None:
        super().__init__()
        channels, *sides = shape
        kind = CONVOLUTIONS[len(sides)]
        blocks: list[nn.Module] = []
        for width in widths:
            halve = min(sides) > SMALLEST_SIDE and len(blocks) > 0
            blocks += [
                kind(channels, width, 3, stride=1 + halve, padding=1), nn.GroupNorm(GROUPS, width), nn.SiLU(),
                kind(width, width, 3, padding=1), nn.GroupNorm(GROUPS, width), nn.SiLU(),
            ]  # fmt: skip
            channels, sides = width, [math.ceil(side / (1 + halve)) for side in sides]
        self.body, self.sides = nn.Sequential(*blocks), tuple(sides)

    def forward(self, x: Samples) -> Tensor:
        means: Tensor = self.body(x).flatten(2).mean(2)
        return means


class Autoencoder(nn.Module):
    """A code of 64 numbers, from which a decoder makes the sample again."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.encoder = Encoder(shape)
        positions = math.prod(self.encoder.sides)
        self.code = nn.Linear(WIDTHS[-1] * positions, CODE)
        self.decoder = nn.Sequential(nn.Linear(CODE, 256), nn.SiLU(), nn.Linear(256, math.prod(shape)))

    def features(self, x: Samples) -> Tensor:
        code: Tensor = self.code(self.encoder.body(x).flatten(1))
        return code

    def forward(self, x: Samples) -> Tensor:
        again: Tensor = self.decoder(self.features(x))
        return again.view_as(x)


class Points(nn.Module):
    """Points are their own features."""

    def forward(self, x: Samples) -> Tensor:
        return x.flatten(1)


def features_of(
    dataset: Dataset, training: NDArray[np.int64], progress: Progress = lambda _, __: None
) -> FeatureMap:
    """Features for a run on these images: of a classifier where they have classes, else of an autoencoder."""
    if dataset.is_points:
        return FeatureMap("coordinates", "the coordinates themselves", Points())
    labels = dataset.labels
    if labels is not None and dataset.classes > 1 and len(training) >= FEW * dataset.classes:
        return _classifier(dataset, training, torch.from_numpy(labels), progress)
    return _autoencoder(dataset, training, progress)


def _classifier(
    dataset: Dataset, training: NDArray[np.int64], labels: Labels, progress: Progress
) -> FeatureMap:
    with repeatable():
        encoder = Encoder(dataset.shape)
        head = nn.Linear(WIDTHS[-1], dataset.classes)

        def loss(rows: NDArray[np.int64]) -> Tensor:
            return F.cross_entropy(head(encoder(dataset.x_0(rows))), labels[torch.from_numpy(rows)])

        train(nn.ModuleList([encoder, head]), training, loss, progress)
    words = f"a classifier of {_told(dataset, training)} into {dataset.classes} classes, {STEPS} steps"
    return known_by("classifier", hash_of(encoder), words, encoder.eval())


def _autoencoder(dataset: Dataset, training: NDArray[np.int64], progress: Progress) -> FeatureMap:
    with repeatable():
        network = Autoencoder(dataset.shape)

        def loss(rows: NDArray[np.int64]) -> Tensor:
            x = dataset.x_0(rows)
            return F.mse_loss(network(x), x)

        train(network, training, loss, progress)
    words = f"an autoencoder of {_told(dataset, training)}, {CODE} numbers each, {STEPS} steps"
    return known_by("autoencoder", hash_of(network), words, network.eval().features)


def _told(dataset: Dataset, training: NDArray[np.int64]) -> str:
    return f"{len(training):,} training {noun_of(dataset.shape).many}"


def train(
    network: nn.Module,
    images: NDArray[np.int64],
    loss: Callable[[NDArray[np.int64]], Tensor],
    progress: Progress,
    steps: int | None = None,
) -> None:
    """AdamW, its rate rising and falling once, over `STEPS` or as many steps as are given."""
    steps = STEPS if steps is None else steps
    optimizer = torch.optim.AdamW(network.parameters(), lr=RATE)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, steps)
    for step, rows in zip(range(steps), _batches(images), strict=False):
        optimizer.zero_grad()
        torch.autograd.backward(loss(rows))
        optimizer.step()
        rate.step()
        progress(step + 1, steps)


def _batches(images: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """Without end, each epoch in an order of its own."""
    epoch = 0
    while True:
        order = images[permutation(0, Purpose.EPOCH, epoch, len(images))]
        yield from (order[begin : begin + BATCH] for begin in range(0, len(order), BATCH))
        epoch += 1


@contextmanager
def repeatable() -> Iterator[None]:
    """A context in which torch draws and adds the same each time: a seed of its own, one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            yield
    finally:
        torch.set_num_threads(threads)


def hash_of(network: nn.Module) -> str:
    """The SHA-256 of its weights, in hexadecimal digits."""
    digest = hashlib.sha256()
    for name, value in network.state_dict().items():
        digest.update(name.encode())
        digest.update(value.contiguous().numpy().tobytes())
    return digest.hexdigest()


def from_file(path: Path, units: Units | None = None) -> FeatureMap:
    """A network that makes features of samples in the network's units: an ONNX file, a graph of known operations, or
    the weights of the InceptionV3 of pytorch-fid, which are numbers alone (.safetensors; .pth is opened apart, as a
    table of tensors).

    PyTorch's own formats of programs are not read, since reading one unpickles what stands in it.
    units: of the samples. Raises SettingsError where the file is neither, onnxruntime is not installed, or the samples
    are of real values, which InceptionV3 has never seen; ModelError for other weights.
    """
    if path.suffix.lower() not in WEIGHTS:
        return _from_onnx(path)
    if isinstance(units, Real):
        raise SettingsError(
            f"{path.name} is of InceptionV3, which looks at pictures in [-1, 1], and these are real values",
            "where no features are named a network learns the run's own data; one for such values: an ONNX file",
        )
    return _inception(path)


def _inception(path: Path) -> FeatureMap:
    if not path.is_file():
        raise SettingsError(f"there is no file {path}")
    try:
        weights = load_file(path) if path.suffix.lower() == ".safetensors" else read_bin(path)
        network = with_weights(weights)
    except (SafetensorError, OSError, ValueError) as error:
        raise ModelError(
            f"{path} does not hold the weights of the InceptionV3 of pytorch-fid: {error}",
            "another network of features: as an ONNX file",
        ) from error

    def call(x: Samples) -> Tensor:
        if x.ndim != 4 or x.shape[1] not in (1, 3):
            raise DataError(
                f"InceptionV3 looks at grey or colour images, not at samples of shape {tuple(x.shape[1:])}"
            )
        return torch.cat([network(part) for part in torch.split(x, INCEPTION_AT_ONCE)])

    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return known_by(path.name, digest, f"InceptionV3 with the weights of {path.name}", call)


def _from_onnx(path: Path) -> FeatureMap:
    if find_spec("onnxruntime") is None:
        raise SettingsError(
            "a network of features in an ONNX file needs onnxruntime", "pip install 'kakusan[onnx]'"
        )
    import onnxruntime

    try:
        content = path.read_bytes()
        session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has errors of its own, without a common class
        raise SettingsError(
            f"{path} is no network of features: {_first_line(error)}",
            "torch.onnx.export(network, (x,), 'features.onnx', dynamic_shapes=...): of samples (n, channels, ...),",
            "levels in [-1, 1], to rows (n, d)",
        ) from error
    name = session.get_inputs()[0].name

    def call(x: Samples) -> Tensor:
        try:
            out = session.run(None, {name: x.contiguous().numpy()})[0]
        except Exception as error:
            raise DataError(
                f"the network in {path} does not take samples of shape {tuple(x.shape)}: {_first_line(error)}"
            ) from error
        return torch.from_numpy(out)

    digest = hashlib.sha256(content).hexdigest()
    return known_by(path.name, digest, f"the network in {path.name}", call)


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
