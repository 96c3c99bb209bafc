"""Models as diffusers itself makes and saves them: random weights, none of them zero, seeds fixed."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import diffusers
import torch
from torch import Tensor

from kakusan.interop.importing import Imported
from kakusan.run import Run

DOWN, ATTENTION_DOWN = "DownBlock2D", "AttnDownBlock2D"
UP, ATTENTION_UP = "UpBlock2D", "AttnUpBlock2D"


@dataclass(frozen=True)
class Theirs:
    """What their classes are made of."""

    unet: Mapping[str, Any]
    scheduler: Mapping[str, Any] = field(default_factory=dict)
    ddim: bool = False
    seed: int = 0

    def network(self) -> Any:
        model: Any = diffusers.UNet2DModel
        return awake(model(**self.unet).eval(), self.seed)

    def make_scheduler(self) -> Any:
        kind: Any = diffusers.DDIMScheduler if self.ddim else diffusers.DDPMScheduler
        return kind(**self.scheduler)

    def save(self, folder: Path) -> Any:
        """The whole pipeline, as `save_pretrained` writes it; the network comes back."""
        network, pipeline = self.network(), diffusers.DDIMPipeline if self.ddim else diffusers.DDPMPipeline
        made: Any = pipeline(unet=network, scheduler=self.make_scheduler())
        made.save_pretrained(folder)
        return network


def awake(network: Any, seed: int) -> Any:
    """The network with random weights, every one of them non-zero, of the size that they have after some training."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in network.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        noise += torch.where(noise < 0, -1e-3, 1e-3)
        if parameter.dim() > 1:
            parameter.data = noise * (0.7 / parameter[0].numel() ** 0.5)
        else:
            parameter.data = ("norm" in name and name.endswith("weight")) + 0.1 * noise
    return network


GOOGLE: dict[str, Any] = {
    "act_fn": "silu",
    "attention_head_dim": None,
    "center_input_sample": False,
    "downsample_padding": 0,
    "flip_sin_to_cos": False,
    "freq_shift": 1,
    "layers_per_block": 2,
    "mid_block_scale_factor": 1,
    "norm_eps": 1e-6,
    "time_embedding_type": "positional",
}
FIXED_LARGE = {"variance_type": "fixed_large", "clip_sample": True}

