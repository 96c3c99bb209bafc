"""Shapes are types: in tests, and only there, the annotations of the mathematics are checked at run time."""

import os
from pathlib import Path

os.environ.setdefault(
    "GOMP_SPINCOUNT", "0"
)  # before torch: threads that spin are paid for by the tests beside them

import numpy as np
import pytest
import torch
from hypothesis import settings
from jaxtyping import install_import_hook

CHECKED = ("denoiser", "forward", "gaussians", "oracles", "parametrizations", "schedules", "variances")
HOOK = install_import_hook(
    [*(f"kakusan.diffusion.{name}" for name in CHECKED), "kakusan.training.losses", "kakusan.samplers"],
    "beartype.beartype",
)

settings.register_profile("kakusan", deadline=None)  # a busy machine is not a failure
settings.load_profile("kakusan")


def pytest_runtest_setup() -> None:
    """The tests are small, and run beside each other; a run of the test before may have asked for more."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve images of 8x8 in two classes, in a file that no test changes."""
    path = tmp_path_factory.mktemp("data") / "tiny.npz"
    images = np.random.default_rng(0).integers(0, 256, (12, 8, 8, 1), dtype=np.uint8)
    np.savez(path, images=images, labels=np.arange(12) % 2)
    return path
