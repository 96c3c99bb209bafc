"""Each operator: its adjoint, its derivative, its values by an independent computation, and what it refuses."""

import math
from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from kakusan.errors import SettingsError
from kakusan.operators import (
    Blur,
    Clip,
    Crop,
    Down,
    Fourier,
    Identity,
    Linear,
    Magnitude,
    Mask,
    Matrix,
    Operator,
    Quantize,
    Radon,
    composed,
    even_angles,
    function,
    gaussian_blur,
    stacked,
)

Shape = tuple[int, ...]
Doubles = NDArray[np.float64]


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def some(*shape: int) -> Tensor:
    """Booleans, at least one of them True."""
    kept = drawn(*shape, seed=3) > 0
    kept.view(-1)[0] = True
    return kept


def rolled(x: Tensor) -> Tensor:
    return x.cumsum(-1) + x.roll(1, -1)


MAKERS: dict[str, Callable[[Shape], Linear]] = {
    "mask": lambda shape: Mask(some(*shape)),
    "mask of all channels": lambda shape: Mask(some(*shape[1:])),
    "identity": lambda _: Identity(),
    "crop": lambda shape: Crop(
        tuple(n // 3 for n in shape[1:]), tuple(n - n // 3 - n // 4 for n in shape[1:])
    ),
    "blur, small": lambda shape: Blur(drawn(*(3, 2, 4)[: len(shape) - 1])),
    "blur, periodic": lambda shape: Blur(drawn(*(3, 4, 2)[: len(shape) - 1]), "periodic"),
    "blur, zero": lambda shape: Blur(drawn(*(4, 3, 2)[: len(shape) - 1]), "zero"),
    "blur, wide": lambda shape: Blur(drawn(*(71, 9, 3)[: len(shape) - 1])),
    "gauss": lambda shape: gaussian_blur(1.2, len(shape) - 1, "zero"),
    "gauss, periodic": lambda shape: gaussian_blur(2.0, len(shape) - 1, "periodic"),
    "down": lambda shape: Down(tuple(next(f for f in (3, 2, 1) if n % f == 0) for n in shape[1:])),
    "fourier": lambda shape: Fourier(some(*shape[1:])),
    "matrix": lambda shape: Matrix(drawn(7, math.prod(shape))),
    "matrix, sparse": lambda shape: Matrix(
        (drawn(7, math.prod(shape)) * some(7, math.prod(shape))).to_sparse()
    ),
    "function": lambda _: function(rolled, linear=True),
    "after": lambda shape: composed(Fourier(some(*shape[1:])), gaussian_blur(0.7, len(shape) - 1)),
    "beside": lambda shape: stacked(Mask(some(*shape)), Matrix(drawn(3, math.prod(shape)))),
}
"""Linear operators for samples of a shape."""
RADON: dict[str, Callable[[Shape], Linear]] = {
    "radon": lambda _: Radon(even_angles(7)),
    "radon of few detectors": lambda _: Radon((0.0, 17.5, 90.0, 200.0), detectors=3),
}
sides = st.integers(1, 3).flatmap(lambda d: st.lists(st.integers(2, 7), min_size=d, max_size=d))


def test_every_linear_operator_has_its_adjoint() -> None:
    """<A x, y> = <x, A^T y>, to the rounding of float64; its derivative is itself."""

    @settings(max_examples=25)
    @given(name=st.sampled_from([*MAKERS, *RADON]), channels=st.integers(1, 3), space=sides)
    def holds(name: str, channels: int, space: list[int]) -> None:
        space = (space * 2)[:2] if name in RADON else space
        shape = (channels, *space)
        operator = (MAKERS | RADON)[name](shape)
        measured = operator.measured_shape(shape)
        x, y = drawn(2, *shape, seed=1), drawn(2, *measured, seed=2)
        there, back = operator(x), operator.adjoint(y, shape)
        assert there.shape == y.shape
        assert back.shape == x.shape
        size = (there.norm() * y.norm() + x.norm() * back.norm()).clamp(min=1e-12)
        assert abs((there * y).sum() - (x * back).sum()) < 1e-12 * size
        assert torch.allclose(back, Linear.adjoint(operator, y, shape), rtol=1e-9, atol=1e-10)
        along = operator.derivative(x)
        assert torch.equal(along.apply(x), there)
        assert torch.equal(along.adjoint(y), back)

    holds()


@pytest.mark.parametrize("name", [*MAKERS, *RADON])
def test_an_adjoint_holds_in_float32_too(name: str) -> None:
    shape = (2, 6, 9)
    operator = (MAKERS | RADON)[name](shape)
    x, y = drawn(3, *shape, seed=1).float(), drawn(3, *operator.measured_shape(shape), seed=2).float()
    there, back = operator(x), operator.adjoint(y, shape)
    assert there.dtype == back.dtype == torch.float32
    assert abs(float((there * y).sum() - (x * back).sum())) < 1e-6 * float(there.norm() * y.norm())


def dense(operator: Operator, shape: Shape) -> Tensor:
    """The matrix of an operator, column by column."""
    units = torch.eye(math.prod(shape), dtype=torch.float64).view(-1, *shape)
    return torch.stack([operator(unit[None]).flatten() for unit in units], dim=1)


def test_a_composition_and_a_stack_are_those_of_their_matrices() -> None:
    shape = (2, 4, 6)
    first, then, beside = gaussian_blur(0.8, 2), Down(2), Fourier(some(4, 6))
    whole = stacked(composed(then, first), beside)
    assert isinstance(whole, Linear)
    product_ = dense(then, first.measured_shape(shape)) @ dense(first, shape)
    assert torch.allclose(dense(whole, shape), torch.cat([product_, dense(beside, shape)]), atol=1e-14)
    assert torch.equal((then @ first)(drawn(1, *shape)), then(first(drawn(1, *shape))))
    kept = whole.is_measured(shape)
    assert kept is not None
    assert torch.equal(kept[-48 * 2 :], beside.is_measured(shape).flatten())
    assert kept[: -48 * 2].all()


def rays(x: Tensor) -> Tensor:
    return Radon((0.0, 40.0, 111.0))(x)


def nonlinear() -> dict[str, tuple[Operator, Shape]]:
    shape = (2, 5, 4)
    return {
        "magnitude": (Magnitude(), shape),
        "magnitude, oversampled": (Magnitude(2), shape),
        "magnitude of signals": (Magnitude(3), (1, 9)),
        "clip": (Clip(-0.5, 0.7), shape),
        "function": (function(lambda x: (x.square() + x.roll(1, -1)).tanh().flatten(1)), shape),
        "squares of sparse products": (function(lambda x: rays(x).square() + 2 * rays(x)), shape),
        "magnitude of a blur": (Magnitude(2) @ gaussian_blur(0.6, 2), shape),
        "stack": (stacked(Clip(-1, 1), Magnitude(), Down((5, 2))), shape),
    }


@pytest.mark.parametrize("name", nonlinear())
def test_derivatives_are_those_of_finite_differences(name: str) -> None:
    """Central differences of float64: their own error is of the order h^2 = 1e-10, and rounding 1e-16 / h = 1e-11."""
    operator, shape = nonlinear()[name]
    x, v, h = drawn(2, *shape, seed=1), drawn(2, *shape, seed=2), 1e-5
    along = operator.derivative(x)
    differences = (operator(x + h * v) - operator(x - h * v)) / (2 * h)
    assert torch.allclose(along.apply(v), differences, rtol=1e-7, atol=1e-8)
    w = drawn(*differences.shape, seed=4)
    assert torch.allclose((along.apply(v) * w).sum(), (v * along.adjoint(w)).sum(), rtol=1e-12)
    plain = Operator.derivative(operator, x)
    assert torch.allclose(plain.apply(v), along.apply(v), rtol=1e-10, atol=1e-12)
    assert torch.allclose(plain.adjoint(w), along.adjoint(w), rtol=1e-10, atol=1e-12)
    assert not isinstance(operator, Linear)


def padded(x: Doubles, before: Shape, after: Shape, edges: str) -> Doubles:
    mode = {"reflect": "symmetric", "periodic": "wrap", "zero": "constant"}[edges]
    return np.pad(x, [*zip(before, after, strict=True)], mode=mode)  # type: ignore[call-overload, no-any-return]


@pytest.mark.parametrize("edges", ["reflect", "periodic", "zero"])
@pytest.mark.parametrize("size", [(3, 3), (2, 4), (1, 5), (9, 12), (20, 5)])
def test_a_blur_is_the_sum_over_its_kernel_with_edges_as_stated(size: Shape, edges: str) -> None:
    x, kernel = drawn(1, 2, 6, 7), drawn(*size, seed=1)
    middle = tuple(n // 2 for n in size)
    margins = tuple(n - 1 - c for n, c in zip(size, middle, strict=True)), middle
    found = Blur(kernel, edges)(x)[0, 1]  # type: ignore[arg-type]
    around = padded(x[0, 1].numpy(), *margins, edges)
    for p in product(range(6), range(7)):
        places = [[p[a] + size[a] - 1 - q for q in range(size[a])] for a in (0, 1)]
        expected = (around[np.ix_(*places)] * kernel.numpy()).sum()
        assert float(found[p]) == pytest.approx(expected, rel=1e-11, abs=1e-12)


def test_a_blur_shows_its_kernel_where_a_point_is_and_a_gaussian_keeps_the_mass() -> None:
    point = torch.zeros(1, 1, 9, 9, dtype=torch.float64)
    point[0, 0, 4, 4] = 1
    kernel = drawn(3, 3)
    assert torch.allclose(Blur(kernel)(point)[0, 0, 3:6, 3:6], kernel)
    x = drawn(2, 1, 8, 11)
    for edges in ("reflect", "periodic"):
        assert torch.allclose(gaussian_blur(1.5, 2, edges)(x).sum((2, 3)), x.sum((2, 3)), rtol=1e-12)
    bell = gaussian_blur((2.0, 0.5), 2).kernel
    assert bell.shape == (17, 5)
    assert float(bell[8, 2] / bell[10, 2]) == pytest.approx(math.exp(0.5))
    assert float(bell[8, 2] / bell[8, 3]) == pytest.approx(math.exp(2))


def test_a_fourier_transform_is_that_of_numpy() -> None:
    x, kept = drawn(2, 3, 5, 6), some(5, 6)
    y = Fourier(kept)(x)
    expected = np.fft.fftn(x.numpy(), axes=(2, 3), norm="ortho") * kept.numpy()
    assert np.allclose(y[:, 0::2], expected.real, atol=1e-13)
    assert np.allclose(y[:, 1::2], expected.imag, atol=1e-13)
    whole = Fourier(torch.ones(5, 6, dtype=torch.bool))
    assert torch.allclose(whole.adjoint(whole(x), (3, 5, 6)), x)  # orthonormal
    assert torch.equal(Fourier(kept).is_measured((3, 5, 6)), kept.expand(6, 5, 6))
    magnitudes = np.abs(np.fft.fftn(x.numpy(), s=(10, 12), axes=(2, 3), norm="ortho"))
    assert np.allclose(Magnitude(2)(x), magnitudes, atol=1e-13)


def test_a_magnitude_has_a_finite_derivative_where_it_is_0() -> None:
    x = torch.zeros(1, 1, 4, 4, dtype=torch.float64).requires_grad_()
    along = Magnitude().derivative(x)
    ones = torch.ones(1, 1, 4, 4, dtype=torch.float64)
    assert along.apply(ones).eq(0).all()
    assert along.adjoint(ones).eq(0).all()
    (of_x,) = torch.autograd.grad(Magnitude()(x).sum(), x)
    assert of_x.isfinite().all()


def test_down_sampling_is_the_mean_over_blocks() -> None:
    x = torch.arange(24, dtype=torch.float64).view(1, 1, 4, 6)
    assert Down(2)(x)[0, 0].tolist() == [[3.5, 5.5, 7.5], [15.5, 17.5, 19.5]]
    assert Down((4, 3))(x)[0, 0].tolist() == [[10.0, 13.0]]
    assert Down(2).measured_shape((3, 8, 6, 4)) == (3, 4, 3, 2)


def test_a_crop_is_a_box_of_each_channel() -> None:
    x = drawn(2, 3, 5, 6)
    assert torch.equal(Crop((1, 2), (3, 4))(x), x[:, :, 1:4, 2:6])


def test_a_matrix_acts_on_the_flattened_sample() -> None:
    matrix, x = drawn(4, 12), drawn(2, 3, 2, 2, seed=1)
    expected = x.numpy().reshape(2, 12) @ matrix.numpy().T
    assert np.allclose(Matrix(matrix)(x), expected)
    assert np.allclose(Matrix(matrix.to_sparse())(x), expected)


def test_each_angle_of_a_radon_transform_sees_the_whole_mass() -> None:
    """Whatever the sides and the angles; and at right angles it is a sum over rows or columns."""

    @settings(max_examples=30)
    @given(
        height=st.integers(1, 9),
        width=st.integers(1, 9),
        angles=st.lists(st.floats(-400, 400), min_size=1, max_size=5),
    )
    def holds(height: int, width: int, angles: list[float]) -> None:
        x = drawn(2, 1, height, width)
        y = Radon(tuple(angles))(x)
        assert torch.allclose(y.sum(-1), x.sum((2, 3))[..., None].expand(2, 1, len(angles)), atol=1e-9)

    holds()
    x = drawn(1, 1, 6, 6)
    y = Radon((0.0, 90.0, 180.0), detectors=6)(x)[0, 0]
    assert torch.allclose(y[0], x[0, 0].sum(0))
    assert torch.allclose(y[1], x[0, 0].sum(1))
    assert torch.allclose(y[2], x[0, 0].sum(0).flip(0), atol=1e-12)
    assert torch.allclose(Radon((0.0,))(x)[0, 0, 0, 2:-2], x[0, 0].sum(0))


def test_a_radon_transform_of_a_gaussian_and_of_a_disc_are_those_of_the_plane() -> None:
    """Of a Gaussian at (2, -3) a Gaussian around 2 cos + -3 sin; of a disc the chord 2 sqrt(R^2 - s^2).

    Pixels and detectors of width 1 each smooth the Gaussian by a box of variance 1/12; at right angles, where their
    edges fall on each other, they do not. The disc's edge is that of its pixels, so that its chords are off by some.
    """
    side, deviation, radius = 64, 5.0, 20.0
    row, column = torch.meshgrid(
        *[torch.arange(side, dtype=torch.float64) - (side - 1) / 2] * 2, indexing="ij"
    )
    bump = torch.exp(-((column - 2).square() + (row + 3).square()) / (2 * deviation**2))
    disc = ((column.square() + row.square()) <= radius**2).double()
    angles = (20.0, 45.0, 77.0, 130.0)
    of_bump, of_disc = Radon(angles)(torch.stack([bump, disc])[:, None])[:, 0]
    s = torch.arange(of_bump.shape[1], dtype=torch.float64) - (of_bump.shape[1] - 1) / 2
    variance = deviation**2 + 1 / 12 + 1 / 12
    for angle, of_one, of_other in zip(np.deg2rad(angles), of_bump, of_disc, strict=True):
        centre = 2 * math.cos(angle) - 3 * math.sin(angle)
        mass = 2 * math.pi * deviation**2 / math.sqrt(2 * math.pi * variance)
        assert torch.allclose(
            of_one, mass * torch.exp(-((s - centre) ** 2) / (2 * variance)), atol=3e-3
        )  # of 12
        inner = s.abs() < radius - 2
        assert (of_other[inner] - 2 * (radius**2 - s[inner] ** 2).sqrt()).abs().max() < 2


def test_large_radon_transforms_go_angle_by_angle_with_the_same_values(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    x, y = drawn(2, 2, 8, 8), drawn(2, 2, 9, 12)
    whole = Radon(even_angles(9))(x), Radon(even_angles(9)).adjoint(y, (2, 8, 8))
    monkeypatch.setattr("kakusan.operators.radon.AT_ONCE", 400)
    parts = Radon(even_angles(9))(x), Radon(even_angles(9)).adjoint(y, (2, 8, 8))
    for one, other in zip(whole, parts, strict=True):
        assert torch.allclose(one, other, atol=1e-12)


def test_a_rounding_has_the_variance_of_a_uniform_error_and_passes_derivatives() -> None:
    operator, x = Quantize(0.5), 10 * drawn(1, 1, 100_000)
    error = operator(x) - x
    assert operator(torch.tensor([[[0.2, 0.3, -1.1]]])).tolist() == [[[0.0, 0.5, -1.0]]]
    assert float(error.square().mean()) == pytest.approx(
        float(operator.rounding((1, 4))), rel=0.02
    )  # 7 deviations
    assert torch.equal(operator.derivative(x).apply(x), x)
    at = x.requires_grad_()
    assert torch.autograd.grad(operator(at).sum(), at)[0].eq(1).all()
    both = stacked(Quantize(0.6), Down(2)).rounding((1, 4))
    assert torch.as_tensor(both).tolist() == pytest.approx([0.03] * 4 + [0.0] * 2)
    assert (Quantize(0.6) @ Down(2)).rounding((1, 4)) == pytest.approx(0.03)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Mask(torch.zeros(3, dtype=torch.bool)), "at least one"),
        (lambda: Mask(torch.ones(3)), "booleans"),
        (lambda: Mask(some(3, 3))(drawn(1, 1, 4, 4)), r"mask of shape \(3, 3\)"),
        (lambda: Crop((0,), (0,)), "at least 1"),
        (lambda: Crop((2, 2), (3, 3))(drawn(1, 1, 4, 5)), r"from \(2, 2\) to \(5, 5\)"),
        (lambda: Crop((2,), (3,))(drawn(1, 1, 4, 5)), "samples have shape"),
        (lambda: Blur(torch.zeros(0)), "kernel is finite"),
        (lambda: Blur(torch.tensor([math.nan])), "kernel is finite"),
        (lambda: Blur(torch.ones(3), "mirror"), "edges are reflect"),  # type: ignore[arg-type]
        (lambda: Blur(torch.ones(3))(drawn(1, 1, 4, 4)), "1 dimensions"),
        (lambda: gaussian_blur(0.0, 2), "above 0"),
        (lambda: gaussian_blur((1.0,), 2), "above 0"),
        (lambda: Down(0), "at least 1"),
        (lambda: Down(3)(drawn(1, 1, 4, 6)), "sides it divides"),
        (lambda: Down(2)(drawn(3, 2)), "dimensions"),
        (lambda: Fourier(torch.zeros(3, dtype=torch.bool)), "at least one"),
        (lambda: Fourier(some(3, 3))(drawn(1, 1, 4, 4)), "frequencies"),
        (lambda: Matrix(torch.zeros(0, 3)), "rows and columns"),
        (lambda: Matrix(torch.full((2, 3), math.inf)), "finite"),
        (lambda: Matrix(drawn(2, 3))(drawn(1, 1, 4)), "3 values"),
        (lambda: Radon(()), "at least one angle"),
        (lambda: Radon((0.0,), detectors=0), "at least 1 detector"),
        (lambda: Radon((0.0,)).measured_shape((1, 4)), "2 dimensions"),
        (lambda: even_angles(0), "at least 1 angle"),
        (lambda: Magnitude(0), "at least 1"),
        (lambda: Clip(1, 1), "from low to high"),
        (lambda: Quantize(0), "above 0"),
        (lambda: function(lambda x: x.sum())(drawn(2, 1, 4)), "real numbers"),
        (lambda: function(lambda x: torch.fft.fft(x))(drawn(2, 1, 4)), "view_as_real"),
        (lambda: function(lambda x: x.detach().square()).derivative(drawn(2, 1, 4)), "autograd can follow"),
        (
            lambda: function(lambda x: x.detach(), linear=True).adjoint(drawn(2, 1, 4), (1, 4)),
            "autograd can follow",
        ),
        (lambda: function(lambda x: x + 1, linear=True).measured_shape((1, 4)), "not A"),
    ],
)
def test_what_cannot_be_is_one_clear_error(make: Callable[[], object], says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        make()
