"""A hub on the loopback: as much of the Hugging Face hub's speech as a download needs, and a list of what was asked."""

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import unquote, urlsplit

Files = Mapping[str, bytes]


@dataclass
class Hub:
    """A running hub: where it is, what it holds, and every request so far, as "GET /path"."""

    repositories: Mapping[str, Files]
    gated: Collection[str]
    url: str = ""
    asked: list[str] = field(default_factory=list)

    def sha(self, repository: str) -> str:
        """The one commit of a repository: 40 hexadecimal digits that follow from its files."""
        parts = (name.encode() + b"\0" + data for name, data in sorted(self.repositories[repository].items()))
        return hashlib.sha1(repository.encode() + b"\0" + b"\0".join(parts)).hexdigest()

    def asked_for(self, ending: str) -> list[str]:
        """The requests whose path ends so."""
        return [line for line in self.asked if line.endswith(ending)]

    def environment(self, home: object) -> dict[str, str]:
        """What brings huggingface_hub in another process here, with its cache in the folder ``home``."""
        return {
            "HF_ENDPOINT": self.url,
            "HF_HOME": str(home),
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",
        }


@dataclass(frozen=True)
class Answer:
    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


def refusal(status: int, code: str, message: str) -> Answer:
    """An error as the hub words it: the client goes by these two headers."""
    return Answer(status, b"{}", {"X-Error-Code": code, "X-Error-Message": message})


NO_REPOSITORY = refusal(401, "RepoNotFound", "Repository not found")
NO_REVISION = refusal(404, "RevisionNotFound", "Invalid rev id")
NO_FILE = refusal(404, "EntryNotFound", "Entry not found")
GATED = refusal(403, "GatedRepo", "Access to this model is restricted")


def answer(hub: Hub, path: str) -> Answer:
    """What the hub says to a GET, and to a HEAD without the body."""
    match path.split("/"):
        case ["", "api", "models", owner, name]:
            return about(hub, f"{owner}/{name}", "main")
        case ["", "api", "models", owner, name, "revision", revision]:
            return about(hub, f"{owner}/{name}", unquote(revision))
        case ["", owner, name, "resolve", revision, *parts]:
            return content(hub, f"{owner}/{name}", unquote(revision), unquote("/".join(parts)))
    return NO_REPOSITORY


def about(hub: Hub, repository: str, revision: str) -> Answer:
    if repository not in hub.repositories:
        return NO_REPOSITORY
    commit = hub.sha(repository)
    if revision not in {"main", commit}:
        return NO_REVISION
    files = hub.repositories[repository]
    listed = [{"rfilename": name, "size": len(data), "blobId": blob(data)} for name, data in files.items()]
    said = {"id": repository, "modelId": repository, "sha": commit, "private": False, "siblings": listed}
    return Answer(200, json.dumps(said).encode(), {"Content-Type": "application/json"})


def content(hub: Hub, repository: str, revision: str, name: str) -> Answer:
    if repository not in hub.repositories:
        return NO_REPOSITORY
    if repository in hub.gated:
        return GATED
    commit = hub.sha(repository)
    if revision not in {"main", commit}:
        return NO_REVISION
    if name not in hub.repositories[repository]:
        return NO_FILE
    data = hub.repositories[repository][name]
    return Answer(200, data, {"X-Repo-Commit": commit, "ETag": f'"{blob(data)}"', "Accept-Ranges": "none"})


def blob(data: bytes) -> str:
    return hashlib.sha1(data).hexdigest()


def handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.wfile.write(self._head())

        def do_HEAD(self) -> None:
            self._head()

        def _head(self) -> bytes:
            path = urlsplit(self.path).path
            hub.asked.append(f"{self.command} {path}")
            said = answer(hub, path)
            self.send_response(said.status)
            for name, value in {**said.headers, "Content-Length": str(len(said.body))}.items():
                self.send_header(name, value)
            self.end_headers()
            return said.body

        def log_message(self, *_: object) -> None:
            """Nothing: ``asked`` is the log."""

    return Handler


@contextmanager
def fake_hub(repositories: Mapping[str, Files], gated: Collection[str] = ()) -> Iterator[Hub]:
    """A hub with these files, by repository and name, until the block ends. Of the gated ones only lists are given."""
    hub = Hub(repositories, gated)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler(hub)) as server:
        hub.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield hub
        finally:
            server.shutdown()
            thread.join()
