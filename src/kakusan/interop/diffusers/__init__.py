"""Models in the format of diffusers, read and written."""
