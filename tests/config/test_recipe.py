"""What "auto" comes to: rules of the data, the device and the number of steps."""

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from kakusan.config.facts import DataFacts, Size
from kakusan.config.loading import flat
from kakusan.config.networks import MLPOptions, NetworkOptions, TransformerOptions, UNetOptions, settled
from kakusan.config.networks.unet import LADDER, UNFOLDED
from kakusan.config.resolve import resolve, resolve_for
from kakusan.config.section import answered
from kakusan.config.settings import ProcessSettings, Settings, TrainingSettings
from kakusan.errors import SettingsError

BY_RIGHT = {
    "training.minutes",
    "process.beta_1",
    "process.beta_T",
    "data.levels",
    "data.range",
    "data.layout",
}
"""Settings whose "auto" is an answer."""


def facts(*shape: int, count: int = 10_000) -> DataFacts:
    return DataFacts(shape, is_levels=True, count=count)


def resolved(of: DataFacts, steps: int = 2000, settings: Settings | None = None) -> Settings:
    on_a_cpu = settings or Settings()
    on_a_cpu = replace(on_a_cpu, machine=replace(on_a_cpu.machine, device="cpu"))
    return resolve_for(resolve(on_a_cpu, of), of, steps, UNFOLDED[0])


def network(*shape: int, folded: bool = False, device: str = "cpu") -> UNetOptions:
    size = LADDER[0] if folded else UNFOLDED[0]
    return UNetOptions().resolved(facts(*shape), size, device)


def test_nothing_stays_auto_but_what_is_an_answer() -> None:
    values = flat(resolved(facts(3, 32, 32)))
    left = {name for name, value in values.items() if value == "auto"}
    assert left <= BY_RIGHT | {"training.accumulation"}  # which the memory decides: `ladder.within_memory`


