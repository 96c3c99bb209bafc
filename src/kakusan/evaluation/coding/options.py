"""Options of `kakusan compress` and its twin in Python, without torch: --help is quick."""

from dataclasses import dataclass

from kakusan.errors import SettingsError


@dataclass(frozen=True, kw_only=True)
class CodingOptions:
    """Options of a compression. Raises SettingsError for steps or threads below 1."""

    steps: int | None = None
    """Steps of the chain, 40 at the most; default: as few as come within 0.5 % of the shortest file."""
    threads: int | None = None
    """Threads of torch, of which the file needs as many to be read; default: as of the run, here."""

    def __post_init__(self) -> None:
        if self.steps is not None and not 1 <= self.steps <= 40:
            raise SettingsError(f"a chain has 1 to 40 steps, not {self.steps}")
        if self.threads is not None and not 1 <= self.threads <= 1024:
            raise SettingsError(f"torch has 1 to 1024 threads, not {self.threads}")
