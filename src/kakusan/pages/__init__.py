"""Pages to look at: the report of a run, the explanation of the derivation."""
