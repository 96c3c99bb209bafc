"""The options of the transformer over patches."""

import math
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Annotated, ClassVar, Self

from kakusan.config.facts import DataFacts, Size
from kakusan.config.networks.base import NetworkOptions, carries_noise, usual_dropout
from kakusan.config.networks.unet import RATE, UNetOptions
from kakusan.config.section import Auto, Range, answered

if TYPE_CHECKING:
    from torch import nn

    from kakusan.networks.interface import Interface

TOKENS = {"cpu": 8 * 8}
TOKENS_ELSEWHERE = 16 * 16
"""Patches: the automatic side is the smallest power of two that leaves no more (Li & He 2025 have 16 x 16)."""
LARGEST_PATCH = 64
TOKEN_WIDTH, BLOCKS = 6, 6
"""Width and blocks, in units of those of the U-Net in its place: 192 and 6 in the smallest, 768 and 12 in the sixth,
which is the base size of the papers."""
HEAD_WIDTH = 64
RATE_WIDTH = 192
"""Width of a transformer with AdamW's step `RATE`, which falls as 1 / width."""


@dataclass(frozen=True)
class TransformerOptions(NetworkOptions):
    """The network, a transformer over large patches (Li & He 2025), for images of 64 pixels and more on a small
    machine, signals and volumes. auto: by the size of the samples, the device and the length of the training."""

    dimensions: ClassVar[tuple[int, ...]] = (1, 2, 3)
    rows_are_independent: ClassVar[bool] = True
    predicts: ClassVar[str | None] = "x_0"
    loss: ClassVar[str | None] = "velocity"

    kind: str = "transformer"
    blocks: Annotated[int | Auto, Range(1, 64)] = "auto"
    """Blocks of attention and MLP."""
    heads: Annotated[int | Auto, Range(1, 1024)] = "auto"
    """Attention heads, which share the channels of a token; auto: of 64 channels each."""
    patch: Annotated[int | Auto, Range(1, 64)] = "auto"
    """Side of the squares of pixels that become a token each; auto: as many as make 64 tokens, elsewhere than on a CPU
    256, at the most."""
    bottleneck: Annotated[int, Range(0, 65_536)] = 0
    """Channels through which the values of a patch come in; 0: all at once, which learns sooner."""
    mlp_ratio: Annotated[float, Range(0.01, 100)] = 4.0
    """Width of an MLP's hidden layer, in units of `width`."""
    dropout: Annotated[float | Auto, Range(0, 0.99)] = "auto"
    """Dropout of each branch; auto: more, the more often each image is seen."""

    def sizes(self, facts: DataFacts) -> tuple[Size, ...]:
        return UNetOptions(width=self.width).sizes(facts)

    def resolved(self, facts: DataFacts, size: Size, device: str) -> Self:
        width = TOKEN_WIDTH * size.width if self.width == "auto" else self.width
        return replace(
            self,
            width=width,
            blocks=BLOCKS * size.blocks if self.blocks == "auto" else self.blocks,
            heads=width // math.gcd(width, HEAD_WIDTH) if self.heads == "auto" else self.heads,
            patch=_patch(facts, device) if self.patch == "auto" else self.patch,
        )

    def seen_for(self, epochs: float) -> Self:
        return replace(self, dropout=usual_dropout(epochs)) if self.dropout == "auto" else self

    @property
    def usual_rate(self) -> float:
        return RATE * RATE_WIDTH / answered(self.width)

    def passes_noise(self, shape: tuple[int, ...]) -> bool:
        values = self.values_at_a_position(shape)
        is_narrow = 0 < self.bottleneck < min(values, answered(self.width))
        return not is_narrow and carries_noise(answered(self.width), values)

    def build(self, of: "Interface") -> "nn.Module":
        from kakusan.networks import Transformer

        own = {name: value for name, value in asdict(self).items() if name != "kind"}
        return Transformer(**asdict(of), **own)


def _patch(facts: DataFacts, device: str) -> int:
    """The smallest patch, a power of two and no larger than the shorter side, that leaves few enough tokens."""
    _, *sides = facts.shape
    most, largest, patch = TOKENS.get(device, TOKENS_ELSEWHERE), min(*sides, LARGEST_PATCH), 1
    while math.prod(math.ceil(side / patch) for side in sides) > most and 2 * patch <= largest:
        patch *= 2
    return patch
