"""Formats of other programs: models in and out. One file each; no code of theirs is ever run."""
