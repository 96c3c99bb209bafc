"""Pages to look at: a run's report, the explanation of the derivation, points in the plane, edits, restorations."""
