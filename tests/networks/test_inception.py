"""InceptionV3 against a computation written apart from it: function by function, from the papers' figures."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from kakusan.data.units import Real
from kakusan.errors import DataError, ModelError, SettingsError
from kakusan.evaluation.features import from_file
from kakusan.networks.inception import Inception, with_weights


@pytest.fixture(scope="module")
def weights() -> dict[str, Tensor]:
    """Random ones, of which each has its say."""
    generator = torch.Generator().manual_seed(0)
    found = {}
    for name, value in Inception().state_dict().items():
        if name.endswith("conv.weight"):
            found[name] = torch.randn(value.shape, generator=generator) * (2 / value[0].numel()) ** 0.5
        elif name.endswith(("bn.weight", "running_var")):
            found[name] = 0.5 + torch.rand(value.shape, generator=generator)
        elif name.endswith(("bn.bias", "running_mean")):
            found[name] = 0.2 * torch.randn(value.shape, generator=generator)
    return {**found, "fc.weight": torch.zeros(1008, 2048), "fc.bias": torch.zeros(1008)}


def resized(image: NDArray[np.float64]) -> NDArray[np.float64]:
    """To 299x299 between the four nearest pixels, whose centres lie at halves; beyond the outermost it is constant."""
    for axis in (0, 1):
        size = image.shape[axis]
        place = np.clip((np.arange(299) + 0.5) * size / 299 - 0.5, 0, size - 1)
        low = np.floor(place).astype(int)
        share = np.expand_dims(place - low, 1 - axis)
        high = np.minimum(low + 1, size - 1)
        image = (1 - share) * image.take(low, axis) + share * image.take(high, axis)
    return image


def long_way(w: dict[str, Tensor], image: NDArray[np.float64]) -> Tensor:
    """The 2,048 features of one grey image in [-1, 1]."""

    def unit(name: str, x: Tensor, stride: int = 1, padding: int | tuple[int, int] = 0) -> Tensor:
        y = F.conv2d(x, w[f"{name}.conv.weight"].double(), None, stride, padding)
        mean, variance, scale, shift = (
            w[f"{name}.bn.{part}"].double()[:, None, None]
            for part in ("running_mean", "running_var", "weight", "bias")
        )
        return ((y - mean) / torch.sqrt(variance + 0.001) * scale + shift).clamp(min=0)

    def average(x: Tensor) -> Tensor:
        """Over the places that are there, of 3x3."""
        ones = torch.ones(1, 1, *x.shape[2:], dtype=x.dtype)
        kernel = torch.ones(1, 1, 3, 3, dtype=x.dtype)
        sums = F.conv2d(x.transpose(0, 1), kernel, padding=1).transpose(0, 1)
        return sums / F.conv2d(ones, kernel, padding=1)

    def a(n: str, x: Tensor) -> Tensor:
        five = unit(f"{n}.branch5x5_2", unit(f"{n}.branch5x5_1", x), padding=2)
        three = unit(f"{n}.branch3x3dbl_2", unit(f"{n}.branch3x3dbl_1", x), padding=1)
        three = unit(f"{n}.branch3x3dbl_3", three, padding=1)
        return torch.cat([unit(f"{n}.branch1x1", x), five, three, unit(f"{n}.branch_pool", average(x))], 1)

    def b(n: str, x: Tensor) -> Tensor:
        three = unit(f"{n}.branch3x3dbl_2", unit(f"{n}.branch3x3dbl_1", x), padding=1)
        parts = [unit(f"{n}.branch3x3", x, 2), unit(f"{n}.branch3x3dbl_3", three, 2), F.max_pool2d(x, 3, 2)]
        return torch.cat(parts, 1)

    def c(n: str, x: Tensor) -> Tensor:
        seven = unit(f"{n}.branch7x7_1", x)
        seven = unit(f"{n}.branch7x7_3", unit(f"{n}.branch7x7_2", seven, padding=(0, 3)), padding=(3, 0))
        twice = unit(f"{n}.branch7x7dbl_1", x)
        for k, padding in ((2, (3, 0)), (3, (0, 3)), (4, (3, 0)), (5, (0, 3))):
            twice = unit(f"{n}.branch7x7dbl_{k}", twice, padding=padding)
        return torch.cat([unit(f"{n}.branch1x1", x), seven, twice, unit(f"{n}.branch_pool", average(x))], 1)

    def d(n: str, x: Tensor) -> Tensor:
        three = unit(f"{n}.branch3x3_2", unit(f"{n}.branch3x3_1", x), 2)
        seven = unit(f"{n}.branch7x7x3_2", unit(f"{n}.branch7x7x3_1", x), padding=(0, 3))
        seven = unit(f"{n}.branch7x7x3_4", unit(f"{n}.branch7x7x3_3", seven, padding=(3, 0)), 2)
        return torch.cat([three, seven, F.max_pool2d(x, 3, 2)], 1)

    def e(n: str, x: Tensor, pool: Callable[[Tensor], Tensor]) -> Tensor:
        three = unit(f"{n}.branch3x3_1", x)
        twice = unit(f"{n}.branch3x3dbl_2", unit(f"{n}.branch3x3dbl_1", x), padding=1)
        parts = [unit(f"{n}.branch1x1", x)]
        for part, y in (("branch3x3_2", three), ("branch3x3dbl_3", twice)):
            parts += [unit(f"{n}.{part}a", y, padding=(0, 1)), unit(f"{n}.{part}b", y, padding=(1, 0))]
        return torch.cat([*parts, unit(f"{n}.branch_pool", pool(x))], 1)

    x = torch.from_numpy(resized(image)).repeat(1, 3, 1, 1)
    x = unit("Conv2d_2b_3x3", unit("Conv2d_2a_3x3", unit("Conv2d_1a_3x3", x, 2)), padding=1)
    x = unit("Conv2d_4a_3x3", unit("Conv2d_3b_1x1", F.max_pool2d(x, 3, 2)))
    x = F.max_pool2d(x, 3, 2)
    for block, kind in zip(
        ["5b", "5c", "5d", "6a", "6b", "6c", "6d", "6e", "7a"], (a, a, a, b, c, c, c, c, d), strict=True
    ):
        x = kind(f"Mixed_{block}", x)
    x = e("Mixed_7c", e("Mixed_7b", x, average), lambda y: F.max_pool2d(y, 3, 1, 1))
    return x.mean((0, 2, 3))


def test_features_are_those_of_the_long_way(weights: dict[str, Tensor], tmp_path: Path) -> None:
    save_file(weights, tmp_path / "inception.safetensors")
    torch.save(weights, tmp_path / "inception.pth")
    image = np.random.default_rng(0).uniform(-1, 1, (20, 31))
    x = torch.from_numpy(image)[None, None].float()
    features = from_file(tmp_path / "inception.safetensors")
    expected = long_way(weights, image).numpy()
    assert expected.std() > 0.1
    assert np.abs(features(x)[0] - expected).max() < 1e-4 * np.abs(expected).max()  # float32 and 48 layers
    unpickled = from_file(tmp_path / "inception.pth")
    assert np.array_equal(unpickled(x), features(x))
    assert features.name.startswith("inception.safetensors ")
    assert np.allclose(features(x.repeat(1, 3, 1, 1)), features(x), rtol=1e-5)
    with pytest.raises(DataError, match="grey or colour images"):
        features(x.repeat(1, 2, 1, 1))


def test_weights_of_other_networks_are_refused_by_name(weights: dict[str, Tensor], tmp_path: Path) -> None:
    few = {name: value for name, value in weights.items() if not name.startswith("Mixed_7c.branch_pool")}
    with pytest.raises(ValueError, match=r"there is no Mixed_7c\.branch_pool\.conv\.weight"):
        with_weights(few)
    with pytest.raises(ValueError, match="shape"):
        with_weights({**weights, "Conv2d_1a_3x3.conv.weight": torch.zeros(32, 1, 3, 3)})
    with pytest.raises(ValueError, match="layer1 belongs to another network"):
        with_weights({**weights, "layer1": torch.zeros(1)})
    save_file({"layer1": torch.zeros(3)}, tmp_path / "other.safetensors")
    with pytest.raises(ModelError, match="does not hold the weights of the InceptionV3"):
        from_file(tmp_path / "other.safetensors")
    (tmp_path / "bad.pth").write_bytes(b"no weights")
    with pytest.raises(ModelError, match=r"bad\.pth"):
        from_file(tmp_path / "bad.pth")
    with pytest.raises(SettingsError, match="there is no file"):
        from_file(tmp_path / "none.pth")


def test_real_values_are_no_pictures(tmp_path: Path) -> None:
    """Said before the file is opened: there is no way to show them to it."""
    with pytest.raises(SettingsError, match="these are real values"):
        from_file(tmp_path / "none.pth", Real((0.0,), (1.0,)))