MODELS: dict[str, Theirs] = {
    "ddpm-cifar10-32, narrower": Theirs(
        {
            **GOOGLE,
            "block_out_channels": [32, 64, 64, 64],
            "down_block_types": [DOWN, ATTENTION_DOWN, DOWN, DOWN],
            "up_block_types": [UP, UP, ATTENTION_UP, UP],
            "norm_num_groups": 32,
            "sample_size": 32,
        },
        FIXED_LARGE,
    ),
    "ddpm-cat-256, narrower": Theirs(
        {
            **GOOGLE,
            "block_out_channels": [16, 16, 32, 32, 64, 64],
            "down_block_types": [DOWN, DOWN, DOWN, DOWN, ATTENTION_DOWN, DOWN],
            "up_block_types": [UP, ATTENTION_UP, UP, UP, UP, UP],
            "norm_num_groups": 16,
            "sample_size": 64,
        },
        {"variance_type": "fixed_small", "clip_sample": True},
        seed=1,
    ),
    "their training script, narrower": Theirs(
        {
            "sample_size": 64,
            "in_channels": 3,
            "out_channels": 3,
            "layers_per_block": 2,
            "block_out_channels": [32, 32, 64, 64, 96, 96],
            "down_block_types": [DOWN, DOWN, DOWN, DOWN, ATTENTION_DOWN, DOWN],
            "up_block_types": [UP, ATTENTION_UP, UP, UP, UP, UP],
        },
        {"num_train_timesteps": 1000, "beta_schedule": "linear", "prediction_type": "epsilon"},
        seed=2,
    ),
    "all defaults, narrower": Theirs(
        {"sample_size": 16, "block_out_channels": [32, 64, 96, 128]},
        {"beta_schedule": "scaled_linear"},
        seed=3,
    ),
    "classes": Theirs(
        {
            "sample_size": 16,
            "in_channels": 1,
            "out_channels": 1,
            "block_out_channels": [32, 64],
            "down_block_types": [DOWN, ATTENTION_DOWN],
            "up_block_types": [ATTENTION_UP, UP],
            "num_class_embeds": 5,
            "attention_head_dim": 16,
        },
        {"beta_schedule": "squaredcos_cap_v2", "prediction_type": "v_prediction"},
        seed=4,
    ),
    "learned variance, scale and shift": Theirs(
        {
            "sample_size": [16, 24],
            "out_channels": 6,
            "block_out_channels": [32, 48, 64],
            "down_block_types": [DOWN, ATTENTION_DOWN, DOWN],
            "up_block_types": [UP, UP, ATTENTION_UP],
            "resnet_time_scale_shift": "scale_shift",
            "norm_num_groups": 16,
            "layers_per_block": 1,
            "act_fn": "swish",
        },
        {"beta_schedule": "squaredcos_cap_v2", "variance_type": "learned_range"},
        seed=5,
    ),
    "scale and shift with a norm in the middle, zero terminal SNR": Theirs(
        {
            "sample_size": 8,
            "block_out_channels": [24, 40],
            "down_block_types": [ATTENTION_DOWN, ATTENTION_DOWN],
            "up_block_types": [ATTENTION_UP, ATTENTION_UP],
            "resnet_time_scale_shift": "scale_shift",
            "attn_norm_num_groups": 8,
            "norm_num_groups": 8,
            "mid_block_scale_factor": 1.4142135,
            "dropout": 0.1,
        },
        {"rescale_betas_zero_snr": True, "prediction_type": "sample", "timestep_spacing": "trailing"},
        seed=6,
    ),
    "no attention, heads that leave channels over, ddim": Theirs(
        {
            "sample_size": 12,
            "in_channels": 4,
            "out_channels": 4,
            "block_out_channels": [20, 28, 36],
            "down_block_types": [DOWN, ATTENTION_DOWN, DOWN],
            "up_block_types": [UP, DOWN.replace("Down", "Up"), UP],
            "norm_num_groups": 4,
            "add_attention": False,
            "attention_head_dim": 8,
            "downsample_padding": 0,
            "freq_shift": 0,
            "flip_sin_to_cos": False,
        },
        {"clip_sample": False, "timestep_spacing": "linspace", "num_train_timesteps": 250},
        ddim=True,
        seed=7,
    ),
    "no middle at all, odd width, betas one by one": Theirs(
        {
            "sample_size": 8,
            "block_out_channels": [15, 30],
            "down_block_types": [DOWN, "UNetResDownBlock2D"],
            "up_block_types": ["UNetResAttnUpBlock2D", UP],
            "norm_num_groups": 5,
            "mid_block_type": None,
            "attention_head_dim": 7,
            "time_embedding_dim": 40,
        },
        {
            "num_train_timesteps": 30,
            "trained_betas": [0.01 + 0.01 * i for i in range(30)],
            "clip_sample_range": 1.5,
        },
        seed=8,
    ),
    "sigmoid betas, one level": Theirs(
        {
            "sample_size": 8,
            "block_out_channels": [32],
            "down_block_types": [ATTENTION_DOWN],
            "up_block_types": [ATTENTION_UP],
            "layers_per_block": 3,
        },
        {
            "beta_schedule": "sigmoid",
            "beta_start": 1e-5,
            "beta_end": 0.03,
            "variance_type": "fixed_small_log",
        },
        seed=9,
    ),
}


@dataclass(frozen=True)
class Saved:
    """A model of theirs on the disk, in their memory, and as a run of ours."""

    model: Theirs
    folder: Path
    network: Any
    imported: Imported

    @property
    def run(self) -> Run:
        return self.imported.run

    def question(self, count: int = 3) -> tuple[Tensor, Tensor, Tensor | None]:
        """Images, times as networks are fed them, and labels where there are classes."""
        generator = torch.Generator().manual_seed(1)
        x_t = torch.randn(count, *self.run.data.shape, generator=generator)
        time = torch.tensor([0.0, 7.0, 999.0])[:count]
        classes = self.model.unet.get("num_class_embeds")
        return x_t, time, torch.arange(count) % classes if classes else None
