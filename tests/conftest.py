"""Shapes are types: in tests, and only there, the annotations of the mathematics are checked at run time."""

import os
import signal
from pathlib import Path
from typing import Any

# Before torch is loaded, and for all children: threads that spin are paid for by the tests beside them.
os.environ.setdefault("GOMP_SPINCOUNT", "0")

import jaxtyping
import numpy as np
import pytest
import shape_checks
import torch
from hypothesis import settings

CHECKED = (
    "denoiser",
    "forward",
    "gaussians",
    "learned",
    "oracles",
    "parametrizations",
    "schedules",
    "variances",
)
jaxtyping.jaxtyped = shape_checks.jaxtyped  # type: ignore[assignment]  # the hook's decorators look it up there
HOOK = jaxtyping.install_import_hook(
    [*(f"kakusan.diffusion.{name}" for name in CHECKED), "kakusan.training.losses", "kakusan.samplers"],
    "beartype.beartype",
)

from kakusan.evaluation import features, tuning  # noqa: E402  # under the hook
from kakusan.training import knowledge, validation  # noqa: E402

COUNTS = (
    (knowledge, "LOOKED_AT", 16),
    (knowledge, "COMPARED", 64),
    (validation, "COMPARED", 64),
    (tuning, "REMEMBERED", 16),
    (features, "STEPS", 50),
)
"""Every training ends with a report, which would ask a network of 500 held-out digits 5,000 times."""
FULL = [(module, name, getattr(module, name)) for module, name, _ in COUNTS]
for module, constant, few in COUNTS:
    setattr(module, constant, few)

settings.register_profile("kakusan", deadline=None)  # a busy machine is not a failure
settings.load_profile("kakusan")

USUAL: dict[str, Any] = {"SIGINT": signal.default_int_handler, "SIGHUP": signal.SIG_DFL}
for name, usual in USUAL.items():
    number = getattr(signal, name, None)
    if number is not None and signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(
            number, usual
        )  # a job in the background ignores them, and so would the children of tests


LONG = (
    "benchmarks/test_benchmarks.py",
    "interop/test_diffusers_folders.py",
    "training/test_resume.py",
    "diffusion/test_flow.py",
    "interop/test_import_command.py",
    "evaluation/test_bound.py",
    "interop/test_onnx.py",
    "pages/explain/test_sides.py",
    "cli/test_faults.py",
    "training/test_coming_back.py",
    "cli/test_conditions.py",
    "test_goldens.py",
    "cli/test_compare.py",
    "cli/test_tune.py",
    "docs/test_site.py",
    "docs/test_extending.py",
    "docs/test_restore.py",
)
"""Modules that take a minute or more, which begin first: so no process is left alone with one at the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The order of modules; that of the tests in each stays."""
    tests = Path(__file__).parent
    place = {tests / name: number for number, name in enumerate(LONG)}
    items.sort(key=lambda item: place.get(item.path, len(LONG)))


def pytest_runtest_setup() -> None:
    """The tests are small, and run beside each other; a run of the test before may have asked for more."""
    torch.set_num_threads(1)


@pytest.fixture
def full_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports look at as many images as those of users, and features are learned as long."""
    for module, name, value in FULL:
        monkeypatch.setattr(module, name, value)


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve images of 8x8 in two classes, in a file that no test changes."""
    path = tmp_path_factory.mktemp("data") / "tiny.npz"
    images = np.random.default_rng(0).integers(0, 256, (12, 8, 8, 1), dtype=np.uint8)
    np.savez(path, images=images, labels=np.arange(12) % 2)
    return path
