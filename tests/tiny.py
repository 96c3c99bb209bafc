"""Flags of a run that takes a second."""

VALUES = {
    "network.width": "8",
    "network.multipliers": "1 1",
    "network.blocks": "1",
    "network.attention": "1",
    "training.batch-size": "4",
    "training.warmup": "0",
    "machine.threads": "1",
    "machine.device": "cpu",
    "samples.count": "2",
    "samples.steps": "2",
    "log.every": "2",
    "process.T": "20",
}
TINY = [word for name, value in VALUES.items() for word in (f"--{name}", *value.split())]
