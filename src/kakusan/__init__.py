"""kakusan (拡散, diffusion): train, sample, measure and explain denoising diffusion models.

The names below are the stable face of the library. They are imported when first used, so that the command line
can answer before torch is there.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kakusan.api import Run, import_model, plan, sample, train
    from kakusan.config.loading import settings_for
    from kakusan.config.settings import DataSettings, Settings
    from kakusan.data import Dataset, open_data
    from kakusan.data.units import Levels, Real
    from kakusan.diffusion import oracles
    from kakusan.diffusion.denoiser import Denoiser, NetworkDenoiser
    from kakusan.diffusion.forward import q_marginal, q_posterior, q_step
    from kakusan.diffusion.gaussians import Gaussian
    from kakusan.diffusion.guidance import Guided
    from kakusan.diffusion.likelihood import variational_bound
    from kakusan.diffusion.model import Model, p_step
    from kakusan.diffusion.paths import EDM, FlowMatching, Path
    from kakusan.diffusion.prediction import Prediction
    from kakusan.diffusion.schedules import (
        Cosine,
        Linear,
        NoiseSchedule,
        ScaledLinear,
        Sigmoid,
        ZeroTerminalSNR,
    )
    from kakusan.errors import DataError, KakusanError, ModelError, NumbersError, RunError, SettingsError
    from kakusan.evaluation.metrics import copy_rate, frechet, nearest
    from kakusan.interop.exporting import export_model
    from kakusan.networks import PointMLP, UNet
    from kakusan.samplers import DDIM, Ancestral, Sampler, SeededNoise, Snapshot, State, walk
    from kakusan.shapes import Condition, per_sample, scaled
    from kakusan.training.guide import Guidance
    from kakusan.training.losses import Bound, Hybrid, Loss, MinSNR, Simple, Weighted

_HOMES = {
    "config.loading": ("settings_for",),
    "data": ("Dataset", "open_data"),
    "diffusion.denoiser": ("Denoiser", "NetworkDenoiser"),
    "diffusion.guidance": ("Guided",),
    "diffusion.model": ("Model", "p_step"),
    "diffusion.paths": ("EDM", "FlowMatching", "Path"),
    "diffusion.prediction": ("Prediction",),
    "errors": ("DataError", "KakusanError", "ModelError", "NumbersError", "RunError", "SettingsError"),
    "interop.exporting": ("export_model",),
    "api": ("Run", "import_model", "plan", "sample", "train"),
    "diffusion.likelihood": ("variational_bound",),
    "training.losses": ("Bound", "Hybrid", "Loss", "MinSNR", "Simple", "Weighted"),
    "diffusion.forward": ("q_marginal", "q_posterior", "q_step"),
    "diffusion.gaussians": ("Gaussian",),
    "diffusion.schedules": (
        "Cosine",
        "Linear",
        "NoiseSchedule",
        "ScaledLinear",
        "Sigmoid",
        "ZeroTerminalSNR",
    ),
    "data.units": ("Levels", "Real"),
    "evaluation.metrics": ("copy_rate", "frechet", "nearest"),
    "training.guide": ("Guidance",),
    "networks": ("PointMLP", "UNet"),
    "config.settings": ("DataSettings", "Settings"),
    "shapes": ("Condition", "per_sample", "scaled"),
    "samplers": ("DDIM", "Ancestral", "Sampler", "SeededNoise", "State", "Snapshot", "walk"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "DDIM",
    "EDM",
    "Ancestral",
    "Bound",
    "Condition",
    "Cosine",
    "DataError",
    "DataSettings",
    "Dataset",
    "Denoiser",
    "FlowMatching",
    "Gaussian",
    "Guidance",
    "Guided",
    "Hybrid",
    "KakusanError",
    "Levels",
    "Linear",
    "Loss",
    "MinSNR",
    "Model",
    "ModelError",
    "NetworkDenoiser",
    "NoiseSchedule",
    "NumbersError",
    "Path",
    "PointMLP",
    "Prediction",
    "Real",
    "Run",
    "RunError",
    "Sampler",
    "ScaledLinear",
    "SeededNoise",
    "Settings",
    "SettingsError",
    "Sigmoid",
    "Simple",
    "Snapshot",
    "State",
    "UNet",
    "Weighted",
    "ZeroTerminalSNR",
    "copy_rate",
    "export_model",
    "frechet",
    "import_model",
    "nearest",
    "open_data",
    "oracles",
    "p_step",
    "per_sample",
    "plan",
    "q_marginal",
    "q_posterior",
    "q_step",
    "sample",
    "scaled",
    "settings_for",
    "train",
    "variational_bound",
    "walk",
]


def __getattr__(name: str) -> Any:
    if name == "oracles":
        return import_module("kakusan.diffusion.oracles")
    if name not in _HOME_OF:
        raise AttributeError(f"module 'kakusan' has no attribute {name!r}")
    return getattr(import_module(f"kakusan.{_HOME_OF[name]}"), name)


def __dir__() -> list[str]:
    return __all__
