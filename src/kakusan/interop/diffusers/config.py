"""The names of diffusers: its `UNet2DModel`, with a scheduler (`schedulers.py`), as settings of kakusan, and back.

All of it is translation: dictionaries in, values out, and nothing is opened. A key that is missing means what it
means there (its default at the time of writing, which for `attention_head_dim` is 8). What has no counterpart here is
refused by its key and value. Weights have the same names but for the products that are computed at once here
(`UNet.fused_parts`), and those of attention before 2023.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from kakusan.config.networks import NetworkOptions, UNetOptions
from kakusan.config.networks.base import MOST_LEVELS, WIDEST
from kakusan.config.section import answered, ranges
from kakusan.config.settings import ProcessSettings
from kakusan.errors import ModelError
from kakusan.interop.diffusers.keys import Config, Keys, is_count
from kakusan.interop.diffusers.schedulers import FORMAT, NETWORK, SILENT, Scheduler, read_scheduler
from kakusan.networks.patches import padded_size
from kakusan.networks.unet import level_widths

DOWN, ATTENTION_DOWN = "DownBlock2D", "AttnDownBlock2D"
UP, ATTENTION_UP = "UpBlock2D", "AttnUpBlock2D"
MIDDLE = "UNetMidBlock2D"

OURS = ranges(UNetOptions)
ELSEWHERE = "what can be exported: --to onnx, --to safetensors"

AVERAGING = {
    "decay",
    "min_decay",
    "optimization_step",
    "update_after_step",
    "use_ema_warmup",
    "inv_gamma",
    "power",
}
"""Keys on the averaging of weights: in the configuration of `unet_ema`, and without meaning for the network."""
OF_OLD = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
_OLD_NAME = re.compile(r"(.*attentions\.\d+\.)(query|key|value|proj_attn)(\.(?:weight|bias))")


@dataclass(frozen=True)
class Translated:
    """A model of diffusers as settings of kakusan."""

    network: UNetOptions
    process: ProcessSettings
    channels: int
    size: tuple[int, int] | None
    """Height and width, where the configuration says them."""
    classes: int
    scheduler: Scheduler
    sampler: str = ""
    """The flags of the sampler that walks as its scheduler of few steps does, where it has one."""
    notes: tuple[str, ...] = ()
    """Notes on values that might have been read otherwise."""


# Theirs into ours


def translated(unet: Config, scheduler: Config) -> Translated:
    """The model of these two configurations. Raises ModelError, with key and value, for what is not known here."""
    theirs = Keys(unet, f"the {NETWORK}")
    read = read_scheduler(scheduler)
    process = read.process
    network = read_network(theirs)
    channels = theirs.count("in_channels", 3)
    out_channels = theirs.count("out_channels", 3)
    size = _size(theirs, 2 ** (len(network.widths or network.multipliers) - 1))
    classes = theirs.optional_count("num_class_embeds") or 0
    theirs.only("class_embed_type", None)
    theirs.optional_count("num_train_timesteps")  # of learned time embeddings, which are refused
    theirs.done(SILENT | AVERAGING)
    learned = process.variance == "learned"
    if out_channels != (1 + learned) * channels:
        word = "learned_range" if learned else "no learned variance"
        theirs.refuse(
            "out_channels", out_channels, f"the scheduler has {word}, and in_channels is {channels}"
        )
    return Translated(
        network=replace(network, null_label=classes == 0),
        process=process,
        channels=channels,
        size=size,
        classes=classes,
        scheduler=read.kind,
        sampler=read.sampler,
        notes=(*theirs.notes, *read.notes),
    )


def read_network(theirs: Keys) -> UNetOptions:
    """The options of the network for a configuration of diffusers."""
    theirs.only("center_input_sample", False)
    theirs.only("time_embedding_type", "positional")
    theirs.only("downsample_type", "conv")
    theirs.only("upsample_type", "conv")
    theirs.choice("act_fn", "silu", ("silu", "swish"))
    widths = theirs.counts("block_out_channels", (224, 448, 672, 896), longest=MOST_LEVELS)
    down = _attending(theirs, "down_block_types", (DOWN, ATTENTION_DOWN), len(widths))
    up = _attending(theirs, "up_block_types", (UP, ATTENTION_UP), len(widths))
    up = tuple(sorted(len(widths) - 1 - place for place in up))  # theirs run from coarse to fine
    scale_shift = (
        theirs.choice("resnet_time_scale_shift", "default", ("default", "scale_shift")) == "scale_shift"
    )
    groups = theirs.count("norm_num_groups", 32)
    if uneven := [width for width in widths if width % groups]:
        theirs.refuse(
            "norm_num_groups", groups, f"{uneven[0]} channels cannot be shared evenly by so many groups"
        )
    middle = _middle(theirs)
    attending = [widths[i] for i in (*down, *up)] + [widths[-1]] * (middle == "attention")
    multipliers = tuple(width // widths[0] for width in widths)
    whole = widths == tuple(widths[0] * multiplier for multiplier in multipliers)
    return UNetOptions(
        width=widths[0],
        multipliers=multipliers if whole else (1,) * len(widths),
        widths=() if whole else widths,
        blocks=theirs.count("layers_per_block", 2, int(OURS["blocks"][1])),
        attention=down,
        up_attention="same" if up == down else up,
        middle=middle,
        middle_norm=_middle_norm(theirs, groups, scale_shift=scale_shift),
        middle_scale=theirs.number("mid_block_scale_factor", 1.0, OURS["middle_scale"]),
        heads=1,
        head_width=_head_width(theirs, attending),
        groups=groups,
        norm_eps=theirs.number("norm_eps", 1e-5, OURS["norm_eps"]),
        scale_shift=scale_shift,
        pad_all_sides=theirs.choice("downsample_padding", 1, (0, 1)) == 1,
        frequency_shift=_frequency_shift(theirs, widths[0]),
        cos_first=theirs.flag("flip_sin_to_cos", default=True),
        time_width=theirs.optional_count("time_embedding_dim") or 0,
        dropout=theirs.number("dropout", 0.0, OURS["dropout"]),
        patch=1,
    )


def _attending(theirs: Keys, key: str, kinds: tuple[str, str], levels: int) -> tuple[int, ...]:
    """The places in a list of blocks that have attention; all must be of these two kinds."""
    plain, attention = kinds
    rest = (attention,) * 3
    names = theirs.texts(key, (plain, *rest) if plain == DOWN else (*rest, plain))
    for name in names:
        if name.removeprefix("UNetRes") not in kinds:
            theirs.refuse(key, name, f"blocks known here: {plain}, {attention}")
    if len(names) != levels:
        theirs.refuse(key, list(names), f"block_out_channels has {levels} levels")
    return tuple(i for i, name in enumerate(names) if name.removeprefix("UNetRes") == attention)


def _middle(theirs: Keys) -> Literal["attention", "blocks", "none"]:
    kind = theirs.choice("mid_block_type", MIDDLE, (MIDDLE, None))
    attends = theirs.flag("add_attention", default=True)
    return "none" if kind is None else "attention" if attends else "blocks"


def _middle_norm(theirs: Keys, groups: int, *, scale_shift: bool) -> bool:
    """Without a number of its own, the attention of the middle is normalized only where the time is added."""
    own = theirs.optional_count("attn_norm_num_groups")
    if own not in (None, groups):
        theirs.refuse("attn_norm_num_groups", own, f"only norm_num_groups, {groups}, is known here")
    return own is not None or not scale_shift


def _head_width(theirs: Keys, attending: Sequence[int]) -> int:
    """Channels of a head; 0 for one head of the full width."""
    if "attention_head_dim" not in theirs.config and attending:
        theirs.notes.append("attention_head_dim is missing, which means heads of 8 channels")
    width = theirs.optional_count("attention_head_dim", 8) or 0
    if attending and width > min(attending):
        theirs.refuse("attention_head_dim", width, f"a level with attention has {min(attending)} channels")
    return width


def _frequency_shift(theirs: Keys, width: int) -> float:
    shift = theirs.number("freq_shift", 0.0)
    if not shift < width // 2:
        given = theirs.config.get("freq_shift", 0)
        theirs.refuse("freq_shift", given, f"{width} channels have only {width // 2} frequencies")
    return shift


def _size(theirs: Keys, multiple: int) -> tuple[int, int] | None:
    size = theirs.take("sample_size", None)
    if size is None:
        return None
    sides = size if isinstance(size, list) else [size, size]
    if len(sides) != 2 or not all(is_count(side) for side in sides):
        theirs.refuse(
            "sample_size", size, f"it is a whole number, or height and width, of 1 to {WIDEST:,} pixels"
        )
    if any(side % multiple for side in sides):
        theirs.refuse(
            "sample_size", size, f"with so many levels it has to be a multiple of {multiple}, there too"
        )
    return sides[0], sides[1]


# Ours into theirs


def unet_config(
    options: NetworkOptions, shape: tuple[int, int, int], *, classes: int, learned: bool
) -> dict[str, Any]:
    """The configuration of a network in diffusers; the size is the one it pads to. Raises ModelError without one."""
    network = _known_there(options)
    channels, height, width = shape
    assert network.multipliers != "auto"
    assert network.attention != "auto"
    levels = level_widths(answered(network.width), network.multipliers, network.widths)
    up = network.attention if network.up_attention == "same" else network.up_attention
    down_types = [ATTENTION_DOWN if i in network.attention else DOWN for i in range(len(levels))]
    up_types = [ATTENTION_UP if i in up else UP for i in reversed(range(len(levels)))]
    sides = padded_size((height, width), 2 ** (len(levels) - 1))
    return {
        "_class_name": NETWORK,
        "_diffusers_version": FORMAT,
        "act_fn": "silu",
        "add_attention": network.middle != "blocks",
        "attention_head_dim": _their_head_width(network, levels, up),
        **_their_middle_norm(network),
        "block_out_channels": levels,
        "center_input_sample": False,
        "class_embed_type": None,
        "down_block_types": down_types,
        "downsample_padding": int(network.pad_all_sides),
        "downsample_type": "conv",
        "dropout": network.dropout,
        "flip_sin_to_cos": network.cos_first,
        "freq_shift": _whole_if_it_is(network.frequency_shift),
        "in_channels": channels,
        "layers_per_block": network.blocks,
        "mid_block_type": None if network.middle == "none" else MIDDLE,
        "mid_block_scale_factor": _whole_if_it_is(network.middle_scale),
        "norm_eps": network.norm_eps,
        "norm_num_groups": network.groups,
        "num_class_embeds": classes + network.null_label if classes else None,
        "out_channels": (1 + learned) * channels,
        "resnet_time_scale_shift": "scale_shift" if network.scale_shift else "default",
        "sample_size": sides[0] if sides[0] == sides[1] else list(sides),
        **({"time_embedding_dim": network.time_width} if network.time_width else {}),
        "time_embedding_type": "positional",
        "up_block_types": up_types,
        "upsample_type": "conv",
    }


def _known_there(network: NetworkOptions) -> UNetOptions:
    if not isinstance(network, UNetOptions):
        raise ModelError(f"network.kind = {network.kind} has no counterpart in diffusers", "unet has one")
    if network.patch != 1:
        raise ModelError(f"network.patch = {network.patch} has no counterpart in diffusers", ELSEWHERE)
    if network.fourier_features:
        raise ModelError("network.fourier_features have no counterpart in diffusers", ELSEWHERE)
    return network


def _their_head_width(network: UNetOptions, levels: list[int], up: tuple[int, ...]) -> int | None:
    """Their heads are of one width everywhere, or one head has the full width."""
    if network.head_width or network.heads == 1:
        return network.head_width or None
    assert network.attention != "auto"
    attending = {levels[i] for i in (*network.attention, *up)}
    if network.middle == "attention":
        attending.add(levels[-1])
    if len(attending) > 1:
        raise ModelError(
            f"network.heads = {network.heads} has no counterpart in diffusers: its heads are of one width, "
            f"and here they share {', '.join(map(str, sorted(attending)))} channels",
            ELSEWHERE,
        )
    return attending.pop() // network.heads if attending else None


def _their_middle_norm(network: UNetOptions) -> dict[str, int | None]:
    if network.middle != "attention" or network.middle_norm != network.scale_shift:
        return {"attn_norm_num_groups": None}
    if not network.middle_norm:
        raise ModelError(
            "network.middle_norm = false has no counterpart in diffusers without network.scale_shift"
        )
    assert network.groups != "auto"
    return {"attn_norm_num_groups": network.groups}


def _whole_if_it_is(number: float) -> float:
    return int(number) if number == int(number) else number


def todays_name(name: str) -> str:
    """The name of a weight, which for those of attention was another one before 2023."""
    old = _OLD_NAME.fullmatch(name)
    return name if old is None else f"{old[1]}{OF_OLD[old[2]]}{old[3]}"
