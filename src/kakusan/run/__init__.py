"""An open run: what commands work with, and `kakusan.Run` too."""

from kakusan.run.editing import Editor, Run, round_trip
from kakusan.run.films import Films
from kakusan.run.opened import Loaded
from kakusan.run.sampling import usual_sampler

__all__ = ["Editor", "Films", "Loaded", "Run", "round_trip", "usual_sampler"]
