"""Models of diffusers, saved once, and an ear for its complaints."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from interop.their_models import MODELS, Saved

from kakusan.interop.importing import import_model


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Saved]:
    """Each model of the table as diffusers saves it, and the run that an import makes of it."""
    root = tmp_path_factory.mktemp("theirs")
    made: dict[str, Saved] = {}
    for number, (name, model) in enumerate(MODELS.items()):
        folder = root / f"model-{number}"
        network = model.save(folder)
        made[name] = Saved(model, folder, network, import_model(folder, root / f"run-{number}"))
    return made


@pytest.fixture
def complaints() -> Iterator[list[str]]:
    """What diffusers' loggers warn of, but for a package that would load models faster."""
    heard: list[str] = []

    class Ear(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "`accelerate` was not found" not in record.getMessage():
                heard.append(record.getMessage())

    ear, logger = Ear(logging.WARNING), logging.getLogger("diffusers")
    logger.addHandler(ear)
    yield heard
    logger.removeHandler(ear)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small model, for what is done to its files."""
    MODELS["classes"].save(tmp_path / "model")
    return tmp_path / "model"
