"""The report: one self-contained HTML page about a run."""

from kakusan.report.page import render
from kakusan.report.story import Copying, FilmStrip, Forward, Neighbour, Samples, Story

__all__ = ["Copying", "FilmStrip", "Forward", "Neighbour", "Samples", "Story", "render"]
