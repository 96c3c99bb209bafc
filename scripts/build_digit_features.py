"""Rebuild the classifier of the bundled digits, whose features `evaluate --distance` takes: a minute on one core.

python scripts/build_digit_features.py [--out FILE]

One thread, a fixed seed: the same bytes again by the same version of PyTorch on the same kind of processor. Trained on
the digits of even numbers, shifted by up to a pixel; the share of the others that it knows is printed.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch.nn import functional as F

from kakusan.data.builtin import digits
from kakusan.evaluation.features import repeatable, train
from kakusan.evaluation.shipped import FILE, DigitClassifier
from kakusan.shapes import Samples

OUT = Path(__file__).parents[1] / "src/kakusan/evaluation" / FILE
STEPS = 3000


def shifted(x: Samples, rows: np.ndarray) -> Samples:
    """Each by -1, 0 or 1 pixel along both axes, as the draw says; what comes in is black, as all edges are."""
    padded = F.pad(x, (1, 1, 1, 1), value=-1.0)
    down, right = torch.randint(0, 3, (2, len(rows))).tolist()
    return torch.stack(
        [image[:, d : d + 8, r : r + 8] for image, d, r in zip(padded, down, right, strict=True)]
    )


def build(out: Path, steps: int = STEPS) -> float:
    """The share of the other half that is known in the end."""
    data = digits()
    assert data.labels is not None
    labels = torch.from_numpy(data.labels)
    even, odd = np.arange(0, len(data), 2), np.arange(1, len(data), 2)
    with repeatable():
        classifier = DigitClassifier()

        def loss(rows: np.ndarray) -> torch.Tensor:
            return F.cross_entropy(classifier(shifted(data.x_0(rows), rows)), labels[torch.from_numpy(rows)])

        train(classifier, even, loss, lambda _, __: None, steps)
        half = {name: value.half() for name, value in classifier.state_dict().items()}
        save_file(half, out)
        classifier.load_state_dict({name: value.float() for name, value in half.items()})
        with torch.no_grad():
            right = classifier(data.x_0(odd)).argmax(1) == labels[torch.from_numpy(odd)]
    return float(right.double().mean())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, default=OUT)
    path = parser.parse_args().out
    print(f"{path}: {path.name}, {build(path):.1%} of the digits of odd numbers, {path.stat().st_size} bytes")
