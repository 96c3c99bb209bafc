"""Networks: weights and shapes; they know no schedule, noise or loss."""

from torch import nn

from kakusan.networks.mlp import PointMLP
from kakusan.networks.unet import UNet

__all__ = ["NETWORKS", "PointMLP", "UNet"]

NETWORKS: dict[str, type[nn.Module]] = {"unet": UNet, "mlp": PointMLP}
