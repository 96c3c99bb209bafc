"""Images from the model beside this file: python sample.py [COUNT] [SEED]. Needs numpy, onnxruntime, pillow."""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image

HERE = Path(__file__).parent
TABLE = json.loads((HERE / "sampler.json").read_text("utf-8"))
LOOKS_BACK = max(len(step.get("past", ())) for step in TABLE["steps"])
MODEL = onnxruntime.InferenceSession(HERE / "model.onnx", providers=["CPUExecutionProvider"])


def sample(x: np.ndarray, rng: np.random.Generator, label: int | np.ndarray | None = None) -> np.ndarray:
    """Walk from noise (count, channels, height, width) to images, where -1 is black and 1 is white."""
    if TABLE["classes"] and label is None:  # "no class", or all in turn if the model has no label for that
        turn = np.arange(len(x)) % len(TABLE["classes"])
        label = turn if TABLE["null_label"] is None else TABLE["null_label"]
    inputs = {} if label is None else {"label": np.full(len(x), label, np.int64)}
    before: list[tuple[np.ndarray, np.ndarray]] = []  # x_0 and x of the rows before, the newest first
    for step in TABLE["steps"]:
        inputs |= {"x_t": x, "time": np.full(len(x), step["time"], np.float32)}
        output = MODEL.run(["output"], inputs)[0][:, : TABLE["channels"]]
        x_0 = step["guess"][0] * x + step["guess"][1] * output
        x_0 = x_0 if TABLE["clip"] is None else x_0.clip(-TABLE["clip"], TABLE["clip"])
        noise = step["noise"] * rng.standard_normal(x.shape, np.float32)
        there = step["next"][0] * x_0 + step["next"][1] * x + noise
        for (of_x_0, of_x), (then_x_0, then_x) in zip(step.get("past", ()), before, strict=False):
            there = there + of_x_0 * then_x_0 + of_x * then_x
        before, x = [(x_0, x), *before[:LOOKS_BACK]], there
    return x


if __name__ == "__main__":
    asked = sys.argv[1:]
    if {"-h", "--help"} & set(asked):
        print(__doc__)
        sys.exit()
    if len(asked) > 2 or not all(word.isdecimal() for word in asked) or asked[:1] == ["0"]:
        sys.exit(f"COUNT is 1 or more, SEED 0 or more\n{__doc__}")  # on stderr, with exit code 1
    count, seed = (*map(int, asked), *(16, 0)[len(asked) :])
    rng, size = np.random.default_rng(seed), [TABLE[side] for side in ("channels", "height", "width")]
    x = sample(rng.standard_normal((count, *size), np.float32), rng)
    np.save("samples.npy", x)
    top = (TABLE["levels"] or 256) - 1  # brightness in the picture: levels 0 to top, spread over 0 to 255
    pixels = np.rint(np.rint((x.clip(-1, 1) + 1) / 2 * top) * (255 / top)).astype(np.uint8)
    rows = max(n for n in range(1, count + 1) if count % n == 0 and n * n <= count)
    grid = np.vstack([np.hstack(list(row)) for row in np.split(pixels.transpose(0, 2, 3, 1), rows)])
    Image.fromarray(grid[..., 0] if grid.shape[2] == 1 else grid).save("samples.png")
