"""The FLOP of a network, counted as it computes: of convolutions and products, where a multiply-add is two."""

from dataclasses import replace

import torch
from torch.utils.flop_counter import FlopCounterMode

from kakusan.training.state import Task
from kakusan.training.step import drawn


def flop_of_step(task: Task) -> int:
    """Of one image, forward and backward."""
    fed = drawn(task.state, task.batches, replace(task.settings.training, batch_size=1, accumulation=1), 0, 0)
    weights = [weight for weight in task.network.parameters() if weight.requires_grad]
    with FlopCounterMode(display=False) as counter:
        losses = task.loss.per_image(task.model, fed.x_0, fed.t, fed.noise, fed.condition)
        torch.autograd.grad(losses.sum(), weights, allow_unused=True)
    return int(counter.get_total_flops())


@torch.no_grad()
def flop_of_call(task: Task) -> int:
    """Of one image in a call of the network."""
    device = task.state.device
    x_t = torch.zeros(1, *task.record.shape, device=device)
    condition = None if task.shown is None else task.shown.rows(slice(0, 1)).to(device)
    with FlopCounterMode(display=False) as counter:
        task.model.denoiser.output(x_t, torch.ones(1, dtype=torch.float64), condition)
    return int(counter.get_total_flops())
