"""The forward process q: how data dissolve into noise. Equations (1), (3), (7) and (8).

Time runs over t = 0, ..., T and t = 0 is the data itself. Times are float64 tensors, one a sample; they may lie between
whole numbers, but for `q_step`, whose steps are those of a schedule's table. With a_t and b_t of a path, for a schedule
sqrt(alpha_bar_t) and sqrt(1 - alpha_bar_t), every formula holds on any path. Coefficients are formed in float64, one a
sample, and cast last.
"""

from kakusan.diffusion.gaussians import Gaussian
from kakusan.diffusion.paths import Path
from kakusan.diffusion.schedules import NoiseSchedule
from kakusan.shapes import Coefficients, Samples, Times, moved, per_sample, scaled


def q_step(schedule: NoiseSchedule, x_prev: Samples, t: Times) -> Gaussian:
    """q(x_t | x_{t-1}) = N(sqrt(1 - beta_t) x_{t-1}, beta_t): the sample after one more step of noise. Eq. (1).

    Raises ValueError where t is not one of the whole times 1..T.
    """
    t = t.cpu()
    if not ((t >= 1) & (t <= schedule.T) & (t == t.floor())).all():
        raise ValueError(f"a step of noise ends at a whole time t = 1..{schedule.T}, not at {t.tolist()}")
    beta_t = schedule.beta[t.long()]
    return Gaussian(scaled((1 - beta_t).sqrt(), x_prev), per_sample(beta_t, x_prev))


def q_marginal(path: Path, x_0: Samples, t: Times) -> Gaussian:
    """q(x_t | x_0) = N(a_t x_0, b_t^2): the sample after t steps of noise, in one jump. Eq. (3)."""
    a_t, b_t = path.at(t)
    return Gaussian(scaled(a_t, x_0), per_sample(b_t.square(), x_0))


def q_posterior(path: Path, x_t: Samples, x_0: Samples, t: Times, s: Times) -> Gaussian:
    """q(x_s | x_t, x_0) for any s < t: where the sample was, seen from both ends. Eq. (7).

    Its mean is r b_s^2 / b_t^2 x_t + a_s v / b_t^2 x_0 and its variance v b_s^2 / b_t^2, with r = a_t / a_s and
    v = b_t^2 - r^2 b_s^2, the noise that is added between s and t. With s = t - 1 on a schedule, r^2 is alpha_t and
    v is beta_t: the derivation's form.
    """
    of_x_t, of_x_0 = posterior_weights(path, t, s)
    variance = per_sample(posterior_variance(path, t, s), x_t)
    return Gaussian(scaled(of_x_t, x_t) + scaled(of_x_0, x_0), variance)


def posterior_weights(path: Path, t: Times, s: Times) -> tuple[Coefficients, Coefficients]:
    """The weights in Eq. (7) of x_t, r b_s^2 / b_t^2, and of x_0, a_s v / b_t^2. Raises ValueError unless s < t."""
    if s.device.type != "cuda" and not (s.cpu() < t.cpu()).all():
        raise ValueError("a step back goes from t to an earlier time s < t")
    (a_t, b_t), (a_s, b_s) = at_t, at_s = path.at(t), path.at(s)
    return a_t / a_s * (b_s / b_t).square(), a_s * _added(at_t, at_s) / b_t.square()


def noise_between(path: Path, t: Times, s: Times) -> Coefficients:
    """v = b_t^2 - (a_t / a_s)^2 b_s^2: the variance of q(x_t | x_s); beta_t on a schedule with s = t - 1."""
    return _added(path.at(t), path.at(s))


def _added(at_t: tuple[Coefficients, Coefficients], at_s: tuple[Coefficients, Coefficients]) -> Coefficients:
    """`noise_between`, by (a_t, b_t) and (a_s, b_s)."""
    (a_t, b_t), (a_s, b_s) = at_t, at_s
    return b_t.square() - (a_t / a_s * b_s).square()


def step_variance(path: Path, t: Times, s: Times) -> Coefficients:
    """beta of the step from s to t, 1 - alpha_bar_t / alpha_bar_s: beta_t in Eq. (1) where s = t - 1.

    In the scale of x_s, of which a step back draws.
    """
    beta = 1 - path.alpha_bar_at(t) / path.alpha_bar_at(s)
    return beta if path.preserves_variance else beta * path.scale_at(s).square()


def posterior_variance(path: Path, t: Times, s: Times) -> Coefficients:
    """beta~ in Eq. (7): the variance that is left when both ends are known; 0 where s = 0."""
    (_, b_t), (_, b_s) = at_t, at_s = path.at(t), path.at(s)
    return _added(at_t, at_s) * (b_s / b_t).square()


def posterior_mean_from_eps(
    schedule: NoiseSchedule, x_t: Samples, eps: Samples, t: Times, s: Times
) -> Samples:
    """mu~ with x_0 eliminated by Eq. (2): (x_t - beta / sqrt(1 - alpha_bar_t) eps) / sqrt(alpha). Eq. (8)."""
    beta_ts = step_variance(schedule, t, s)
    of_eps = beta_ts / (1 - schedule.alpha_bar_at(t)).sqrt()
    return (x_t - scaled(of_eps, eps)) / moved(per_sample((1 - beta_ts).sqrt(), x_t), x_t)
