"""Operators: what is measured of a sample, y = A(x), in the units of the data. One a file; they compose and stack."""

from kakusan.operators.base import Linear, LinearMap, Measured, Operator
from kakusan.operators.blur import Blur, Edges, gaussian_blur
from kakusan.operators.clip import Clip
from kakusan.operators.combined import composed, stacked
from kakusan.operators.crop import Crop
from kakusan.operators.down import Down
from kakusan.operators.fourier import Fourier
from kakusan.operators.function import Function, function
from kakusan.operators.identity import Identity
from kakusan.operators.magnitude import Magnitude
from kakusan.operators.mask import Mask
from kakusan.operators.matrix import Matrix
from kakusan.operators.quantize import Quantize
from kakusan.operators.radon import Radon, even_angles

__all__ = [
    "Blur",
    "Clip",
    "Crop",
    "Down",
    "Edges",
    "Fourier",
    "Function",
    "Identity",
    "Linear",
    "LinearMap",
    "Magnitude",
    "Mask",
    "Matrix",
    "Measured",
    "Operator",
    "Quantize",
    "Radon",
    "composed",
    "even_angles",
    "function",
    "gaussian_blur",
    "stacked",
]
