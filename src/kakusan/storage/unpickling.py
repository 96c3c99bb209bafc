"""An untrusted PyTorch ``.bin``: a pickle, opened in a process of its own, with limits and without secrets.

The child reads the file with torch's unpickler of tensors, which runs nothing that a file names, and writes what it
found as safetensors, a format without code; only that is read here. Limits hold should the file be made to exhaust
the machine: memory and room in proportion to its size, time on the clock and on the processor, no core dump. The
child starts with a bare environment, so that no token of ours is in its reach.
"""

import json
import math
import os
import re
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from kakusan.errors import ModelError

PATIENCE = 120.0  # seconds, most of them for the import of torch on a busy machine
PACE = 10e6  # bytes/s: what a slow disk reads
UNFOLDED = 2  # times the file: what its tensors may fill, so that tied weights may be counted twice
SLACK = 1 << 20  # bytes that any file may hold beyond that
SPARE = 1 << 30  # bytes of addresses for torch itself
REFUSED = 3  # the exit code of a child that says why
KEPT = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SYSTEMROOT", "TMPDIR", "TEMP", "TMP")
SAFER = "ask its author for a .safetensors file: that format cannot carry code"
CHILD = "import sys; sys.path[:] = sys.argv[3:]; from kakusan.storage import unpickling; unpickling.child()"


def read_bin(path: Path) -> dict[str, Tensor]:
    """The tensors of a pickled state dict, on the CPU.

    Raises ModelError where the file holds anything else, is damaged, or takes more than a file of its size needs.
    """
    if not path.is_file():
        raise ModelError(f"{path} is not a file")
    with TemporaryDirectory(prefix="kakusan-", ignore_cleanup_errors=True) as folder:
        target = Path(folder) / "tensors.safetensors"
        _convert(path, target)
        try:
            return {
                name: tensor.clone() for name, tensor in load_file(target).items()
            }  # the file goes: copies
        except (OSError, SafetensorError) as error:
            raise ModelError(f"{path} could not be read: its tensors did not come through", SAFER) from error


def _convert(source: Path, target: Path) -> None:
    """Have a child write the tensors of ``source`` as safetensors, or raise what it says."""
    seconds = _patience(source)
    here = Path(__file__).resolve().parents[2]  # where kakusan is; no other relative entry is followed
    path = [
        str(Path(at).resolve()) for at in sys.path if Path(at).is_absolute() or Path(at).resolve() == here
    ]
    command = [sys.executable, "-I", "-X", "utf8", "-c", CHILD, str(source), str(target), *path]
    with (target.parent / "said").open("w+b") as said:  # a file, so that a flood of words has a limit too
        try:
            code = subprocess.run(
                command,
                env=_environment(target.parent),
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                timeout=seconds,
                check=False,
            ).returncode
        except subprocess.TimeoutExpired as error:
            raise ModelError(f"{source} was not read within {seconds:.3g} seconds", SAFER) from error
        if code:
            raise _verdict(source, code, said)


def _patience(source: Path) -> float:
    return PATIENCE + source.stat().st_size / PACE


def _environment(home: Path) -> dict[str, str]:
    """The environment of a child process: paths to its libraries, one thread, no accelerator, no secrets."""
    kept = {name: os.environ[name] for name in KEPT if name in os.environ}
    return kept | {
        "HOME": str(home),
        "OMP_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
    }


def _verdict(source: Path, code: int, said: IO[bytes]) -> ModelError:
    """The error of a child that failed. Its words are not trusted: few are taken, and only printable ones."""
    said.seek(max(0, said.seek(0, os.SEEK_END) - 4096))
    *_, last = ["", *said.read().decode("utf-8", "replace").splitlines()]
    last = "".join(letter for letter in last if letter.isprintable())
    if code == REFUSED:
        try:
            problem, *advice = map(str, json.loads(last))
            return ModelError(problem, *advice)
        except ValueError:  # no words of ours: they are told as they are, below
            pass
    how = f"by signal {-code}, as where a limit is met" if code < 0 else f"with exit code {code}"
    said_last = (last[:200],) if last else ()
    return ModelError(f"{source} was not read: the process that opened it ended {how}", *said_last, SAFER)


