"""Networks: weights and shapes; they know no schedule, noise or loss."""

from torch import nn

from kakusan.networks.mlp import PointMLP
from kakusan.networks.transformer import Transformer
from kakusan.networks.unet import UNet

__all__ = ["NETWORKS", "PointMLP", "Transformer", "UNet"]

NETWORKS: dict[str, type[nn.Module]] = {"unet": UNet, "mlp": PointMLP, "transformer": Transformer}
