"""The stable face of the library."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import kakusan
import kakusan as kk


def test_the_public_names_are_all_there() -> None:
    assert len(set(kakusan.__all__)) == len(kakusan.__all__) <= 64
    for name in kakusan.__all__:
        assert getattr(kakusan, name) is not None
    assert set(kakusan.__all__) == set(dir(kakusan))


def test_an_unknown_name_is_an_attribute_error() -> None:
    assert not hasattr(kakusan, "Lineaer")


def test_importing_the_library_does_not_import_torch() -> None:
    script = "import sys, kakusan; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_a_run_from_python_is_the_run_of_the_command_line(tmp_path: Path) -> None:
    settings = kk.settings_for("two-moons")
    settings = replace(
        settings, training=replace(settings.training, steps=2), machine=replace(settings.machine, threads=1)
    )
    seen: list[str] = []
    run = kk.train(
        "two-moons",
        run=tmp_path / "run",
        settings=settings,
        watch=lambda event: seen.append(type(event).__name__),
    )
    assert next(name for name in seen if name != "Warned") == "Began"
    assert seen[-1] == "Ended"
    again = kk.Run.open(tmp_path / "run")
    first, second = (r.sample(4, kk.DDIM(steps=3), seed=1) for r in (run, again))
    assert first.shape == (4, 2)
    assert first.equal(second)
    assert again.model().path == kk.Linear(T=1000)
