"""Randomness as a function: every number has a name, and no generator has a state."""

from kakusan.randomness.draws import (
    Purpose,
    integers,
    normals,
    permutation,
    philox,
    require_seed,
    torch_seed,
    uniforms,
    words,
)

__all__ = [
    "Purpose",
    "integers",
    "normals",
    "permutation",
    "philox",
    "require_seed",
    "torch_seed",
    "uniforms",
    "words",
]
