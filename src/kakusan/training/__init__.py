"""Algorithm 1, from settings to a finished run."""
