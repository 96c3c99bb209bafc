"""Shapes are types: in tests, and only there, the annotations of the mathematics are checked at run time."""

import torch
from hypothesis import settings
from jaxtyping import install_import_hook

HOOK = install_import_hook(
    ["kakusan.maths", "kakusan.denoiser", "kakusan.losses", "kakusan.oracles", "kakusan.samplers"],
    "beartype.beartype",
)

torch.set_num_threads(1)  # the tests are small, and run beside each other
settings.register_profile("kakusan", deadline=None)  # a busy machine is not a failure
settings.load_profile("kakusan")
