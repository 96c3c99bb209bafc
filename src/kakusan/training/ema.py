"""The slow copy of the weights: an exponential moving average, which samples far better than the weights themselves."""

import torch
from torch import Tensor, nn


class EMA:
    """Averages the parameters of a network; n counts its updates.

    The decay is min(decay, (1 + n) / (10 + n)), so that short runs forget their random start too (as in
    TensorFlow's moving averages). Until `decay` takes over, the average after n updates is that of a power function of
    the step (Karras et al. 2024, "Analyzing and improving the training dynamics of diffusion models", section 3.1): a
    memory of about n/10 updates, with a share 9! n! / (n + 9)! of the start. With a `decay` whose memory is a tenth of
    the training this lasts to nine tenths of it, so that the average of any earlier step is a fitting one of its own.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self._network = network
        self._sources: list[Tensor] = [parameter.detach() for parameter in network.parameters()]
        self._averages: list[Tensor] = [source.clone() for source in self._sources]

    @torch.no_grad()
    def update(self, n: int) -> None:
        """Move the averages towards the parameters. n: how many updates came before."""
        torch._foreach_lerp_(self._averages, self._sources, 1 - self.decay_at(n))

    def decay_at(self, n: int) -> float:
        """The decay of an update that n came before."""
        return min(self.decay, (1 + n) / (10 + n))

    @torch.no_grad()
    def move(self, share: Tensor) -> None:
        """`update` by a share, 1 - decay, that is known to the device alone; equal but for rounding."""
        ways = torch._foreach_sub(self._sources, self._averages)
        torch._foreach_mul_(ways, share.float())
        torch._foreach_add_(self._averages, ways)

    def state(self) -> dict[str, Tensor]:
        """The averages by the names in the network's state, and its buffers as they stand: views, not copies."""
        averages = {id(p): a for p, a in zip(self._network.parameters(), self._averages, strict=True)}
        entries = self._network.state_dict(keep_vars=True)
        return {name: averages.get(id(entry), entry.detach()) for name, entry in entries.items()}

    @torch.no_grad()
    def load(self, state: dict[str, Tensor]) -> None:
        for name, average in self.state().items():
            average.copy_(state[name])
