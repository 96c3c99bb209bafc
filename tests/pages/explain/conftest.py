"""Three small subjects: bundled digits, points, and a tiny run."""

from pathlib import Path

import pytest
from tiny import TINY

from kakusan.cli import main
from kakusan.pages.explain.content import Story
from kakusan.pages.explain.gather import tell
from kakusan.pages.explain.subject import Subject, bundled


@pytest.fixture(scope="session")
def subject() -> Subject:
    """One of the bundled digits, with the exact denoiser of all."""
    return bundled("digits", "linear", 50)


@pytest.fixture(scope="session")
def story(subject: Subject) -> Story:
    return tell(subject, 30)


@pytest.fixture(scope="session")
def points() -> Story:
    return tell(bundled("two-moons", "cosine", 20), 10)


@pytest.fixture(scope="session")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four steps on twelve images: nothing is learned, all is there."""
    folder = tmp_path_factory.mktemp("explained") / "run"
    assert main(["train", str(data), "--run", str(folder), "--steps", "4", *TINY]) == 0
    return folder
