"""The forward process q: how data dissolves into noise. Equations (1), (3), (7) and (8).

Time runs over t = 0, ..., T and t = 0 is the data itself, so every table has T + 1 entries,
``alpha_bar[0] == 1``, and every index below reads as in the derivation. Times are float64 tensors, one an image;
they may lie between whole numbers, but for `q_step`, whose steps are those of the table. Coefficients are formed in
float64 and cast last.
"""

from jaxtyping import Float64
from torch import Tensor

from kakusan.diffusion.gaussians import Gaussian
from kakusan.diffusion.schedules import NoiseSchedule
from kakusan.shapes import Images, PerImage, Times


def per_image(values: Float64[Tensor, " batch"]) -> PerImage:
    """One number an image, ready to broadcast over channels, height and width."""
    return values.view(-1, 1, 1, 1)


def q_step(schedule: NoiseSchedule, x_prev: Images, t: Times) -> Gaussian:
    """q(x_t | x_{t-1}): the image after one more step of noise. Eq. (1).

    Raises ValueError where t is not one of the whole times 1..T.
    """
    t = t.cpu()
    if not ((t >= 1) & (t <= schedule.T) & (t == t.floor())).all():
        raise ValueError(f"a step of noise ends at a whole time t = 1..{schedule.T}, not at {t.tolist()}")
    beta_t = per_image(schedule.beta[t.long()])
    return Gaussian((1 - beta_t).sqrt().to(x_prev) * x_prev, beta_t)


def q_marginal(schedule: NoiseSchedule, x_0: Images, t: Times) -> Gaussian:
    """q(x_t | x_0): the image after t steps of noise, in one jump. Eq. (3)."""
    alpha_bar_t = per_image(schedule.alpha_bar_at(t))  # cast last, so that small t keeps its noise
    return Gaussian(alpha_bar_t.sqrt().to(x_0) * x_0, 1 - alpha_bar_t)


def q_posterior(schedule: NoiseSchedule, x_t: Images, x_0: Images, t: Times, s: Times) -> Gaussian:
    """q(x_s | x_t, x_0) for any s < t: where the image was, seen from both ends. Eq. (7).

    With s = t - 1 this is the derivation's; for other s, alpha_t becomes alpha_bar_t / alpha_bar_s.
    """
    of_x_t, of_x_0 = posterior_weights(schedule, t, s)
    return Gaussian(of_x_t.to(x_t) * x_t + of_x_0.to(x_0) * x_0, posterior_variance(schedule, t, s))


def posterior_weights(schedule: NoiseSchedule, t: Times, s: Times) -> tuple[PerImage, PerImage]:
    """The weights in Eq. (7): how much of mu~ is x_t, and how much is x_0."""
    if not (s.cpu() < t.cpu()).all():
        raise ValueError("a step back goes from t to an earlier time s < t")
    alpha_bar_t, alpha_bar_s = schedule.alpha_bar_at(t), schedule.alpha_bar_at(s)
    alpha_ts = alpha_bar_t / alpha_bar_s
    of_x_t = alpha_ts.sqrt() * (1 - alpha_bar_s) / (1 - alpha_bar_t)
    of_x_0 = alpha_bar_s.sqrt() * (1 - alpha_ts) / (1 - alpha_bar_t)
    return per_image(of_x_t), per_image(of_x_0)


def step_variance(schedule: NoiseSchedule, t: Times, s: Times) -> PerImage:
    """beta of the step from s to t, 1 - alpha_bar_t / alpha_bar_s: the beta_t in Eq. (1) where s = t - 1."""
    return per_image(1 - schedule.alpha_bar_at(t) / schedule.alpha_bar_at(s))


def posterior_variance(schedule: NoiseSchedule, t: Times, s: Times) -> PerImage:
    """beta~ in Eq. (7): the variance that is left when both ends are known; 0 where s = 0."""
    alpha_bar_t, alpha_bar_s = schedule.alpha_bar_at(t), schedule.alpha_bar_at(s)
    return per_image((1 - alpha_bar_s) / (1 - alpha_bar_t)) * step_variance(schedule, t, s)


def posterior_mean_from_eps(schedule: NoiseSchedule, x_t: Images, eps: Images, t: Times, s: Times) -> Images:
    """mu~ with x_0 eliminated by Eq. (2): (x_t - beta / sqrt(1 - alpha_bar_t) eps) / sqrt(alpha). Eq. (8)."""
    beta_ts = step_variance(schedule, t, s)
    of_eps = beta_ts / (1 - per_image(schedule.alpha_bar_at(t))).sqrt()
    return (x_t - of_eps.to(x_t) * eps) / (1 - beta_ts).sqrt().to(x_t)