@pytest.mark.parametrize(
    ("shape", "halvings"),
    [
        ((1, 28, 28), 2),
        ((3, 32, 32), 2),
        ((1, 16, 16), 1),
        ((1, 8, 8), 1),
        ((2, 48, 20), 3),
        ((1, 1, 256), 1),
        ((3, 8, 256), 3),
        ((1, 2, 64), 2),
    ],
)
def test_levels_halve_the_image_to_about_8_pixels_and_padding_stays_small(
    shape: tuple[int, int, int], halvings: int
) -> None:
    found = network(*shape)
    assert found.multipliers == (1,) + (2,) * halvings
    assert found.patch != "auto"
    _, height, width = shape
    least = found.patch * 2**halvings
    padded = -(-height // least) * -(-width // least) * least**2
    assert padded <= 2 * height * width


@pytest.mark.parametrize(
    ("width", "groups"), [(8, 1), (32, 2), (48, 3), (64, 4), (96, 6), (192, 12), (1024, 32)]
)
def test_a_group_of_a_normalization_has_16_channels(width: int, groups: int) -> None:
    found = UNetOptions(width=width).resolved(facts(1, 28, 28), UNFOLDED[0], "cpu")
    assert found.groups == groups


def test_large_images_are_folded_on_a_cpu_as_far_as_the_channels_carry_it() -> None:
    patches = {(c, side): network(c, side, side).patch for c in (1, 3, 20) for side in (32, 64, 128, 256)}
    assert [patches[1, side] for side in (32, 64, 128, 256)] == [1, 2, 4, 4]  # 16 values through 32 channels
    assert [patches[3, side] for side in (32, 64, 128, 256)] == [1, 2, 2, 2]
    assert {patches[20, side] for side in (32, 64, 128, 256)} == {1}
    assert network(3, 64, 64, device="cuda").patch == 1


def test_the_smallest_network_folds_once_more_but_never_small_images() -> None:
    assert network(1, 28, 28, folded=True).patch == 2
    assert network(1, 28, 28).patch == 1
    assert network(1, 16, 16, folded=True).patch == network(1, 8, 8, folded=True).patch == 1


def test_points_have_an_mlp() -> None:
    assert resolved(facts(2)).network == MLPOptions(width=128, depth=3)


def test_the_ladder_rises() -> None:
    assert all(lower.steps < upper.steps for lower, upper in pairwise(LADDER))
    assert LADDER[0].steps == 0


@pytest.mark.parametrize("steps", [1, 10, 200, 1000, 20_000, 800_000])
def test_the_warm_up_and_the_memory_of_the_average_are_shares_of_the_training(steps: int) -> None:
    training = resolved(facts(3, 32, 32), steps).training
    assert training.warmup != "auto"
    assert training.ema != "auto"
    assert training.warmup <= steps / 20
    assert training.warmup <= 500
    assert 0 <= training.ema <= 0.9999
    if 10 < steps < 100_000:
        assert 1 / (1 - training.ema) == pytest.approx(steps / 10, rel=0.05)  # two digits are kept


def test_the_rate_falls_with_the_width_and_with_the_length() -> None:
    def rate(width: int, steps: int) -> float:
        settings = Settings(network=UNetOptions(width=width))
        found = resolved(facts(3, 32, 32), steps, settings).training.learning_rate
        assert found != "auto"
        return found

    assert rate(32, 2000) == 3e-3
    assert rate(64, 2000) == 1.5e-3
    assert rate(32, 2000) > rate(32, 100_000) >= 2e-4
    assert rate(1024, 10**6) == 2e-4


def test_fine_tuning_takes_smaller_steps() -> None:
    of = facts(3, 32, 32)
    settings = resolve(Settings(), of)
    anew, further = (
        resolve_for(settings, of, 2000, UNFOLDED[0], fine_tuning=tuned).training.learning_rate
        for tuned in (False, True)
    )
    assert anew == 3e-3
    assert further == pytest.approx(9e-4)


def test_dropout_comes_with_seeing_each_image_often() -> None:
    def dropout(count: int) -> object:
        found = resolved(facts(1, 28, 28, count=count), 2000).network  # 128,000 images in all
        assert isinstance(found, UNetOptions)
        return found.dropout

    assert (dropout(60_000), dropout(1_000), dropout(40)) == (0.0, 0.1, 0.2)


def test_what_was_chosen_stays() -> None:
    chosen = Settings(
        process=ProcessSettings(schedule="linear", predicts="eps"),
        network=UNetOptions(width=48, blocks=3, multipliers=(1, 1), attention=(), dropout=0.3, patch=4),
        training=TrainingSettings(
            batch_size=7, accumulation=7, learning_rate=1e-5, warmup=1999, ema=0.5, decay="constant"
        ),
    )
    found = resolved(facts(3, 32, 32), 2000, chosen)
    assert (found.process.schedule, found.process.predicts) == ("linear", "eps")
    wanted = {name: value for name, value in flat(chosen).items() if value != "auto"}
    kept = {name: value for name, value in flat(found).items() if name in wanted}
    assert {name for name in wanted if kept[name] != wanted[name]} <= {"data.size"}


def test_ends_of_a_linear_schedule_choose_it() -> None:
    found = resolved(facts(3, 32, 32), 2000, Settings(process=ProcessSettings(beta_T=0.01)))
    assert found.process.schedule == "linear"


# The transformer


def transformer(
    *shape: int, device: str = "cpu", size: Size = UNFOLDED[0], **chosen: Any
) -> TransformerOptions:
    return TransformerOptions(**chosen).resolved(facts(*shape), size, device)


@pytest.mark.parametrize(
    ("shape", "patch"),
    [
        ((3, 64, 64), 8),
        ((3, 128, 128), 16),
        ((3, 512, 512), 64),
        ((1, 28, 28), 4),
        ((1, 8, 8), 1),
        ((1, 200, 100), 32),  # 7 x 4 of them; 13 x 7 would be too many
        ((1, 256), 4),
        ((1, 32, 32, 32), 8),
        ((3, 4, 4096), 4),  # no larger than the shorter side
    ],
)
def test_a_transformers_patch_leaves_64_tokens_on_a_cpu(shape: tuple[int, ...], patch: int) -> None:
    assert transformer(*shape).patch == patch


def test_a_gpu_has_four_times_as_many_tokens() -> None:
    assert transformer(3, 64, 64, device="cuda").patch == 4
    assert transformer(3, 256, 256, device="cuda").patch == 16


def test_a_transformer_grows_with_the_ladder_from_192_channels_to_the_papers_base_size_and_beyond() -> None:
    found = [transformer(3, 64, 64, size=size) for size in UNFOLDED]
    sizes = [(each.width, each.blocks) for each in found]
    assert sizes[0] == (192, 6)
    assert (768, 12) in sizes
    assert sizes == sorted(sizes)
    assert all(answered(each.width) // answered(each.heads) in (32, 64) for each in found)


def test_a_transformers_chosen_values_are_kept() -> None:
    chosen: dict[str, Any] = {"width": 80, "blocks": 3, "patch": 2, "heads": 5}
    found = transformer(3, 64, 64, **chosen)
    assert {name: getattr(found, name) for name in chosen} == chosen
    assert (
        transformer(3, 64, 64, width=80).heads == 5
    )  # of 16 channels, the largest part that it shares with 64


@pytest.mark.parametrize("path", ["vp", "flow", "edm"])
def test_a_transformer_predicts_x_0_by_the_loss_of_the_velocity(path: str) -> None:
    asked = Settings(network=TransformerOptions(), process=ProcessSettings(path=path))
    found = resolved(facts(3, 64, 64), settings=asked)
    assert (found.process.predicts, found.training.loss) == ("x_0", "velocity")


def test_a_transformers_rate_falls_with_its_width() -> None:
    rates = {}
    for width in (96, 192, 384, 768):
        network = TransformerOptions(width=width)
        rates[width] = resolved(facts(3, 64, 64), settings=Settings(network=network)).training.learning_rate
    assert rates == {96: 3e-3, 192: 3e-3, 384: 1.5e-3, 768: 7.5e-4}


def test_another_target_or_variance_of_a_transformer_has_the_usual_loss() -> None:
    network = TransformerOptions()
    of_v = resolved(
        facts(3, 64, 64), settings=Settings(network=network, process=ProcessSettings(predicts="v"))
    )
    assert (of_v.process.predicts, of_v.training.loss) == ("v", "simple")
    learned = ProcessSettings(variance="learned")
    found = resolved(facts(3, 64, 64), settings=Settings(network=network, process=learned))
    assert (found.process.predicts, found.training.loss) == ("x_0", "hybrid")


def test_a_transformer_is_not_for_points() -> None:
    with pytest.raises(SettingsError, match="kind transformer does not fit these data"):
        settled(TransformerOptions(), facts(2))


@pytest.mark.parametrize(
    ("chosen", "shape", "passes"),
    [
        ({"width": 32, "patch": 2}, (3, 64, 64), True),  # 12 values in 32 channels
        ({"width": 24, "patch": 2}, (3, 64, 64), True),  # 12 are half of them
        ({"width": 23, "patch": 2}, (3, 64, 64), False),
        ({"width": 32, "patch": 4}, (3, 64, 64), False),  # 48: was noise after 2,000 steps
        ({"width": 32, "patch": 16}, (1, 256), True),  # of a signal 16
        ({"width": 32, "patch": 4}, (1, 8, 8, 8), False),  # of a volume 64
        ({"widths": (96, 8), "patch": 4}, (3, 64, 64), True),
        ({"kind": TransformerOptions, "width": 768, "patch": 4, "bottleneck": 64}, (3, 64, 64), True),  # 48
        (
            {"kind": TransformerOptions, "width": 768, "patch": 16, "bottleneck": 0},
            (3, 256, 256),
            False,
        ),  # 768
        ({"kind": TransformerOptions, "width": 768, "patch": 8, "bottleneck": 0}, (3, 64, 64), True),  # 192
        ({"kind": TransformerOptions, "width": 768, "patch": 8, "bottleneck": 191}, (3, 64, 64), False),
        ({"kind": TransformerOptions, "width": 768, "patch": 8, "bottleneck": 192}, (3, 64, 64), True),
    ],
    ids=str,
)
def test_noise_passes_where_a_position_has_twice_as_many_channels_as_values(
    chosen: dict[str, Any], shape: tuple[int, ...], passes: bool
) -> None:
    kind: type[NetworkOptions] = chosen.get("kind", UNetOptions)
    options = {name: value for name, value in chosen.items() if name != "kind"}
    network = kind(**options).resolved(facts(*shape), UNFOLDED[0], "cpu")
    assert network.passes_noise(shape) is passes


@pytest.mark.parametrize("shape", [(3, 64, 64), (1, 28, 28), (20, 16, 16), (3, 512, 512), (1, 256)])
@pytest.mark.parametrize("folded", [True, False])
def test_noise_passes_through_every_automatic_u_net(shape: tuple[int, ...], folded: bool) -> None:
    size = LADDER[0] if folded else UNFOLDED[0]
    assert UNetOptions().resolved(facts(*shape), size, "cpu").passes_noise(shape) is (shape[0] <= 16)
