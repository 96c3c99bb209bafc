"""Points in the plane: how they dissolve, where the score points, and the paths of samplers, over t."""
