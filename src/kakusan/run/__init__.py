"""An open run: what commands work with, and `kakusan.Run` too."""

from kakusan.run.choosing import usual_sampler
from kakusan.run.editing import Editor, round_trip
from kakusan.run.films import Films
from kakusan.run.opened import Loaded
from kakusan.run.posterior import Posterior
from kakusan.run.restoring import Run

__all__ = ["Editor", "Films", "Loaded", "Posterior", "Run", "round_trip", "usual_sampler"]
