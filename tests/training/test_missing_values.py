"""Missing values in losses, bounds, trainings and samples: what is not there is not seen, to the bit."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

import kakusan as kk
from kakusan.config.networks.mlp import MLPOptions
from kakusan.config.settings import DataSettings
from kakusan.data import open_data
from kakusan.data.batches import Split
from kakusan.diffusion.denoiser import NetworkDenoiser
from kakusan.diffusion.guidance import Guided
from kakusan.diffusion.likelihood import BITS, pair_terms, prior_term, variational_bound
from kakusan.diffusion.model import Model
from kakusan.diffusion.oracles import GaussianOracle
from kakusan.diffusion.prediction import Prediction
from kakusan.diffusion.schedules import Cosine
from kakusan.errors import DataError, SettingsError
from kakusan.networks import UNet
from kakusan.networks.interface import Interface
from kakusan.shapes import Condition
from kakusan.training.tables import LOSSES
from kakusan.training.validation import compared, stationary

T = 20
SETTINGS: dict[str, Any] = {
    "network.width": 8,
    "network.multipliers": (1,),
    "network.blocks": 1,
    "network.attention": (),
    "training.batch_size": 4,
    "training.warmup": 0,
    "machine.threads": 1,
    "machine.device": "cpu",
    "samples.count": 2,
    "samples.steps": 2,
    "log.every": 2,
    "process.T": T,
    "data.missing": "mask",
}


def sea(n: int = 24, side: int = 8, channels: int = 1, seed: int = 0) -> NDArray[np.float64]:
    """Smooth fields around 290, (n, side, side, channels)."""
    rough = np.random.default_rng(seed).normal(size=(n, side, side, channels))
    return 290 + rough + 0.8 * np.roll(rough, 1, 1) + 0.6 * np.roll(rough, 1, 2)


def with_land(fields: NDArray[np.float64]) -> NDArray[np.float64]:
    y, x = np.mgrid[: fields.shape[1], : fields.shape[2]]
    return np.where(((x + y) < 5)[..., None], np.nan, fields)


def with_dead_pixels(fields: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(np.random.default_rng(5).random(fields.shape) < 0.2, np.nan, fields)


KINDS = {"land": with_land, "dead": with_dead_pixels}


def network(words: int = 1) -> UNet:
    torch.manual_seed(0)
    form: dict[str, Any] = {"width": 8, "multipliers": (1,), "blocks": 1, "attention": (), "groups": 4}
    found = UNet(channels=1, out_channels=words, mask_channels=1, **form)
    for parameter in found.parameters():  # the last layer begins near 0, and then hardly anything is seen
        if parameter.dim() > 1:
            torch.nn.init.xavier_uniform_(parameter)
    return found


def batch() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """x_0, noise, t and a mask."""
    generator = torch.Generator().manual_seed(1)
    x_0, noise = torch.randn(2, 6, 1, 8, 8, generator=generator)
    mask = (torch.rand(6, 1, 8, 8, generator=generator) > 0.3).float()
    return x_0, noise, torch.linspace(1, T, 6).round().double(), mask


@pytest.mark.parametrize("name", LOSSES)
def test_loss_and_gradient_do_not_see_missing_values(name: str) -> None:
    learned = LOSSES[name].teaches_variance
    unet = network(1 + learned)
    model = Model(NetworkDenoiser(unet, Cosine(T=T), "v"), "learned" if learned else "fixed-large")
    x_0, noise, t, mask = batch()
    found = []
    for shift in (0.0, 3.0):
        unet.zero_grad()
        hidden = (1 - mask) * shift
        loss = LOSSES[name].per_image(model, x_0 + hidden, t, noise - hidden, Condition(mask=mask))
        torch.autograd.backward(loss.sum())
        found.append([loss.detach(), *(p.grad for p in unet.parameters() if p.grad is not None)])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
    assert found[0][0].isfinite().all()


@pytest.mark.parametrize("name", LOSSES)
def test_a_mask_of_ones_is_no_mask(name: str) -> None:
    learned = LOSSES[name].teaches_variance
    model = Model(
        NetworkDenoiser(network(1 + learned), Cosine(T=T), "v"), "learned" if learned else "fixed-large"
    )
    x_0, noise, t, mask = batch()
    plain = LOSSES[name].per_image(model, x_0, t, noise)
    masked = LOSSES[name].per_image(model, x_0, t, noise, Condition(mask=torch.ones_like(mask)))
    assert torch.allclose(plain, masked, rtol=1e-5)  # sum over count in float32, in place of the mean


def test_the_bound_of_independent_values_is_that_of_the_values_that_are_there() -> None:
    """With a constant mask, cut out by hand; T terms each, and the prior, with the same noise."""
    oracle = GaussianOracle(Cosine(T=T), 0.0, 1.5)
    generator = torch.Generator().manual_seed(2)
    x_0, noise = torch.randn(2, 5, 1, 4, 4, generator=generator, dtype=torch.float64)
    there = torch.rand(4, 4, generator=generator) > 0.4
    mask = there.double().expand(5, 1, 4, 4)
    model = Model(oracle)
    for time in (1, 2, 7, T):
        t = torch.full((5,), float(time), dtype=torch.float64)
        masked = pair_terms(model, x_0, t, noise, Condition(mask=mask))
        cut = pair_terms(model, x_0[..., there], t, noise[..., there])
        for a, b in zip(masked, cut, strict=True):
            assert torch.allclose(a, b, rtol=1e-12)
    bound = variational_bound(model, x_0, condition=Condition(mask=mask))
    assert torch.allclose(
        bound.L_T, prior_term(model.path, x_0[..., there]).flatten(1).mean(1) * BITS, rtol=1e-12
    )
    moved = variational_bound(model, x_0 + 9 * (1 - mask), condition=Condition(mask=mask))
    assert torch.equal(bound.total, moved.total)


@pytest.mark.parametrize(("rounds", "off"), [(12, 0.03), (300, 5e-4)])
def test_the_baseline_fills_gaps_as_the_exact_denoiser_of_a_stationary_gaussian(
    monkeypatch: pytest.MonkeyPatch, rounds: int, off: float
) -> None:
    """Against the Gaussian of the values that are there, whose covariance is a part of that of all."""
    schedule = Cosine(T=50)
    rough = torch.randn(6000, 1, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x_0 = 0.3 + rough + 0.8 * rough.roll(1, 2) + 0.5 * rough.roll(1, 3)
    there = torch.ones(4, 4, dtype=torch.bool)
    there[1, 2] = there[3, 0] = False
    mask = there.float().expand(40, 1, 4, 4)
    silent = lambda x_t, time, condition=None: torch.zeros_like(x_t)  # noqa: ARG005, E731
    known = stationary(Model(NetworkDenoiser(silent, schedule, "v")), x_0.float())
    power = torch.fft.fft2(x_0 - x_0.mean(), norm="ortho").abs().square().mean(0)
    lags, places = torch.fft.ifft2(power).real[0], torch.arange(16)
    covariance = lags[(places[:, None] // 4 - places // 4) % 4, (places[:, None] % 4 - places % 4) % 4]
    kept = there.flatten().nonzero()[:, 0]
    exact = GaussianOracle(schedule, float(x_0.mean()), covariance[kept][:, kept])
    monkeypatch.setattr("kakusan.training.validation.FILLINGS", rounds)
    t = torch.linspace(10, 45, 40).round().double()
    x_t = torch.randn(40, 1, 4, 4, generator=torch.Generator().manual_seed(1))
    found = known.predict(torch.where(there, x_t, 1e3), t, Condition(mask=mask)).x_0.flatten(1)[:, kept]
    wanted = exact.predict(x_t.flatten(1)[:, kept].view(40, 1, 1, -1), t).x_0.flatten(1)
    assert torch.allclose(found, wanted.float(), atol=off)  # slowest where there is little noise


def test_the_spectrum_of_the_values_that_are_there_is_that_of_all() -> None:
    """Of white noise, where gaps change nothing but its share."""
    x_0 = 0.3 + 1.7 * torch.randn(4000, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    mask = (torch.rand(x_0.shape, generator=torch.Generator().manual_seed(1)) > 0.3).float()
    model = Model(NetworkDenoiser(network(), Cosine(T=T), "x_0"))
    t, x_t = torch.full((9,), 8.0, dtype=torch.float64), torch.randn(9, 1, 4, 4)
    whole, some = (stationary(model, x_0 * there, given) for there, given in ((1, None), (mask, mask)))
    assert torch.allclose(
        whole.predict(x_t, t).x_0, some.predict(x_t, t).x_0, atol=0.05
    )  # sampling error of 64,000


def test_guidance_measures_its_contrast_where_values_are_there() -> None:
    class Flat(kk.Denoiser):
        path = Cosine(T=T)

        def predict(self, x_t: Tensor, t: Tensor, condition: Condition | None = None) -> Prediction:  # noqa: ARG002
            return Prediction(self.scale * x_t, x_t)

        def __init__(self, scale: float) -> None:
            self.scale = scale

    x_0, _, t, mask = batch()
    guided = Guided(Flat(1.0), 3.0, Flat(0.5), rescale=1.0)
    plain = guided.predict(x_0, t, Condition(mask=mask)).x_0
    loud = guided.predict(torch.where(mask == 1, x_0, 50.0), t, Condition(mask=mask)).x_0
    assert torch.allclose(plain[mask == 1], loud[mask == 1], rtol=1e-5)


def trained(array: NDArray[Any], folder: Path, **more: Any) -> kk.Run:
    return kk.train(array, run=folder, steps=6, settings=SETTINGS | more, progress=False)


@pytest.fixture(scope="module", params=KINDS)
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> kk.Run:
    folder = tmp_path_factory.mktemp("missing") / str(request.param)
    return trained(KINDS[request.param](sea()), folder)


def test_samples_have_the_gaps_of_held_out_samples_in_turn(run: kk.Run) -> None:
    prepared = run.prepared()
    missing = np.isnan(prepared.dataset.images[prepared.split.held_out])
    x = run.sample(5, "ddim", progress=False)
    values = run.decode(x)
    assert values.shape == (5, 8, 8, 1)
    assert (np.isnan(values) == missing[np.arange(5) % len(missing)]).all()
    again = run.sample(2, "ddim", first=3, exact=True, progress=False)
    assert torch.equal(again.isnan(), x[3:].isnan())
    full = run.sample(2, "ddim", mask="full", progress=False)
    assert full.isfinite().all()
    mask = np.zeros((8, 8), bool)
    mask[2:5] = True
    some = run.decode(run.sample(2, "ddim", mask=mask, progress=False))
    assert (np.isnan(some[..., 0]) == ~mask).all()


def test_samples_start_from_samples_with_gaps(run: kk.Run) -> None:
    x = run.sample(3, progress=False)
    found = run.sample(images=x, t=5, progress=False)
    assert torch.equal(found.isnan(), x.isnan())
    assert found[~found.isnan()].isfinite().all()


def test_a_bound_is_over_the_values_that_are_there(run: kk.Run) -> None:
    report = run.evaluate(images=4, progress=False)
    array = run.prepared().dataset.images
    numbers = np.concatenate([part.numbers for part in report.parts])
    assert report.about["missing"] == pytest.approx(np.isnan(array[numbers]).mean())
    assert report.about["own_units_offset"] == pytest.approx(np.log2(run.data.units.scale[0]))  # type: ignore[union-attr]
    assert "by_heart" in report.about
    assert all(part.near == {} for part in report.parts)
    other = run.evaluate(data=with_dead_pixels(sea(6, seed=3)), images=4, progress=False)
    assert np.isfinite(other.parts[0].bound.mean)
    whole = run.evaluate(data=sea(6, seed=3), images=4, progress=False)
    assert np.isfinite(whole.parts[0].bound.mean)
    assert "missing" not in whole.about


def test_bits_in_the_units_of_the_data_weigh_channels_by_their_values(tmp_path: Path) -> None:
    array = sea(channels=2) * (1, 100)
    array[:, ::2, :, 1] = np.nan  # half of the second channel
    run = trained(array, tmp_path / "two")
    units = run.data.units
    assert isinstance(units, kk.Real)
    about = run.evaluate(images=4, progress=False).about
    assert about["own_units_offset"] == pytest.approx(np.dot(np.log2(units.scale), (2 / 3, 1 / 3)))


def test_a_training_with_gaps_resumes_bit_for_bit(tmp_path: Path) -> None:
    array, settings = with_dead_pixels(sea()), {"checkpoint.every": 3, "data.flip": True}
    whole = trained(array, tmp_path / "whole", **settings)

    class InterruptionError(Exception):
        pass

    def stop(event: Any) -> None:
        if getattr(event, "step", 0) == 4:
            raise InterruptionError

    with pytest.raises(InterruptionError):
        kk.train(
            array, run=tmp_path / "cut", steps=6, settings=SETTINGS | settings, watch=stop, progress=False
        )
    cut = kk.Run.open(tmp_path / "cut").resume(data=array, progress=False)
    for part in ("model", "ema", "optimizer"):
        one, two = (each.files.load(print, parts=[part]).tensors[part] for each in (whole, cut))
        assert one.keys() == two.keys()
        assert all(torch.equal(one[name], two[name]) for name in one)


def test_values_under_the_land_do_not_matter_and_the_weights_are_the_same(tmp_path: Path) -> None:
    """One run read from float32 and one whose missing values have other bits of nan."""
    array = with_land(sea()).astype(np.float32)
    other = array.copy()
    other[np.isnan(other)] = -np.float32(np.nan)
    one, two = trained(array, tmp_path / "one"), trained(other, tmp_path / "two")
    weights = [each.files.load(print, parts=["ema"]).tensors["ema"] for each in (one, two)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_fine_tuning_needs_masks_on_both_sides(run: kk.Run, tmp_path: Path) -> None:
    masked = {"data.missing": "mask"}
    plain = kk.train(sea(), run=tmp_path / "plain", steps=2, settings=SETTINGS, progress=False)

    def begun(array: NDArray[Any], parent: kk.Run, **settings: Any) -> kk.Run:
        return kk.train(
            array, weights_from=parent.folder, run=tmp_path / "x", steps=2, settings=settings, progress=False
        )

    with pytest.raises(SettingsError, match="was trained on data without missing values, and takes no mask"):
        begun(with_land(sea()), plain, **masked)
    with pytest.raises(SettingsError, match="was trained on data with missing values, and in these none is"):
        begun(sea(), run)
    child = begun(with_dead_pixels(sea()), run, **masked)
    assert child.data.masked
    with pytest.raises(SettingsError, match="takes no mask"):
        plain.sample(2, mask="full", progress=False)
    with pytest.raises(DataError, match="was trained on data without missing values"):
        plain.evaluate(data=open_data(with_land(sea()), DataSettings(missing="mask")), progress=False)


def test_classes_go_together_with_gaps(tmp_path: Path) -> None:
    array, labels = with_dead_pixels(sea()), np.arange(24) % 3
    run = kk.train(array, labels=labels, run=tmp_path / "run", steps=2, settings=SETTINGS, progress=False)
    kept = run.condition()
    assert kept is not None
    assert kept.label is None  # as without gaps: of no class
    for guidance in (None, 2.0):
        for label in ("1", "each", "0:1+2:1"):
            x = run.sample(4, label=label, guidance=guidance, progress=False)
            assert 0 < x.isnan().double().mean() < 0.5
            assert x[~x.isnan()].isfinite().all()
    given = run.condition(label="1")
    assert given is not None
    assert given.mask is not None
    assert len(given) == len(kept)


@pytest.mark.parametrize(
    ("shape", "kind"), [((100, 2), "auto"), ((24, 2, 16), "auto"), ((24, 6, 6, 6), "volume")]
)
def test_gaps_in_samples_of_any_rank(shape: tuple[int, ...], kind: str, tmp_path: Path) -> None:
    array = np.random.default_rng(0).normal(size=shape)
    array[np.random.default_rng(1).random(shape) < 0.2] = np.nan
    array[np.isnan(array).all(axis=tuple(range(1, len(shape))))] = 0.5
    own = {"data.kind": kind}
    settings = {k: v for k, v in SETTINGS.items() if len(shape) > 2 or not k.startswith("network.")}
    run = kk.train(array, run=tmp_path / "run", steps=2, settings=settings | own, progress=False)
    values = run.decode(run.sample(10, progress=False))
    assert values.shape == (10, *shape[1:])  # in the axes of the data
    assert 0 < np.isnan(values).mean() < 0.5
    report = run.evaluate(images=3, progress=False)
    assert all(np.isfinite(part.bound.mean) for part in report.parts)


def test_a_point_without_one_coordinate_is_told_so() -> None:
    made = MLPOptions(width=32, depth=1).build(
        Interface(channels=2, out_channels=2, mask_channels=2, dimensions=0)
    )
    x, t, mask = torch.randn(4, 2), torch.ones(4), torch.tensor([[1.0, 0.0]]).expand(4, 2)
    moved = x + torch.tensor([0.0, 5.0])
    assert torch.equal(made(x, t, Condition(mask=mask)), made(moved, t, Condition(mask=mask)))
    assert not torch.equal(made(x, t, Condition(mask=mask)), made(x, t))


def test_held_out_losses_are_over_the_values_that_are_there() -> None:
    dataset = open_data(with_dead_pixels(sea()), DataSettings(missing="mask"))
    model = Model(NetworkDenoiser(network(), Cosine(T=T), "v"))
    split = Split(np.arange(16), np.arange(16, 24))
    found = compared(model, LOSSES["simple"], dataset, split, torch.device("cpu")).figures
    filled = replace(dataset, masked=False)
    other = compared(model, LOSSES["simple"], filled, split, torch.device("cpu")).figures
    assert all(np.isfinite(value) for value in found.values())
    assert found["baseline_loss"] != other["baseline_loss"]
