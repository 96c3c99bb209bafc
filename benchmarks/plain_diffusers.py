"""The script that somebody would write with diffusers on an evening, to be beaten: images.npz in, samples.npz out.

python benchmarks/plain_diffusers.py images.npz samples.npz --minutes 15 --count 2000

1.6 M parameters, float32, batches of 64, AdamW 1e-3, linear schedule and eps, averaged weights; then DDIM in 50 steps,
at diffusers' own times ("leading": `images`) and at those that start at T ("trailing": `images_trailing`).
Needs `pip install 'kakusan[bench]'`.
"""

import argparse
import time
from typing import Any

import diffusers
import numpy as np
import torch
from diffusers.training_utils import EMAModel
from torch.nn import functional as F

BATCH, RATE, CALLS = 64, 1e-3, 50


def network(channels: int, size: int) -> Any:
    """A small UNet2DModel for images of this size."""
    unet: Any = diffusers.UNet2DModel
    return unet(
        sample_size=size,
        in_channels=channels,
        out_channels=channels,
        layers_per_block=2,
        block_out_channels=(32, 64, 64),
        down_block_types=("DownBlock2D", "DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
    )


def train(model: Any, x_0: torch.Tensor, seconds: float) -> tuple[Any, int]:
    """The averaged weights after so many seconds, and the number of steps."""
    scheduler: Any = diffusers.DDPMScheduler
    schedule = scheduler(num_train_timesteps=1000)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE)
    ema: Any = EMAModel(model.parameters(), decay=0.9999, use_ema_warmup=True, inv_gamma=1.0, power=0.75)
    end, steps = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        for rows in torch.split(torch.randperm(len(x_0)), BATCH):
            clean, t = x_0[rows], torch.randint(0, 1000, (len(rows),))
            noise = torch.randn_like(clean)
            loss = F.mse_loss(model(schedule.add_noise(clean, noise, t), t).sample, noise)
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            ema.step(model.parameters())
            steps += 1
            if time.monotonic() >= end:
                break
    return ema, steps


@torch.no_grad()
def sample(model: Any, shape: tuple[int, int, int], count: int, spacing: str) -> np.ndarray[Any, Any]:
    """uint8 images by DDIM in 50 steps."""
    scheduler: Any = diffusers.DDIMScheduler
    schedule = scheduler(num_train_timesteps=1000, timestep_spacing=spacing)
    schedule.set_timesteps(CALLS)
    images = []
    for start in range(0, count, BATCH):
        x = torch.randn(min(BATCH, count - start), *shape)
        for t in schedule.timesteps:
            x = schedule.step(model(x, t).sample, t, x).prev_sample
        images.append(x)
    levels = (torch.cat(images).clamp(-1, 1) + 1) * 127.5
    return levels.round().byte().permute(0, 2, 3, 1).numpy()


def main() -> None:
    """Train, sample, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("images", help=".npz with images (n, height, width, channels), uint8")
    parser.add_argument("samples", help=".npz to write")
    parser.add_argument("--minutes", type=float, default=15)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--threads", type=int, help="default: torch's")
    asked = parser.parse_args()
    if asked.threads:
        torch.set_num_threads(asked.threads)
    torch.manual_seed(0)
    levels = np.load(asked.images)["images"]
    x_0 = torch.from_numpy(levels).permute(0, 3, 1, 2).float().contiguous() / 127.5 - 1
    channels, size, _ = x_0.shape[1:]
    model = network(channels, size)
    ema, steps = train(model, x_0, 60 * asked.minutes)
    ema.copy_to(model.parameters())
    model.eval()
    begun = time.monotonic()
    images = sample(model, (channels, size, size), asked.count, "leading")
    seconds = time.monotonic() - begun
    trailing = sample(model, (channels, size, size), asked.count, "trailing")
    figures = {"steps": steps, "parameters": sum(p.numel() for p in model.parameters()), "seconds": seconds}
    np.savez(asked.samples, images=images, images_trailing=trailing, **figures)


if __name__ == "__main__":
    main()
