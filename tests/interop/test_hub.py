"""What is taken from the hub, from whom, and what is said where nothing can be had; against a hub on the loopback."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from interop.fake_hub import Files, Hub, fake_hub

from kakusan.errors import ModelError
from kakusan.interop.hub import Fetched, HubName, fetch

pytest.importorskip("huggingface_hub")

SAFE, PICKLED = "diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin"
MODEL = {
    "model_index.json": b"{}",
    "scheduler/scheduler_config.json": b'{"beta": 1}',
    "unet/config.json": b'{"width": 8}',
    f"unet/{SAFE}": b"safe weights",
    f"unet/{PICKLED}": b"pickled weights",
    "unet/diffusion_pytorch_model.fp16.safetensors": b"half the weights",
    "unet/model.py": b"raise SystemExit",
    "pipeline.py": b"raise SystemExit",
    "README.md": b"# A model",
    ".gitattributes": b"",
    "../../escaped/config.json": b"{}",
    "/etc/passwd": b"root",
}
FLAT = {
    "config.json": b'{"width": 4}',
    "scheduler_config.json": b"{}",
    PICKLED: b"pickled weights",
    "\x1b[2Jconfig.json": b"{}",
}
HALF = {"unet/config.json": b"{}", "unet/diffusion_pytorch_model.fp16.safetensors": b"", "\x1b[2J.bin": b""}
REPOSITORIES: dict[str, Files] = {
    "an-owner/nested": MODEL,
    "an-owner/flat": FLAT,
    "an-owner/half": HALF,
    "an-owner/text": {"README.md": b"", "tokenizer.json": b"{}"},
    "an-owner/gated": MODEL,
}

MALFORMED = [
    *("", "hf:", "hf:name", "owner/name", "hf:owner/", "hf:/name", "hf:owner/name/more", "hf:owner/name@"),
    *("hf:../name", "hf:owner/..", "hf:owner/na..me", "hf:owner/name@../../x", "hf:owner/name@a b"),
    *("hf:owner/name\n", "hf:ow ner/name", "hf:-owner/name", "hf:owner/name.", "hf:owner/名"),
    *("hf:owner/a--b", "hf:owner/name.git", f"hf:{'o' * 200}/name"),
]

STORY = """
import json, sys
from kakusan.errors import ModelError
from kakusan.interop.hub import HubName, fetch

for text in sys.argv[1:]:
    said = []
    try:
        got = fetch(HubName.parse(text), said.append)
        print(json.dumps([str(got.folder), got.repository, got.revision, said]))
    except ModelError as error:
        print(json.dumps([error.problem, *error.advice]))
