"""Does the spread hold the truth? Of any ensemble, and of samples of a run given simulated measurements."""

from kakusan.evaluation.calibration.judged import Judged, judge
from kakusan.evaluation.calibration.simulated import Calibration, calibrate

__all__ = ["Calibration", "Judged", "calibrate", "judge"]
