"""An edit as one page: before, after, settings, the error of the round trip."""
