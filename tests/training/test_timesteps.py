"""How training draws t."""

import pytest
import torch

from kakusan.training.timesteps import REMEMBERED, TIMES, UNIFORM_SHARE, ImportantTimes


@pytest.mark.parametrize("name", ["uniform", "stratified", "importance"])
def test_times_are_uniform_over_1_to_T_before_anything_is_learned(name: str) -> None:
    T, size = 10, 128
    times = TIMES[name](T)
    t = torch.cat([times.draw(0, step, torch.arange(size), size)[0] for step in range(100)])
    assert t.dtype == torch.float64
    counts = torch.bincount(t.long(), minlength=T + 1)[1:]
    assert len(counts) == T
    expected = 100 * size / T
    statistic = float(((counts - expected) ** 2 / expected).sum())
    assert statistic < 27.9  # chi-square, 9 degrees: one seed in a thousand


def test_stratified_times_are_spread_over_each_batch() -> None:
    t, _ = TIMES["stratified"](1000).draw(0, 3, torch.arange(100), 100)
    assert torch.equal(((t - 1) // 10).long(), torch.arange(100))


@pytest.mark.parametrize(("size", "first"), [(64, 8), (20, 3), (7, 1), (1, None)])
def test_an_eighth_of_decoder_times_is_1_and_weights_make_up_for_it(size: int, first: int | None) -> None:
    """Every t has the weight 1 / T in the mean: exactly at t = 1, and by 400 draws of each other one in the mean."""
    T = 5
    draws = [TIMES["decoder"](T).draw(0, step, torch.arange(size), size) for step in range(2000)]
    t = torch.cat([t for t, _ in draws])
    weights = torch.cat([torch.ones(size) if w is None else w for _, w in draws])
    if first is not None:
        assert all((t == 1).sum() == first for t, _ in draws)
    shares = torch.zeros(T, dtype=torch.float64).index_add_(0, t.long() - 1, weights.double()) / len(t)
    assert torch.allclose(shares, torch.full((T,), 1 / T, dtype=torch.float64), atol=0.03)


@pytest.mark.parametrize("name", TIMES)
def test_times_of_a_part_are_those_of_the_whole(name: str) -> None:
    times = TIMES[name](1000)
    whole, _ = times.draw(0, 5, torch.arange(12), 12)
    assert torch.equal(whole[4:8], times.draw(0, 5, torch.arange(4, 8), 12)[0])


def taught(size_of: torch.Tensor) -> ImportantTimes:
    """One that has seen ten losses of this size for each t."""
    times = ImportantTimes(len(size_of))
    t = torch.arange(1, len(size_of) + 1).double()
    for _ in range(REMEMBERED):
        times.learn(t, size_of.float())
    return times


def test_important_times_are_drawn_in_proportion_to_the_root_mean_square_loss() -> None:
    times = taught(torch.tensor([4.0, 1.0, 0.0, 3.0]))
    expected = (1 - UNIFORM_SHARE) * torch.tensor([4, 1, 0, 3]) / 8 + UNIFORM_SHARE / 4
    assert torch.allclose(times.probabilities(), expected.double(), atol=1e-12)
    t = torch.cat([times.draw(0, step, torch.arange(64), 64)[0] for step in range(200)])
    frequencies = torch.bincount(t.long(), minlength=5)[1:] / len(t)
    assert torch.allclose(frequencies.double(), expected.double(), atol=0.01)  # 64 strata a batch: far within


def test_weights_make_the_mean_that_of_uniform_t() -> None:
    losses = torch.tensor([4.0, 1.0, 0.5, 3.0, 0.01], dtype=torch.float64)
    times = taught(losses)
    draws = [times.draw(0, step, torch.arange(100), 100) for step in range(50)]
    t = torch.cat([t for t, _ in draws]).long()
    weights = torch.cat([weights for _, weights in draws if weights is not None])
    assert len(weights) == len(t)
    # where p_t is in proportion to the loss, each weighted loss is nearly the mean itself
    assert float((weights * losses[t - 1]).mean()) == pytest.approx(float(losses.mean()), rel=1e-3)
    assert float(weights.mean()) == pytest.approx(1, rel=0.2)  # the rare t weighs 850 times as much


def test_the_oldest_loss_is_forgotten_first_and_the_history_comes_back() -> None:
    times = ImportantTimes(2)
    t = torch.tensor([1.0, 2.0, 1.0]).double()
    for step in range(REMEMBERED):
        times.learn(t, torch.tensor([1.0, 1.0, 2.0]) * (step + 1))
    # t = 1 saw 20 losses, the last ten of them in steps 6 to 10
    assert sorted(times.losses[0].tolist()) == sorted(
        [float(k) for k in range(6, 11)] + [2.0 * k for k in range(6, 11)]
    )
    again = ImportantTimes(2)
    again.load(times.state())
    assert torch.equal(again.probabilities(), times.probabilities())
    times.learn(t, torch.full((3,), 100.0))
    assert not torch.equal(again.probabilities(), times.probabilities())


def test_the_eighth_of_decoder_times_is_of_the_whole_batch_in_micro_batches_too() -> None:
    slots, times = torch.arange(12), TIMES["decoder"](20)
    t, weights = times.draw(0, 3, slots, 12)
    assert int((t == 1).sum()) == 2
    parts = [times.draw(0, 3, part, 12) for part in slots.view(4, 3)]  # accumulation 4
    assert torch.equal(torch.cat([each for each, _ in parts]), t)
    assert weights is not None
    assert torch.equal(torch.cat([each for _, each in parts if each is not None]), weights)
