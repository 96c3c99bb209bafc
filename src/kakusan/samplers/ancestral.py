"""Ancestral sampling (Ho et al. 2020): the learned reverse process, with fresh noise at each step."""

from dataclasses import dataclass

from kakusan.diffusion.model import p_given
from kakusan.samplers.base import AnyModel, Noise, Sampler, State
from kakusan.shapes import Times, scaled


@dataclass(frozen=True, kw_only=True)
class Ancestral(Sampler):
    """Algorithm 2: a draw from p_theta(x_s | x_t) at each step; the last gives its mean."""

    def step(self, model: AnyModel, state: State, t: Times, s: Times, noise: Noise) -> State:
        """x_s = mu_theta(x_t, t) + sigma z: a step of Algorithm 2, with z = 0 where s = 0. Eq. (13)."""
        guess = model.predict(state.x, t, state.condition)
        law = p_given(model, guess, state.x, t, s)
        z = scaled((s.cpu() > 0).double(), noise())  # z = 0 at the end: Algorithm 2, line 3
        return state.then(law.reparametrize(z), guess, t)
