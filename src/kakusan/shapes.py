"""The vocabulary of shapes. Annotations only; the tests check them at run time."""

from typing import TypeAlias

from jaxtyping import Float, Float64, Int
from torch import Tensor

Images: TypeAlias = Float[Tensor, "batch channels height width"]
"""Images in the network's units, or noise of their shape; points are (batch, 2, 1, 1)."""

PerImage: TypeAlias = Float[Tensor, "batch 1 1 1"]
"""One number an image, ready to broadcast."""

Times: TypeAlias = Float64[Tensor, " batch"]
"""0 <= t <= T; whole numbers in training."""

Labels: TypeAlias = Int[Tensor, " batch"]
"""Class labels 0..classes-1; ``classes`` itself is the null label."""
