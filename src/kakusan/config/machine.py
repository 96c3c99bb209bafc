"""The machine: which device and precision "auto" comes to, how they are set up, and what a run records of them."""

import ctypes
import os
import platform
import sys
from dataclasses import replace
from functools import cache
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from kakusan.config.parallel import ROWS, are_set, set_threads
from kakusan.config.settings import MachineSettings, answered
from kakusan.errors import SettingsError, quoted

OMP_NUM_THREADS = "OMP_NUM_THREADS"
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX, M_ARENA_MAX = -1, -2, -4, -8  # glibc's malloc.h


def resolve_machine(machine: MachineSettings) -> MachineSettings:
    """The device, its precision, layout and threads."""
    device = best_device() if machine.device == "auto" else _checked_device(machine.device)
    precision, layout, threads = machine.precision, machine.layout, machine.threads
    if precision == "auto":
        precision = "bf16" if has_bf16(device) else "fp32"
    if layout == "auto":  # up to 1.3 times as fast; 2.5 % slower at worst (35.7 M parameters, bf16, CPU)
        layout = "channels-last"
    if threads == "auto":
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        threads = min(cores, allowed_threads() or cores)
    on_cuda = torch.device(device).type == "cuda"
    graphs = on_cuda if machine.graphs == "auto" else machine.graphs
    kernels = (on_cuda and has_triton()) if machine.kernels == "auto" else machine.kernels
    found = replace(
        machine,
        device=device,
        precision=precision,
        layout=layout,
        threads=threads,
        graphs=graphs,
        kernels=kernels,
    )
    return found if machine.workers != "auto" else replace(found, workers=usual_workers(found))


def allowed_threads() -> int | None:
    """The threads that the user allows programs to have, by OMP_NUM_THREADS; None where it says nothing.

    Of a list, which is for threads that start threads, the first number.
    """
    first = os.environ.get(OMP_NUM_THREADS, "").partition(",")[0].strip()
    return int(first) if first.isascii() and first.isdigit() and int(first) > 0 else None


def for_use(machine: MachineSettings) -> MachineSettings:
    """The machine of a run for all but its training: with no more threads than the user allows here.

    A training keeps the threads that it began with, since its numbers may depend on them.
    """
    allowed = allowed_threads()
    if allowed is None or machine.threads == "auto" or machine.threads <= allowed:
        return machine
    fewer = replace(machine, threads=allowed)
    return replace(fewer, workers=min(answered(machine.workers), usual_workers(fewer)))


def set_machine_for_use(machine: MachineSettings) -> None:
    """`set_machine`, of a run that is not trained: `for_use`."""
    set_machine(for_use(machine))


def usual_workers(machine: MachineSettings, rows: int | None = None) -> int:
    """The number of parts at once of a batch of so many rows, or of a sampling's micro-batch.

    On a CPU as many as there are threads, or a divisor of their number that leaves each part 16 rows; else 1.
    """
    threads, rows = answered(machine.threads), machine.micro_batch if rows is None else rows
    if torch.device(machine.device).type != "cpu":
        return 1
    return next(n for n in range(max(1, min(threads, rows // ROWS)), 0, -1) if threads % n == 0)


def has_triton() -> bool:
    """Whether kernels of our own can be compiled for a CUDA device."""
    found = find_spec("triton")
    return found is not None and found.origin is not None  # a folder of that name is no module


def best_device() -> str:
    """cuda, else mps, else cpu."""
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def has_bf16(device: str) -> bool:
    """Whether bfloat16 products run in hardware there. Without it they are slower than float32."""
    kind = torch.device(device).type
    if kind == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if kind == "cpu":
        return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    return False


def _checked_device(name: str) -> str:
    kind, _, index = name.partition(":")
    counts = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    if counts.get(kind, 0) <= (int(index) if index.isdecimal() else 0):
        there = ", ".join(device for device, number in counts.items() if number)
        raise SettingsError(f"there is no device {name!r} here", f"devices: {there}", "see: kakusan doctor")
    return name


def require_device(machine: MachineSettings, folder: Path) -> None:
    """Raises SettingsError where the device that a run began on is not here."""
    try:
        _checked_device(machine.device)
    except SettingsError as error:
        advice = f"to go on with another (not bit for bit): kakusan resume {quoted(folder)} --device {best_device()}"
        raise SettingsError(error.problem, *error.advice, advice) from error


def set_machine(machine: MachineSettings) -> None:
    """Threads, as resolved. On a GPU, TF32 stays off: bf16 is the fast way, float32 means float32; and kernels add in a
    fixed order, so that the same seed is the same training."""
    if machine.device == "cpu" and sys.platform == "linux":
        _keep_memory()
    if machine.device.startswith("cuda"):
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    set_threads_of(machine)
    torch.backends.cudnn.allow_tf32 = False  # torch's own default for convolutions is True
    torch.backends.cuda.matmul.allow_tf32 = False  # these older names, since torch.export asks for them


def set_threads_of(machine: MachineSettings) -> None:
    """Threads and parts alone: soon done where they are set already."""
    if machine.threads != "auto":
        set_threads(machine.threads, machine.workers if machine.workers != "auto" else 1)


def share_threads(machine: MachineSettings) -> None:
    """Compute parts at once on the threads that this program gives to torch, unless `set_machine` was called in it."""
    if are_set() or machine.device != "cpu" or machine.workers == 1:
        return
    threads = torch.get_num_threads()
    set_threads(threads, usual_workers(replace(machine, threads=threads)))


def _keep_memory() -> None:
    """Tell glibc to keep what is freed: the next layer needs as much, and asking the system for it takes 12 % of a
    small network's step in page faults."""
    try:
        libc = ctypes.CDLL(None)
        for option, value in (
            (M_ARENA_MAX, 1),
            (M_MMAP_MAX, 0),
            (M_TRIM_THRESHOLD, -1),
            (M_TOP_PAD, 1 << 26),
        ):
            libc.mallopt(option, value)
    except (OSError, AttributeError):  # another C library
        pass


def environment(machine: MachineSettings) -> dict[str, Any]:
    """Versions and machine, as a run records them."""
    packages = ("kakusan", "torch", "numpy", "safetensors", "pillow")
    device = machine.device
    return {
        **{name: _version(name) for name in packages},
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "processor": processor_name(),
        "device": torch.cuda.get_device_name(device) if device.startswith("cuda") else device,
        "threads": torch.get_num_threads(),
    }


@cache
def _version(package: str) -> str:
    """Looked up once: it reads the files of the package."""
    return metadata.version(package)


def memory_of_the_machine() -> int | None:
    """Bytes of memory that there are, used or not; None where the system does not say."""
    if not {"SC_PHYS_PAGES", "SC_PAGE_SIZE"} <= set(getattr(os, "sysconf_names", ())):
        return None
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def processor_name() -> str:
    """The model of the processor, as the system states it."""
    if sys.platform == "linux":
        try:
            lines = Path("/proc/cpuinfo").read_text().splitlines()
        except OSError:
            lines = []
        for line in lines:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
