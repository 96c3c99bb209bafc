"""An open run: what commands work with, and `kakusan.Run` too."""

from kakusan.run.choosing import usual_sampler
from kakusan.run.opened import Loaded
from kakusan.run.sampling import Run

__all__ = ["Loaded", "Run", "usual_sampler"]