"""


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    with fake_hub(REPOSITORIES, gated=["an-owner/gated"]) as running:
        yield running


@dataclass(frozen=True)
class Elsewhere:
    """A process whose hub is the false one: huggingface_hub reads the variables when it is imported."""

    variables: dict[str, str]

    def fetch(self, *names: str, **variables: str) -> list[list[Any]]:
        """For each name: the folder, repository, revision and what was said; or a problem, and advice."""
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", STORY, *names],
            env={**os.environ, **self.variables, **variables},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture
def elsewhere(hub: Hub, tmp_path: Path) -> Elsewhere:
    hub.asked.clear()
    return Elsewhere(hub.environment(tmp_path))


def files(folder: str) -> dict[str, bytes]:
    paths = [path for path in Path(folder).rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def test_only_what_is_needed_is_asked_for_and_safetensors_before_a_pickle(
    elsewhere: Elsewhere, hub: Hub, tmp_path: Path
) -> None:
    [[folder, repository, revision, said]] = elsewhere.fetch("hf:an-owner/nested")
    needed = ["model_index.json", "scheduler/scheduler_config.json", "unet/config.json", f"unet/{SAFE}"]
    assert files(folder) == {name: MODEL[name] for name in needed}
    assert Path(folder).is_relative_to(tmp_path)
    assert (repository, revision) == ("an-owner/nested", hub.sha("an-owner/nested"))
    asked = {line.rpartition(f"/resolve/{revision}/")[2] for line in hub.asked if "/resolve/" in line}
    assert asked == set(needed), "of that commit, and nothing else"
    assert not hub.asked_for(".py")
    assert not hub.asked_for(".bin")
    assert said[-1] == f"downloading unet/{SAFE} (12 bytes)", "the weights come last"


def test_a_second_fetch_takes_from_the_cache_and_a_branch_is_its_commit(
    elsewhere: Elsewhere, hub: Hub
) -> None:
    commit = hub.sha("an-owner/nested")
    names = ["hf:an-owner/nested", "hf:an-owner/nested@main", f"hf:an-owner/nested@{commit}"]
    first, *others = elsewhere.fetch(*names)
    assert first[3]
    assert others == [[*first[:3], []]] * 2
    assert first[2] == commit
    assert len(hub.asked_for(SAFE)) == 2, "one HEAD, one GET"


def test_a_flat_model_with_a_pickle_only_is_taken_as_it_is(elsewhere: Elsewhere) -> None:
    [[folder, *_]] = elsewhere.fetch("hf:an-owner/flat")
    needed = ["config.json", "scheduler_config.json", PICKLED]
    assert files(folder) == {name: FLAT[name] for name in needed}


def test_models_that_cannot_be_had_are_told_with_advice(elsewhere: Elsewhere, hub: Hub) -> None:
    names = ["nobody/nothing", "an-owner/nested@v9", "an-owner/gated", "an-owner/half", "an-owner/text"]
    nothing, revision, gated, half, text = elsewhere.fetch(*(f"hf:{name}" for name in names))
    assert nothing[0] == "hf:nobody/nothing was not found: no such model, or a private one"
    assert "HF_TOKEN" in nothing[2]
    assert revision[0] == "hf:an-owner/nested has no revision 'v9'"
    assert "open only to those who asked" in gated[0]
    assert "HF_TOKEN" in gated[1]
    assert "name its folder" in gated[2]
    assert "no weights in one file" in half[0]
    assert half[1] == "there is: unet/diffusion_pytorch_model.fp16.safetensors", (
        "and nothing that moves the cursor"
    )
    assert "neither unet/config.json nor config.json" in text[0]
    assert text[1] == "there is: README.md, tokenizer.json"
    assert not any(line.endswith("safetensors") for line in hub.asked if "half" in line)


def test_a_hub_out_of_reach_is_told_with_advice(elsewhere: Elsewhere, hub: Hub) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    [dead] = elsewhere.fetch("hf:an-owner/nested", HF_ENDPOINT=f"http://127.0.0.1:{port}")
    assert "was not downloaded: " in dead[0]
    assert "refused" in dead[0]
    assert "HF_ENDPOINT" in dead[1]
    assert "name its folder" in dead[2]
    [offline] = elsewhere.fetch("hf:an-owner/nested", HF_HUB_OFFLINE="1")
    assert "HF_HUB_OFFLINE keeps off the network" in offline[0]
    [nonsense] = elsewhere.fetch(
        "hf:an-owner/nested", HF_ENDPOINT=f"{hub.url}/an-owner/flat/resolve/main/config.json?"
    )
    assert "does not speak as a hub does" in nonsense[0]
    assert not hub.asked_for(SAFE)


def test_a_cache_that_cannot_be_written_is_named(elsewhere: Elsewhere, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    [[problem, advice]] = elsewhere.fetch("hf:an-owner/nested", HF_HOME=str(tmp_path / "file" / "below"))
    assert "hf:an-owner/nested was not downloaded: " in problem
    assert f"{tmp_path / 'file' / 'below'}" in advice
    assert "HF_HOME" in advice


def test_without_huggingface_hub_its_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ModelError, match="hf: names need huggingface_hub") as caught:
        fetch(HubName("an-owner/nested"))
    assert caught.value.advice == ("pip install 'kakusan[hf]'",)


@pytest.mark.parametrize("text", MALFORMED)
def test_a_malformed_name_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ModelError) as caught:
        HubName.parse(text)
    assert "hf:google/ddpm-cifar10-32" in caught.value.advice[0]
    assert "\n" not in caught.value.problem


def test_a_name_is_an_owner_a_model_and_perhaps_a_revision() -> None:
    for text, name in {
        "hf:google/ddpm-cifar10-32": HubName("google/ddpm-cifar10-32"),
        "hf:a/b@refs/pr/3": HubName("a/b", "refs/pr/3"),
        "hf:A_1/b.c@v1.0": HubName("A_1/b.c", "v1.0"),
    }.items():
        assert HubName.parse(text) == name
        assert str(name) == text
    assert Fetched(Path("x"), "a/b", "0" * 40).repository == "a/b"
