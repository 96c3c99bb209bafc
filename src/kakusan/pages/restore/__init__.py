"""Samples of x given y as one page: what was measured, the samples, their spread, what is left of y, calibration."""

from kakusan.pages.restore.gather import of_calibration, page_of, picture_of
from kakusan.pages.restore.page import Page, render

__all__ = ["Page", "of_calibration", "page_of", "picture_of", "render"]
