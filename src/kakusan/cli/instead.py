"""Words of other programs, and the advice on each: what to do here instead, in one line."""

_LINES: tuple[tuple[str, str], ...] = (
    (
        "guidance-scale cfg cfg-scale classifier-free-guidance",
        "it is --guidance of kakusan sample, for a run that learned classes: kakusan sample RUN --guidance 2",
    ),
    (
        "inpaint inpainting repaint",
        "it is kakusan edit RUN --from a.png --mask kept.png; other measurements: kakusan restore RUN",
    ),
    (
        "deblur deconvolve super-resolution superresolution upscale outpaint inverse reconstruct dps ddrm",
        "it is kakusan restore RUN --observed y.png --operator gauss:1.5, down:4, ...: docs/restore.md",
    ),
    (
        "consistency lcm distillation turbo lightning few-step",
        "it is kakusan distill RUN, for one to four calls; ten need no training: kakusan sample RUN",
    ),
    (
        "interpolate interpolation slerp latents",
        "it is an edit: kakusan edit RUN --from a.png --to b.png, or --seeds 3 8",
    ),
    (
        "img2img image-to-image init-image strength sdedit",
        "it is an edit: kakusan edit RUN --from image.png --strength 0.6",
    ),
    (
        "wandb tensorboard tb mlflow comet logger logdir log-dir plot",
        "all figures are lines of RUN/metrics.jsonl: pandas.read_json('RUN/metrics.jsonl', lines=True)",
    ),
    (
        "gpus gpu num-gpus devices multi-gpu ddp fsdp distributed nodes world-size accelerate",
        "a run is trained by one device: --machine.device cuda:1 says which; several runs may train side by side",
    ),
    (
        "fid kid inception inception-score precision-recall clip-score metrics",
        "distances are those of kakusan evaluate RUN --distance, in features of your choice: docs/distances.md",
    ),
    (
        "dpm dpm-solver dpmpp dpm++ euler heun unipc plms pndm ipndm deis scheduler k-diffusion",
        "it is --sampler NAME of kakusan sample: unipc, dpmpp-2m, heun, ipndm, ddim (which is euler): docs/samplers.md",
    ),
    (
        "prompt text text-to-image txt2img",
        "classes are what a run can be asked for: kakusan sample RUN --label NAME",
    ),
    (
        "latent vae autoencoder",
        "models are of pixels; latents of your own are data like others: an array of floats",
    ),
    (
        "epochs num-epochs num-train-epochs max-epochs",
        "the length is --steps or --minutes; an epoch is images / --training.batch-size steps",
    ),
    ("lr", "it is --training.learning-rate"),
    ("bs train-batch-size", "it is --training.batch-size"),
    (
        "optimizer optim adam adamw muon sgd",
        "it is --training.optimizer, adamw or muon, with --training.learning-rate, .betas and .weight-decay",
    ),
    ("resolution image-size img-size", "it is --data.size; by default the images' own, or near their median"),
    (
        "fp16 amp mixed-precision half bf16",
        "it is --machine.precision bf16, which is chosen where the hardware has it",
    ),
    ("compile torch-compile", "networks run as they are written, without torch.compile"),
    ("workers num-workers", "there are none: images are decoded once, and held in memory or in --data.cache"),
    (
        "early-stopping patience",
        "held-out losses are in metrics.jsonl and in the report; Ctrl-C saves and ends a training",
    ),
    (
        "output-dir output save-dir checkpoint-dir",
        "a run's folder is --run; what `sample` makes goes to --out",
    ),
    (
        "timesteps sigmas",
        "the times of a walk are --times 999 700.5 20, or --steps with --spacing, of kakusan sample",
    ),
    ("num-samples n-samples num-images", "it is --count"),
    ("num-inference-steps ddim-steps sampling-steps", "it is --steps of `kakusan sample`"),
    ("generate infer inference predict draw", "it is: kakusan sample RUN"),
    ("eval test validate measure benchmark bpd nll", "it is: kakusan evaluate RUN"),
    ("dry-run estimate forecast", "it is: kakusan plan DATA, with the flags of train"),
    ("fit start", "it is: kakusan train DATA"),
    ("continue restart", "it is: kakusan resume RUN"),
    ("finetune fine-tune", "it is: kakusan train DATA --from RUN"),
    ("convert", "it is: kakusan export RUN TARGET, or kakusan import MODEL"),
    ("download hub pull", "it is: kakusan import hf:owner/name"),
    ("upload push push-to-hub", "kakusan export RUN TARGET writes a folder; huggingface_hub uploads it"),
    ("inspect info show view dataset survey", "data: kakusan data DATA; a run: kakusan report RUN"),
    ("serve web gui ui app", "kakusan report RUN and kakusan explain RUN write pages for a browser"),
    ("version", "it is: kakusan --version"),
)

INSTEAD = {word: line for words, line in _LINES for word in words.split()}


def instead_of(word: str) -> str | None:
    """The advice on a word of other programs: what to do here instead; None where nothing is known of it."""
    return INSTEAD.get(word.lstrip("-").partition("=")[0].replace("_", "-").lower())
