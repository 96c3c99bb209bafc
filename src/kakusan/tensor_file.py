"""A .safetensors file, tensor by tensor: the bytes of ``safetensors.torch.save``, never whole in memory.

The format: the length of the header (8 bytes, little-endian), the header (JSON: name -> dtype, shape, place),
the tensors.
"""

import json
import struct
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

DTYPES = {  # in the order in which the tensors stand in a file: wide ones first, so that each is aligned
    torch.uint64: "U64",
    torch.int64: "I64",
    torch.float64: "F64",
    torch.complex64: "C64",
    torch.float32: "F32",
    torch.uint32: "U32",
    torch.int32: "I32",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    torch.uint16: "U16",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
_PLACE = {dtype: place for place, dtype in enumerate(DTYPES)}


def pieces(tensors: Mapping[str, Tensor]) -> Iterator[memoryview]:
    """The file in pieces: the header, then each tensor in plain (contiguous) order.

    Memory format and sharing are not kept: a view, or a tensor named twice, is written out each time.
    Raises TypeError for a dtype that has no name in the format.
    """
    for name, tensor in tensors.items():
        if tensor.dtype not in DTYPES:
            raise TypeError(f"{name} is {tensor.dtype}, for which a .safetensors file has no name")
    ordered = sorted(tensors.items(), key=lambda item: (_PLACE[item[1].dtype], item[0]))
    yield memoryview(_header(ordered))
    for _, tensor in ordered:
        plain = tensor.detach().cpu().contiguous()  # one at a time: a GPU's weights need no second home
        yield plain.reshape(-1).view(torch.uint8).numpy().data


def _header(ordered: list[tuple[str, Tensor]]) -> bytes:
    places: dict[str, object] = {}
    start = 0
    for name, tensor in ordered:
        end = start + tensor.nbytes
        places[name] = {
            "dtype": DTYPES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [start, end],
        }
        start = end
    text = json.dumps(places, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text
