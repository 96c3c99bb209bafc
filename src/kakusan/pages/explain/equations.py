"""The thirteen equations, in the order of the derivation: the text of both terminal and page, for a student.

The limits of the checks are a hundred or more times the rounding that is seen on the schedules that ship, and far below
any difference that a wrong coefficient makes.
"""

from kakusan.pages.explain.equation import Chapter, Check, Equation, View
from kakusan.pages.explain.sections import BEYOND

X_T, X_PREV, X_0 = View("x_t", "x_t"), View("x_prev", "x_{t-1}"), View("x_0", "x_0")
GUESS = View("guess", r"\hat x_0")
EPS, EPS_HAT = View("eps", r"\eps"), View("eps_hat", r"\eps_\theta")

FORWARD = Chapter(
    "Forward",
    "順過程",
    "An image dissolves in noise, a little at every step. Nothing is learned here: all of it is Gaussian, "
    "and known in closed form.",
    (
        Equation(
            number=1,
            title="One step of noise",
            term="ノイズの一歩",
            words="Each step shrinks the image a little and adds a little fresh noise, so that the total variance "
            "stays near one. How little is the schedule $\\beta_t$, which is chosen, not learned.",
            symbols=(r"q(x_t | x_{t-1}) = & \N(\sqrt{1-\beta_t} x_{t-1}, \beta_t \I)",),
            numbers=(r"q(x_{\n{t}} | x_{\n{s}}) = & \N(\n{root_alpha} x_{\n{s}}, \n{beta} \I)",),
            functions=("diffusion.forward.q_step",),
            picture=(X_T, r"= \n{root_alpha}", X_PREV, r"{}+ \n{root_beta}", View("z", "z")),
        ),
        Equation(
            number=2,
            title="Two noises are one",
            term="再パラメータ化",
            words="A draw is a function of standard noise. And two Gaussian noises, one after the other, are again "
            "one Gaussian noise: their variances add. So all the steps so far merge into a single $\\eps$.",
            symbols=(
                r"x_t = & \sqrt{\bar\alpha_t} x_0 + \sqrt{1-\bar\alpha_t} \eps",
                r"\alpha_t (1-\bar\alpha_{t-1}) + \beta_t = & 1-\bar\alpha_t",
            ),
            numbers=(
                r"x_{\n{t}} = & \n{root_alpha_bar} x_0 + \n{root_noise} \eps",
                r"\n{old_noise} + \n{beta} = & \n{noise}",
            ),
            functions=("diffusion.forward.q_step", "diffusion.forward.q_marginal"),
            identity=True,
            checks=(
                Check(
                    "Two draws in a row and one draw of the merged noise differ by at most", "jump_gap", 1e-9
                ),
            ),
            picture=(X_T, r"= \n{root_alpha_bar}", X_0, r"{}+ \n{root_noise}", EPS),
        ),
        Equation(
            number=3,
            title="The jump to any t",
            term="周辺分布",
            words="So there is no need to walk: any moment can be reached in one jump from the image itself. "
            "$\\bar\\alpha_t$ is the product of all α so far: the share of the variance that is still image.",
            symbols=(r"q(x_t | x_0) = & \N(\sqrt{\bar\alpha_t} x_0, (1-\bar\alpha_t) \I)",),
            numbers=(r"q(x_{\n{t}} | x_0) = & \N(\n{root_alpha_bar} x_0, \n{noise} \I)",),
            functions=("diffusion.forward.q_marginal",),
            chart="signal",
        ),
    ),
)

