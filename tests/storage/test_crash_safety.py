"""No kill loses a good checkpoint, or the figures before it; see crash_stories.py for who is killed, and when."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from crash_stories import STORIES

from kakusan.storage.checkpoints import verify


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not hasattr(os, "fork"):
        pytest.skip("this system does not fork")
    base = tmp_path_factory.mktemp("killed")
    one_thread = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # a fork copies only one
    command = [sys.executable, "-W", "error", str(Path(__file__).parents[1] / "crash_stories.py"), str(base)]
    child = subprocess.run(command, env=one_thread, capture_output=True, text=True, check=False)
    assert (child.returncode, child.stderr) == (0, "")
    return base


@pytest.mark.parametrize("name", STORIES)
def test_a_kill_at_any_operation_loses_nothing(
    name: str, killed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)  # 4 ms each
    *crashed, finished = sorted(path for path in (killed / name).iterdir() if path.name != "start")
    assert len(crashed) > 10
    for case in crashed:
        STORIES[name].check(case / "run", False)
    STORIES[name].check(finished / "run", True)


def test_a_limit_on_the_size_of_files_is_told_and_loses_nothing(killed: Path) -> None:
    folder = killed / "limited"
    assert (
        (folder / "told").read_text().startswith(f"cannot save {folder / 'checkpoints' / 'step-00000002'}: ")
    )
    assert "600,000 bytes are needed" in (folder / "told").read_text()
    assert [path.name for path in (folder / "checkpoints").iterdir()] == ["step-00000001"]
    assert verify(folder / "checkpoints" / "step-00000001") == []
