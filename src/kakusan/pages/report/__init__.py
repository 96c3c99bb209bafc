"""The report: one self-contained HTML page about a run."""

from kakusan.pages.report.content import Copying, FilmStrip, Forward, Neighbour, SampleGrid, Story
from kakusan.pages.report.page import render

__all__ = ["Copying", "FilmStrip", "Forward", "Neighbour", "SampleGrid", "Story", "render"]