REVERSE = Chapter(
    "Reverse",
    "逆過程",
    "The film is run backwards. A step back is not known in closed form, unless one knows where it ends: "
    "at the image. This is what will teach the network.",
    (
        Equation(
            number=4,
            title="From noise to an image",
            term="マルコフ連鎖",
            words="A new image begins as pure noise and is cleaned in T steps. Each step depends on the one before "
            "alone, so the probability of the whole walk is a product.",
            symbols=(
                r"p_\theta(x_{0:T}) = & p(x_T) \prod_{t=1}^{T} p_\theta(x_{t-1} | x_t)",
                r"p(x_T) = & \N(0, \I)",
            ),
            numbers=(
                r"p_\theta(x_{0:\n{T}}) = & p(x_{\n{T}}) \dots p_\theta(x_{\n{s}} | x_{\n{t}}) \dots & "
                r"p_\theta(x_0 | x_1)",
            ),
            functions=("samplers.walk.walk",),
            picture=(
                View("walk_start", "x_T"),
                r"\to",
                View("walk", "x_t"),
                r"\to",
                View("walk_end", "x_0"),
                "quad",
                View("walk_guess", r"\hat x_0"),
            ),
            caption="A walk from noise of its own: its beginning, this t and its end; on the right, what the image is "
            "taken to be at this t.",
            note="{end}",
        ),
        Equation(
            number=5,
            title="One learned step back",
            term="ガウス分布の一歩",
            words="If steps are small, a step back is Gaussian too. Here {who} enters: it guesses the clean image "
            "$\\hat x_0$ in $x_t$, and the mean of the step lies a little way towards that guess.",
            symbols=(r"p_\theta(x_{t-1} | x_t) = & \N(\mu_\theta(x_t, t), \Sigma_\theta(x_t, t))",),
            numbers=(
                r"p_\theta(x_{\n{s}} | x_{\n{t}}) = & \N(\n{of_x_t} x_{\n{t}} + \n{of_x_0} \hat x_0, \n{sigma2} \I)",
            ),
            functions=("diffusion.model.p_step",),
            picture=(View("mean_hat", r"\mu_\theta"), r"= \n{of_x_t}", X_T, r"{}+ \n{of_x_0}", GUESS),
            note="The guess is off by {guess_error}, the mean of the step by {mean_error} (root mean square).",
        ),
        Equation(
            number=6,
            title="Bayes turns the step around",
            term="ベイズの定理",
            words="If the image is known, the step back follows from what is known already. Where could $x_t$ have "
            "come from? Where was the image likely to be before? Both together say where it was.",
            symbols=(r"q(x_{t-1} | x_t, x_0) = & \frac{q(x_t | x_{t-1}) q(x_{t-1} | x_0)}{q(x_t | x_0)}",),
            numbers=(r"\n{log_posterior} = & \n{log_step} + \p{log_prev} - \p{log_jump}",),
            functions=(
                "diffusion.forward.q_step",
                "diffusion.forward.q_marginal",
                "diffusion.forward.q_posterior",
            ),
            identity=True,
            checks=(
                Check(
                    "In logarithms of the densities of the whole image (nats), both sides differ by",
                    "bayes_gap",
                    1e-4,
                ),
            ),
            chart="bayes",
            caption="For one pixel, each curve drawn to the same height.",
            note="{bayes}",
        ),
        Equation(
            number=7,
            title="Where the image was",
            term="事後分布",
            words="The quadratic in the exponent can be completed: the answer is one Gaussian. Its mean lies between "
            "$x_t$ and $x_0$; its variance is what stays uncertain although both ends are known.",
            symbols=(
                r"\tilde\mu_t = & \frac{\sqrt{\alpha_t} (1-\bar\alpha_{t-1})}{1-\bar\alpha_t} x_t & + "
                r"\frac{\sqrt{\bar\alpha_{t-1}} \beta_t}{1-\bar\alpha_t} x_0",
                r"\tilde\beta_t = & \frac{1-\bar\alpha_{t-1}}{1-\bar\alpha_t} \beta_t",
            ),
            numbers=(
                r"\tilde\mu_{\n{t}} = & \n{of_x_t} x_{\n{t}} + \n{of_x_0} x_0",
                r"\tilde\beta_{\n{t}} = & \n{beta_tilde}",
            ),
            functions=("diffusion.forward.q_posterior",),
            picture=(View("mean", r"\tilde\mu_t"), r"= \n{of_x_t}", X_T, r"{}+ \n{of_x_0}", X_0),
        ),
        Equation(
            number=8,
            title="The same, told by the noise",
            term="ノイズで書いた平均",
            words="By (2), who knows $x_t$ and the noise in it knows $x_0$. So the image can be left out of the "
            "formula: take a little of the noise away, and stretch what is left.",
            symbols=(
                r"\tilde\mu_t = & \frac{1}{\sqrt{\alpha_t}} (x_t - \frac{\beta_t}{\sqrt{1-\bar\alpha_t}} \eps)",
            ),
            numbers=(r"\tilde\mu_{\n{t}} = & \n{stretch} (x_{\n{t}} - \n{of_eps} \eps)",),
            functions=("diffusion.forward.posterior_mean_from_eps",),
            picture=(
                View("mean", r"\tilde\mu_t"),
                r"= \n{stretch} \lparen",
                X_T,
                r"{}- \n{of_eps}",
                EPS,
                r"\rparen",
            ),
            checks=(Check("It differs from (7) by at most", "mean_gap", 1e-9),),
        ),
    ),
)

