"""kakusan: denoising diffusion probabilistic models, right to the last digit."""
