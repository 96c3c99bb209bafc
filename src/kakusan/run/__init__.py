"""An open run: what commands work with, and `kakusan.Run` too."""

from kakusan.run.films import Films
from kakusan.run.opened import Loaded
from kakusan.run.sampling import Run, usual_sampler

__all__ = ["Films", "Loaded", "Run", "usual_sampler"]