def child() -> None:
    """Convert the file of the first argument to the second, or say why not and exit with ``REFUSED``."""
    source, target = Path(sys.argv[1]), Path(sys.argv[2])
    try:
        _limit(source)
        save_file(_apart(_checked(_loaded(source), source)), target)
    except ModelError as error:
        _refuse(error)
    except Exception as error:  # whatever torch meets in a file that was made to hurt
        _refuse(_unread(source, error))


def _refuse(error: ModelError) -> None:
    print("\n" + json.dumps([error.problem, *error.advice])[:4000], flush=True)
    os._exit(REFUSED)  # nothing of the file's runs on the way out


def _limit(source: Path) -> None:
    """Bind this process to what a file of that size needs; Windows has no such limits, macOS none on addresses."""
    if sys.platform == "win32":
        return
    import resource

    size = source.stat().st_size
    limits = {
        resource.RLIMIT_CPU: math.ceil(time.process_time() + _patience(source)),
        resource.RLIMIT_FSIZE: UNFOLDED * size + 16 * SLACK,
        resource.RLIMIT_NOFILE: 64,
        resource.RLIMIT_CORE: 0,
    }
    addresses = Path("/proc/self/statm")  # Linux
    if addresses.exists():
        now = int(addresses.read_text("ascii").split()[0]) * resource.getpagesize()
        limits[resource.RLIMIT_AS] = now + (UNFOLDED + 2) * size + SPARE
    for what, most in limits.items():
        hard = resource.getrlimit(what)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(what, (most, most))


def _loaded(source: Path) -> object:
    loaded: object = torch.load(source, map_location="cpu", weights_only=True)
    return loaded


def _checked(loaded: object, source: Path) -> dict[str, Tensor]:
    """A flat table of plain tensors that fill no more than their file can account for; nothing is copied yet."""
    if not isinstance(loaded, Mapping):
        raise ModelError(f"{source} is no table of tensors: it holds a {type(loaded).__name__}", SAFER)
    if not loaded:
        raise ModelError(f"{source} holds no tensors")
    for name, value in loaded.items():
        if not (isinstance(name, str) and _plain(value)):
            raise ModelError(f"{source} is no flat table of plain tensors: see {str(name)[:100]!r}", SAFER)
    tensors: dict[str, Tensor] = dict(loaded)
    unfolded = sum(math.prod(tensor.shape) * tensor.element_size() for tensor in tensors.values())
    if unfolded > UNFOLDED * source.stat().st_size + SLACK:
        raise _too_large(source)
    return tensors


def _plain(value: object) -> bool:
    """Whether it is a tensor whose numbers simply lie in memory."""
    plain = type(value) in {Tensor, torch.nn.Parameter}
    return (
        plain and isinstance(value, Tensor) and value.device.type == "cpu" and value.layout is torch.strided
    )


def _apart(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors, none of which shares memory with another: safetensors has no ties."""
    seen: set[int] = set()
    apart = {}
    for name, tensor in tensors.items():
        memory = tensor.untyped_storage().data_ptr()
        tied, packed = memory in seen, tensor.detach().contiguous()
        apart[name] = packed.clone() if tied and packed.data_ptr() == tensor.data_ptr() else packed
        seen.add(memory)
    return apart


def _unread(source: Path, error: BaseException) -> ModelError:
    """torch's long words about a file, in one sentence."""
    if named := re.search(r"GLOBAL ([\w.]+)", str(error)):
        return ModelError(f"{source} holds more than tensors ({named[1][:80]}): it was not opened", SAFER)
    if isinstance(error, MemoryError) or "allocate memory" in str(error):
        return _too_large(source)
    if isinstance(error, OSError) and error.errno:
        return ModelError(f"{source} was not read: {error.strerror}")
    return ModelError(
        f"{source} is no PyTorch file of tensors, or not a whole one",
        "it may help to download it again",
        SAFER,
    )


def _too_large(source: Path) -> ModelError:
    return ModelError(
        f"{source} unfolds to far more than a file of its size should hold: it was not opened", SAFER
    )