TRAINING = Chapter(
    "Training",
    "学習",
    "A model is good if it finds real images probable. That probability cannot be computed, but it can be bounded, "
    "and the bound comes apart into one small question for each t.",
    (
        Equation(
            number=9,
            title="A bound on the evidence",
            term="変分下界",
            words="How many bits does the model need for this image? There are too many ways from noise to it to "
            "try them all. But a Kullback-Leibler divergence is never negative, and so the ways that the forward "
            "process takes give a bound.",
            symbols=(
                r"-\log p_\theta(x_0) \le & "
                r"\E_q[\log \frac{q(x_{1:T} | x_0)}{p_\theta(x_{0:T})}] = L_{\text{VLB}}",
            ),
            numbers=(r"\n{evidence} \le & \n{evidence_bound}",),
            functions=("diffusion.model.p_step", "diffusion.likelihood.pair_terms"),
            identity=True,
            checks=(Check("The bound is higher, as it must be, by", "evidence_gap", 1e-9, is_bound=True),),
            chart="evidence",
            note="In bits, for a model so small that both sides have a closed form: it has a single pixel, and knows "
            "only the mean ({case_mean}) and the spread ({case_deviation}) of this image's. Here $x_0$ = {case_pixel}.",
        ),
        Equation(
            number=10,
            title="The same bound from Jensen",
            term="イェンセンの不等式",
            words="Averaged over all data, the left side is the cross-entropy between data and model. The logarithm "
            "of a mean is at least the mean of the logarithm, and the same bound appears. Below everything lies the "
            "entropy of the data: no model does better.",
            symbols=(
                r"-\E_{q(x_0)} \log p_\theta(x_0) & = "
                r"-\E_{q(x_0)} \log \E_q[\frac{p_\theta(x_{0:T})}{q(x_{1:T} | x_0)}] & \le L_{\text{VLB}}",
            ),
            numbers=(r"\n{entropy} \le & \n{cross_entropy} \le & \n{mean_bound}",),
            functions=(
                "diffusion.model.p_step",
                "diffusion.likelihood.pair_terms",
                "diffusion.oracles.GaussianOracle",
            ),
            identity=True,
            checks=(
                Check(
                    "Averaged over the pixels of that small model, the bound is higher by",
                    "entropy_gap",
                    1e-9,
                    is_bound=True,
                ),
            ),
            chart="entropy",
        ),
        Equation(
            number=11,
            title="One term for each t",
            term="項に分ける",
            words="The bound is a sum. $L_T$ asks whether all is noise at the end; each $L_{t-1}$, how far the learned "
            "step is from the one that knows the image; $L_0$, how well the last step hits the exact pixel values.",
            symbols=(
                r"L_{\text{VLB}} = & \E_q[L_T + \sum_{t=2}^{T} L_{t-1} + L_0]",
                r"L_T = & \KL(q(x_T | x_0) \parallel p(x_T))",
                r"L_{t-1} = & \KL(q(x_{t-1} | x_t, x_0) \parallel p_\theta(x_{t-1} | x_t))",
                r"L_0 = & -\log p_\theta(x_0 | x_1)",
            ),
            numbers=(
                r"\n{total} = & \n{L_T} + \n{L_steps} + \p{L_0}",
                r"L_{\n{s}} = & \n{term}",
            ),
            functions=(
                "diffusion.likelihood.variational_bound",
                "diffusion.likelihood.prior_term",
                "diffusion.likelihood.step_term",
                "diffusion.likelihood.decoder_term",
            ),
            chart="bits",
            note="{bound}",
        ),
        Equation(
            number=12,
            title="Guess the noise",
            term="ノイズを当てる",
            words="With a fixed variance only the means count, and by (8) they differ in the noise alone. So the whole "
            "bound asks one question: which noise was added? Training asks it with weight 1, for random images and "
            "random t.",
            symbols=(
                r"L_{t-1} = & \E[\frac{\beta_t^2}{2 \sigma_t^2 \alpha_t (1-\bar\alpha_t)} "
                r"\norm{\eps - \eps_\theta(x_t, t)}^2] + C",
                r"x_t = & \sqrt{\bar\alpha_t} x_0 + \sqrt{1-\bar\alpha_t} \eps",
            ),
            numbers=(r"L_{\n{s}} = & \n{weight} \times \n{error} + \n{constant} = & \n{weighted_error}",),
            functions=("training.losses.eps_weight",),
            picture=(EPS, "{}-{}", EPS_HAT, "=", View("eps_error", r"\eps - \eps_\theta")),
            checks=(Check("It differs from the term of (11) by", "weight_gap", 1e-6),),
            note="{weighted}",
        ),
    ),
)

SAMPLING = Chapter(
    "Sampling",
    "サンプリング",
    "What remains is a loop: ask for the noise, take a little of it away, add a little fresh noise, and again.",
    (
        Equation(
            number=13,
            title="The step of the loop",
            term="一歩戻る",
            words="The mean is (8), with the noise that {who} sees in place of the true one; then fresh noise $z$, as "
            "much as the step leaves uncertain. At t = 1 there is none: what is left is the image.",
            symbols=(
                r"x_{t-1} = & \frac{1}{\sqrt{\alpha_t}} "
                r"(x_t - \frac{\beta_t}{\sqrt{1-\bar\alpha_t}} \eps_\theta(x_t, t)) & + \sigma_t z",
            ),
            numbers=(r"x_{\n{s}} = & \n{stretch} (x_{\n{t}} - \n{of_eps} \eps_\theta) + \n{sigma_z} z",),
            functions=("samplers.ancestral.Ancestral.step",),
            picture=(
                View("stepped", "x_{t-1}"),
                r"= \n{stretch} \lparen",
                X_T,
                r"{}- \n{of_eps}",
                EPS_HAT,
                r"\rparen{}+ \n{sigma_z}",
                View("fresh", "z"),
            ),
            checks=(Check("The function and the formula differ by at most", "step_gap", 1e-9),),
        ),
    ),
)

CHAPTERS = (FORWARD, REVERSE, TRAINING, SAMPLING, BEYOND)
EQUATIONS = tuple(equation for chapter in CHAPTERS for equation in chapter.equations)
