"""kakusan doctor."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from kakusan.cli.arguments import parse

EXAMPLES = ("kakusan doctor", "kakusan doctor --json")
OPTIONAL = {
    "huggingface_hub": "kakusan import hf:owner/name (pip install 'kakusan[hf]')",
    "onnxruntime": "kakusan export --to onnx (pip install 'kakusan[onnx]')",
    "diffusers": "benchmarks and parity tests (pip install 'kakusan[bench]')",
}


@dataclass(frozen=True)
class Doctor:
    """A check of this machine: versions, devices, and what is optional and missing."""

    json: bool = False
    """As JSON, on stdout."""


def main(arguments: Sequence[str]) -> int:
    """Run the command."""
    command = parse(Doctor, arguments, "doctor", EXAMPLES)
    found = findings()
    if command.json:
        print(json.dumps(found, indent=2))
    else:
        width = max(map(len, found))
        for name, value in found.items():
            print(f"{name:<{width}}  {value}")
    return 0


def findings() -> dict[str, Any]:
    """Name and value of everything that matters."""
    from importlib.util import find_spec

    import torch

    from kakusan.config.machine import environment, has_bf16, resolve_machine
    from kakusan.config.settings import MachineSettings

    machine = resolve_machine(MachineSettings())
    torch.set_num_threads(int(machine.threads))
    devices = ["cpu"] + [
        f"cuda:{i} {torch.cuda.get_device_name(i)}" for i in range(torch.cuda.device_count())
    ]
    devices += ["mps"] if torch.backends.mps.is_available() else []
    missing = [f"{name}: {use}" for name, use in OPTIONAL.items() if find_spec(name) is None]
    return {
        **environment(machine),
        "devices": ", ".join(devices),
        "chosen": f"{machine.device}, {machine.precision}, {machine.layout}",
        "bf16 in hardware": has_bf16(str(machine.device)),
        "missing": "; ".join(missing) or "nothing",
    }
