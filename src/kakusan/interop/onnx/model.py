"""The denoising network as ONNX: one file with its weights, standard operators of opset 20, batches of any size.

Inputs: ``x_t`` float32 (batch, channels, height, width), ``time`` float32 (batch,), which is t - 1 (or stands for the
log-SNR, where the schedule was learned: the table has it), and, for a network with classes, ``label`` int64 (batch,).
Output: ``output`` float32, of the images' shape or with twice the channels.
"""

import copy
import importlib.util
import logging
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from kakusan.errors import ModelError
from kakusan.shapes import Condition

if TYPE_CHECKING:
    from onnx import ModelProto

OPSET = 20
TOLERANCE = 1e-4
"""The largest difference from the network that an export may have: a hundred times what rounding makes of it."""
LARGEST = 2**31 - 2**24
"""Bytes of weights in one file: a protobuf message ends at 2 GiB, and the graph needs room too."""
NEEDED = ("onnx", "onnxscript", "onnxruntime")
INPUTS = ("x_t", "time", "label")
EXAMPLES = 3
"""The batch that is traced: 1 would be taken for a constant."""

Shape = tuple[int, int, int]
"""Channels, height, width."""


def onnx_model(network: nn.Module, shape: Shape, *, classes: bool) -> bytes:
    """The network (x_t, time[, label]) -> output as the bytes of an ONNX file, checked.

    Raises ModelError where onnx, onnxscript or onnxruntime is missing, and for weights of more than 2 GB.
    """
    _check_packages()
    _check_size(network)
    import onnx

    model = _exported(_plain(network), shape, classes=classes)
    _forget_the_source(model)
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())


def largest_difference(model: bytes, network: nn.Module, shape: Shape, *, classes: bool) -> float:
    """Largest difference of onnxruntime's outputs from ours, relative to the largest of ours or 1; inf for NaN.

    Requested at random images, the same each time, in batches of 1 and 3 at times from 0 to 999.
    """
    _check_packages()
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    plain = _plain(network)
    differences = []
    for times in ([999.0], [0.0, 421.0, 998.0]):
        inputs = _questions(plain, shape, times, classes=classes)
        feeds = {name: value.numpy() for name, value in zip(INPUTS, inputs, strict=False)}
        with torch.no_grad():
            ours = plain(*inputs)
        theirs = torch.from_numpy(session.run(["output"], feeds)[0])
        differences.append((theirs - ours).abs().max() / ours.abs().max().clamp(min=1))
    return float(torch.stack(differences).max().nan_to_num(nan=math.inf))


def _check_packages() -> None:
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise ModelError(
            f"an export to onnx needs onnx, onnxscript and onnxruntime; not installed: {', '.join(missing)}",
            "pip install 'kakusan[onnx]'",
        )


def _check_size(network: nn.Module) -> None:
    size = 4 * sum(tensor.numel() for tensor in (*network.parameters(), *network.buffers()))
    if size > LARGEST:
        raise ModelError(
            f"the weights are {size / 1e9:.1f} GB in float32, and an ONNX file holds no more than 2 GB",
            "only a network with fewer weights fits: a smaller --network.width",
        )


class _Labelled(nn.Module):
    """A network whose condition is a tensor of labels, which ONNX can pass on; the null label is a number too."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x_t: Tensor, time: Tensor, label: Tensor | None = None) -> Tensor:
        out: Tensor = self.network(x_t, time, None if label is None else Condition(label=label))
        return out


def _plain(network: nn.Module) -> nn.Module:
    """A copy as it is exported and compared: float32, on the CPU, weights in contiguous layout, nothing dropped."""
    plain = _Labelled(copy.deepcopy(network)).to("cpu", torch.float32).eval()
    return plain.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload,no-any-return]


def _questions(network: nn.Module, shape: Shape, times: list[float], *, classes: bool) -> tuple[Tensor, ...]:
    """One random image for each time, in the order of `INPUTS`; the labels go through the table of classes."""
    x_t = torch.randn(len(times), *shape, generator=torch.Generator().manual_seed(0))
    if not classes:
        return x_t, torch.tensor(times)
    rows = min(table.num_embeddings for table in network.modules() if isinstance(table, nn.Embedding))
    return x_t, torch.tensor(times), torch.arange(len(times)) % rows


def _exported(network: nn.Module, shape: Shape, *, classes: bool) -> "ModelProto":
    inputs = _questions(network, shape, [0.0] * EXAMPLES, classes=classes)
    batch = torch.export.Dim("batch", min=1)
    with _quiet():
        program: Any = torch.onnx.export(
            network,
            inputs,
            input_names=list(INPUTS[: len(inputs)]),
            output_names=["output"],
            opset_version=OPSET,
            dynamic_shapes=({0: batch},) * len(inputs),
            dynamo=True,
            verbose=False,
        )
    model: ModelProto = program.model_proto
    return model


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's talk: of torchvision, which is not needed, of its own deprecations, of renamed axes."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _forget_the_source(model: "ModelProto") -> None:
    """Take out the exporter's notes: stack traces with the paths of this machine, a third of a small file."""
    graph = model.graph
    for part in (graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        part.ClearField("metadata_props")
