"""Training data: built-in sets, folders, arrays; batches as a function of (seed, step)."""

from kakusan.data.batches import Batch, Batches, Split, split
from kakusan.data.builtin import DATASETS, BuiltIn
from kakusan.data.dataset import BadFile, Dataset, Progress
from kakusan.data.heldout import Divided, Past, divide
from kakusan.data.memory import InMemory, dataset_in_memory
from kakusan.data.sources import as_asked, is_image_folder, open_data

__all__ = [
    "DATASETS",
    "BadFile",
    "Batch",
    "Batches",
    "BuiltIn",
    "Dataset",
    "Divided",
    "InMemory",
    "Past",
    "Progress",
    "Split",
    "as_asked",
    "dataset_in_memory",
    "divide",
    "is_image_folder",
    "open_data",
    "split",
]
