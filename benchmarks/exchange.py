"""The whole CIFAR-10 network of Ho et al. from diffusers and back: how long it takes, and how far the answers differ.

    python benchmarks/exchange.py                    35.7 M random weights: three answers, one import, one export

Both sides are also compared with diffusers in float64, which tells whose rounding the difference is.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import diffusers
import torch
from measuring import leave, report

from kakusan.interop.exporting import export_model
from kakusan.interop.importing import import_model

Result = TypeVar("Result")

CIFAR: dict[str, Any] = {
    "sample_size": 32,
    "block_out_channels": [128, 256, 256, 256],
    "down_block_types": ["DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"],
    "attention_head_dim": None,
    "downsample_padding": 0,
    "flip_sin_to_cos": False,
    "freq_shift": 1,
    "norm_eps": 1e-6,
}
WEIGHTS = "unet/diffusion_pytorch_model.safetensors"


def saved(folder: Path, config: dict[str, Any]) -> Any:
    """Their pipeline with random weights in a folder; the network comes back."""
    make: Any = diffusers.UNet2DModel
    torch.manual_seed(0)
    network = make(**config).eval()
    for name, weight in network.named_parameters():
        around = float("norm" in name and name.endswith("weight"))
        scale = 0.7 / weight[0].numel() ** 0.5 if weight.dim() > 1 else 0.1
        weight.data = around + scale * torch.randn_like(weight)
    pipeline: Any = diffusers.DDPMPipeline
    scheduler: Any = diffusers.DDPMScheduler
    pipeline(unet=network, scheduler=scheduler(variance_type="fixed_large")).save_pretrained(folder)
    return network


def timed(work: Callable[[], Result]) -> tuple[Result, float]:
    begun = time.perf_counter()
    return work(), time.perf_counter() - begun


def exchange(config: dict[str, Any], folder: Path) -> dict[str, float | bool]:
    """What there is to tell of one model, there and back."""
    theirs = saved(folder / "theirs", config)
    made, import_seconds = timed(lambda: import_model(folder / "theirs", folder / "run"))
    ours = made.run.load(device="cpu").network
    x_t = torch.randn(3, 3, config["sample_size"], config["sample_size"])
    time_ = torch.tensor([0.0, 7.0, 999.0])
    with torch.no_grad():
        expected, answer = theirs(x_t, time_).sample, ours(x_t, time_)
        truth = theirs.double()(x_t.double(), time_).sample
    _, export_seconds = timed(lambda: export_model(made.run, "diffusers", folder / "out"))
    return {
        "parameters": made.parameters,
        "largest answer": float(expected.abs().max()),
        "ours - theirs": float((answer - expected).abs().max()),
        "ours - float64": float((answer - truth).abs().max()),
        "theirs - float64": float((expected - truth).abs().max()),
        "import, s": import_seconds,
        "export, s": export_seconds,
        "the same bytes": (folder / "theirs" / WEIGHTS).read_bytes()
        == (folder / "out" / WEIGHTS).read_bytes(),
    }


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="a quarter of the channels, for a quick look")
    parser.add_argument("--json", action="store_true", help="print JSON")
    asked = parser.parse_args(arguments)
    config = {**CIFAR, "block_out_channels": [32, 64, 64, 64]} if asked.small else CIFAR
    with TemporaryDirectory() as folder:
        figures = exchange(config, Path(folder))
    lines = (
        f"{what:<18}{value:.3g}" if isinstance(value, float) else f"{what:<18}{value}"
        for what, value in figures.items()
    )
    return report(figures, "\n".join(lines), as_json=asked.json)


if __name__ == "__main__":
    leave(main)
