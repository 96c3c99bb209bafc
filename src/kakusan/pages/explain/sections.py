"""The sections beyond the thirteen equations, as docs/derivation.md names them: one entry each, as in `equations`."""

from kakusan.pages.explain.equation import Chapter, Check, Equation, View

BEYOND = Chapter(
    "Beyond",
    "その先",
    "The thirteen leave things open, and much has grown out of them. Each section says two things that must be the "
    "same; both are computed here, in two ways.",
    (
        Equation(
            name="target",
            title="The target that knows x₀",
            term="正解を知る目標",
            identity=True,
            words="The mean of (7) knows the image, and a sampler does not: why is it the right target? "
            "Given $x_t$, the distance to it has two parts. The first is what $x_t$ does not tell, and no "
            "model can remove it. The second vanishes where $\\mu_\\theta$ is the mean over all images "
            "that may lie behind $x_t$. So a target that knows $x_0$ teaches a model that does not.",
            symbols=(
                r"\E[\norm{\tilde\mu_t - \mu_\theta}^2 | x_t] = & \E[\norm{\tilde\mu_t - \mu^*}^2 | x_t] & + "
                r"\norm{\mu^* - \mu_\theta}^2",
                r"\mu^* = & \E[\tilde\mu_t | x_t]",
            ),
            numbers=(r"\n{target} = & \n{target_floor} + \n{target_rest}",),
            functions=(
                "diffusion.oracles.GaussianOracle",
                "diffusion.forward.q_posterior",
                "diffusion.model.p_step",
            ),
            checks=(
                Check(
                    "By Bayes' rule over all $x_0$ and by the exact denoiser, both sides differ by",
                    "target_gap",
                    1e-9,
                ),
            ),
            note="For one pixel, where data are N({case_mean}, {case_deviation}²) and the model takes "
            "them for N(0, 1).",
        ),
        Equation(
            name="score",
            title="The score",
            term="スコア",
            identity=True,
            words="The gradient of the log density says where images become likelier. It is the noise "
            "that is guessed, turned around and scaled: whoever removes noise climbs towards the data. In "
            "this form the same models are known as score-based.",
            symbols=(r"\eps_\theta(x_t, t) = & -\sqrt{1-\bar\alpha_t} \nabla \log q(x_t)",),
            numbers=(r"\n{score_eps} = & -\n{root_noise} \times \p{score}",),
            functions=("diffusion.oracles.Oracle.predict", "diffusion.oracles.Oracle.log_density"),
            checks=(
                Check(
                    "An exact denoiser and the gradient of its density, by autograd, differ by",
                    "score_gap",
                    1e-6,
                ),
            ),
            note="The numbers are those of one pixel.",
        ),
        Equation(
            name="divergence",
            title="The divergence of two Gaussians",
            term="カルバック・ライブラー情報量",
            identity=True,
            words="Every term of (11) but $L_0$ is one. A mean that is off costs its square, in units of "
            "the variance of the second; a variance that is off costs in both directions, and more where "
            "it is too small.",
            symbols=(
                r"\KL(\N(m_1, v_1) \parallel \N(m_2, v_2)) = & "
                r"\frac{1}{2} (\frac{v_1}{v_2} - 1 - \log \frac{v_1}{v_2} + \frac{(m_1 - m_2)^2}{v_2})",
            ),
            numbers=(r"\KL = & \n{divergence} \text{nats}",),
            functions=("diffusion.gaussians.Gaussian.kl", "diffusion.gaussians.Gaussian.log_density"),
            checks=(
                Check("The closed form and the integral, on 2,001 nodes, differ by", "divergence_gap", 1e-9),
            ),
            note="Of the posterior from the prior in the chart of (6): what $x_t$ says of this pixel of "
            "$x_{t-1}$.",
        ),
        Equation(
            name="range",
            title="A learned variance",
            term="学習する分散",
            words="The variance of (5) lies between two that are known: $\\tilde\\beta_t$, where the data "
            "are a single point, and $\\beta_t$, where they are noise. A network may say where in "
            "between, by a fraction f of the way on a logarithmic scale.",
            symbols=(r"\log \sigma_t^2 = & (1-f) \log \tilde\beta_t + f \log \beta_t",),
            numbers=(r"\n{range_low} \le & \n{range_middle} \le & \n{range_high}",),
            functions=("diffusion.variances.LearnedRange",),
            checks=(
                Check(
                    "Logarithms at f = 0, 1/2 and 1, and those from the precisions of (6), differ, in units of what "
                    "rounding of $\\bar\\alpha$ can do, by",
                    "range_gap",
                    16.0,
                ),
            ),
            note="At f = 0, 1/2 and 1. At t = 1 the lower end would be 0, and $\\tilde\\beta_2$ stands "
            "for it.",
        ),
        Equation(
            name="schedule",
            title="A learned schedule",
            term="学習するスケジュール",
            words="How much noise should a step add? For Gaussian data of variance v the price of a step "
            "is known, and depends on the fall of $y_t$ alone. The sum of all prices is least where each "
            "is the same: a schedule that is trained with its network goes there by itself, and its ends "
            "go where the bound is lowest.",
            symbols=(
                r"L_{t-1} = & \frac{1}{2} (e^{y_{t-1} - y_t} - 1)",
                r"y_t = & \log (1 + v \frac{\bar\alpha_t}{1-\bar\alpha_t})",
            ),
            numbers=(r"L_{\n{s}} = & \n{price} \text{bits}",),
            functions=("diffusion.likelihood.pair_terms", "diffusion.learned.LearnedPath"),
            checks=(Check("The mean of the term and the formula (bits) differ by", "price_gap", 1e-9),),
            note="For pixels N({case_mean}, {case_deviation}²), their exact denoiser and the variance "
            "$\\tilde\\beta_t$.",
        ),
        Equation(
            name="ddim",
            title="DDIM",
            term="分散の収支",
            words="A step may go to any earlier s, and may keep some of the noise that it has found in "
            "place of drawing it anew: (3) at s asks for the sum alone. With η = 0 nothing is drawn, and "
            "the sample is a function of $x_T$; with η = 1 as much as in (13).",
            symbols=(
                r"x_s = & \sqrt{\bar\alpha_s} \hat x_0 + \sqrt{1-\bar\alpha_s-\sigma^2} \eps_\theta & + \sigma z",
                r"\sigma^2 = & \eta^2 \tilde\beta_t",
            ),
            numbers=(
                r"x_{\n{ddim_s}} = & \n{ddim_of_x_0} \hat x_0 + \n{ddim_of_eps} \eps_\theta & + \n{ddim_sigma} z",
                r"\n{ddim_kept} + \n{ddim_fresh} = & \n{ddim_noise}",
            ),
            functions=("samplers.ddim.DDIM.step",),
            checks=(
                Check(
                    "The coefficients of the step, for η = 0, 1/2 and 1, differ from the budget by",
                    "budget_gap",
                    1e-12,
                ),
                Check(
                    "With η = 1, it and a draw from (5) with the variance $\\tilde\\beta_t$ differ by",
                    "ancestral_gap",
                    1e-9,
                ),
            ),
            picture=(
                View("ddim", "x_s"),
                r"= \n{ddim_of_x_0}",
                View("guess", r"\hat x_0"),
                r"{}+ \n{ddim_of_eps}",
                View("eps_hat", r"\eps_\theta"),
                r"{}+ \n{ddim_sigma}",
                View("ddim_z", "z"),
            ),
            caption="With η = 1/2, in a step of which twenty lead from T to the image.",
        ),
        Equation(
            name="guidance",
            title="Guidance",
            term="ガイダンス",
            words="Asked for a class c, a denoiser has two guesses: with the class, and without it. "
            "Guidance goes on in the direction from one to the other, beyond the first: its score counts "
            "the evidence for c not once but w times. Samples fit the class better, and differ less.",
            symbols=(
                r"\hat x_0 = & \hat x_0(x_t) + w (\hat x_0(x_t, c) - \hat x_0(x_t))",
                r"-\frac{\eps}{\sqrt{1-\bar\alpha_t}} = & \nabla \log q(x_t) + w \nabla \log q(c | x_t)",
            ),
            numbers=(r"\n{guide_strong} = & \p{guide_null} + 3 (\n{guide_given} - \p{guide_null})",),
            functions=("diffusion.guidance.Guided", "diffusion.oracles.MixtureOracle"),
            checks=(
                Check(
                    "The guided noise and the gradients, by autograd, differ by at most", "guide_gap", 1e-7
                ),
            ),
            chart="guidance",
            caption="The guess of a pixel over what is seen of it: of all pixels, 30 % are bright, N(0.8, "
            "0.2²), and the others dark, N(−0.8, 0.2²).",
            note="The pixel of this page is seen as bright with probability {guide_odds}.",
        ),
        Equation(
            name="likelihood",
            title="Exact likelihood",
            term="厳密な尤度",
            words="Without fresh noise the steps become a flow, which can be run backwards from an image "
            "to its noise. What a flow does to a density is known: its divergence, added up along the "
            "way. So the likelihood of the flow is exact. That of the chain is still bounded, and the "
            "bound falls to it if several walks are averaged before the logarithm.",
            symbols=(
                r"\log q(x_1) = & \log q(x_T) + \int \text{div} v & \text{d} \phi",
                r"-\log p_\theta(x_0) \le & -\E \log \frac{1}{K} \sum_{k=1}^{K} w_k \le & L_{\text{VLB}}",
            ),
            numbers=(
                r"\n{short_evidence} \le & \n{short_bound}",
                r"-\E \log \frac{1}{16} \sum_{k=1}^{16} w_k \approx & \n{short_averaged} \pm \n{short_error}",
            ),
            functions=("diffusion.flow.flow_density", "diffusion.weighted.weighted_bound"),
            checks=(
                Check("The flow and the density of $x_1$ in closed form (bits) differ by", "flow_gap", 1e-5),
                Check(
                    "With K = 1, the mean over all walks and $L_{\\text{VLB}}$ (bits) differ by",
                    "walks_gap",
                    1e-8,
                ),
                Check(
                    "Of the way from the evidence to $L_{\\text{VLB}}$, the bound with K = 16 keeps the share",
                    "walks_share",
                    0.8,  # 0 to 0.64 over all pixels, to within 0.03; without averaging it is 1
                ),
            ),
            chart="likelihood",
            note="In bits, for the pixel of (9) and a chain of ten steps: its evidence and the bound of "
            "(11); that with K = 16 lies between them, and is estimated from 512 walks, ± its standard error.",
        ),
    ),
)
