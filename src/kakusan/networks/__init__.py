"""Networks: weights and shapes, independent of schedule, noise and loss."""

from kakusan.networks.interface import Interface
from kakusan.networks.mlp import PointMLP
from kakusan.networks.transformer import Transformer
from kakusan.networks.unet import UNet

__all__ = ["Interface", "PointMLP", "Transformer", "UNet"]
