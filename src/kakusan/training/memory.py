"""The memory that a training needs, part by part, before it begins.

On a CPU it is within 15 % of what the system counts; benchmarks/README.md ("The forecast of a plan") has the figures.
"""

import math
from dataclasses import dataclass

import numpy as np

from kakusan.config.settings import WHEN_DONE, answered
from kakusan.training.ladder import bytes_of_an_image
from kakusan.training.optimizers import moments_in_all
from kakusan.training.state import Task

PROGRAM = 390e6
"""Bytes of the program itself, on a CPU: Python, PyTorch with its threads, what they import."""
COPIES = 4.5
"""Of the weights: themselves, gradient, average, those set aside while pictures are made, and in bf16. Moments come
beside: AdamW has two, Muon one of a matrix."""
BACKWARD = 1.5
"""Times the activations that the forward pass keeps: the backward pass has gradients of some of them beside."""
COMPARED_VALUES = 1 << 29
"""Of training images that the report compares samples with, at the most: 2 GiB in float32."""
REPORT_COPIES = 3.5
"""Of these in float32, while the report looks for the nearest ones."""


@dataclass(frozen=True)
class Memory:
    """Bytes in use at the peak of a training and its report, in their parts."""

    program: float
    """0 on a GPU, in whose memory weights and activations are then; so for data and report."""
    data: float
    weights: float
    """The weights with gradient, moments and averages."""
    activations: float
    """Those of a micro-batch, with what the backward pass needs beside."""
    report: float
    """The training images that samples are compared with."""

    @classmethod
    def of(cls, task: Task) -> "Memory":
        """The memory of a training with these parts."""
        settings, prepared = task.settings, task.prepared
        training, images = settings.training, prepared.dataset.images
        rows = answered(training.batch_size) // answered(training.accumulation)
        weights = sum(p.numel() * p.element_size() for p in task.network.parameters())
        values = min(COMPARED_VALUES, len(prepared.split.training) * math.prod(prepared.dataset.shape))
        here = settings.machine.device == "cpu"
        gradients = answered(settings.machine.workers) - 1  # of the other parts, until they are added
        watched = settings.training.stop == WHEN_DONE  # the weights of the lowest loss are kept beside
        return cls(
            program=PROGRAM * here,
            data=float(images.nbytes) * (here and not isinstance(images, np.memmap)),
            weights=(COPIES + gradients + watched) * weights + moments_in_all(task.state.optimizer),
            activations=BACKWARD * rows * bytes_of_an_image(settings, prepared),
            report=REPORT_COPIES * 4 * values * here,
        )

    @property
    def total(self) -> float:
        return self.program + self.data + self.weights + self.activations + self.report
