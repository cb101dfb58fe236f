"""TorchScript archives, such as OpenAI's of CLIP: tensors are read, no code is run.

Such an archive is a zip whose `data.pkl` describes a tree of modules. It is unpickled
to inert objects, whatever classes it names; the numbers of a tensor lie in a file each.
"""

import io
import pathlib
import pickle
import re
import zipfile
from collections.abc import Iterator
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from experiments.models.files import Stored, listed

MARK = "constants.pkl"  # what torch.save does not write
MOST_BYTES = 1 << 22  # of data.pkl; that of a CLIP has some hundred thousand
MOST_AXES, LONGEST_NAME = 8, 1000
NUMBERS = {
    "Half": np.dtype(np.float16),
    "BFloat16": np.dtype(ml_dtypes.bfloat16),
    "Float": np.dtype(np.float32),
    "Double": np.dtype(np.float64),
    "Long": np.dtype(np.int64),
    "Int": np.dtype(np.int32),
    "Short": np.dtype(np.int16),
    "Char": np.dtype(np.int8),
    "Byte": np.dtype(np.uint8),
    "Bool": np.dtype(np.bool_),
}


class _Storage(NamedTuple):
    kind: str  # of `NUMBERS`
    key: str  # the file's name
    numbers: int  # how many


class _Tensor(NamedTuple):
    storage: _Storage
    offset: int  # this and strides in numbers
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _Inert:
    """An object of any class, with its attributes but without its code."""

    state: Any = None

    def __new__(cls, *args: Any) -> "_Inert":
        return super().__new__(cls)

    def __init__(self, *args: Any):
        pass

    def __setstate__(self, state: Any):
        self.state = state


def is_archive(file: zipfile.ZipFile) -> bool:
    """Whether this is TorchScript and not what torch.save writes."""
    return any(name.endswith(f"/{MARK}") for name in file.namelist())


def tensors(path: pathlib.Path) -> dict[str, Stored]:
    """What a TorchScript archive holds, as a state dict names it.

    Raises:
      ValueError: it holds what is none of torch's, or tensors that cannot be.
    """
    with zipfile.ZipFile(path) as file:
        (described,) = (m for m in file.infolist() if _NAME.fullmatch(m.filename))
        if described.compress_type or described.file_size > MOST_BYTES:
            raise ValueError(f"data.pkl is compressed or above {MOST_BYTES} bytes")
        tree = _Unpickler(io.BytesIO(file.read(described))).load()
    root = described.filename.removesuffix("data.pkl")
    return {name: _stored(path, root, tensor) for name, tensor in _named(tree)}


_NAME = re.compile("[^/]+/data.pkl")


# The one in Python: that in C makes room for as many objects as a file says it has.
class _Unpickler(pickle._Unpickler):
    """Makes tensors of what describes tensors, and inert objects of other things."""

    def find_class(self, module: str, name: str) -> Any:
        # What is returned is new every time: a pickle can change what it gets.
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return lambda *given: _Tensor(*given[:4])
        if module == "torch" and name.endswith("Storage"):
            return name.removesuffix("Storage")
        if module.split(".")[0] in ("torch", "__torch__", "collections"):
            return type("Inert", (_Inert,), {})
        named = listed([f"{module}.{name}"])
        raise ValueError(f"it names {named}, and no code of a file is run")

    def persistent_load(self, pid: Any) -> _Storage:
        _, kind, key, _, count = pid
        return _Storage(kind, key, count)


def _named(tree: Any) -> Iterator[tuple[str, _Tensor]]:
    """The tensors of a tree of modules, each module once."""
    waiting, seen = [("", tree)], set()
    while waiting:
        prefix, module = waiting.pop()
        if id(module) in seen:
            continue
        seen.add(id(module))
        attributes = module.state if isinstance(module, _Inert) else None
        for name, value in attributes.items() if isinstance(attributes, dict) else ():
            if not isinstance(name, str) or len(prefix + name) > LONGEST_NAME:
                raise ValueError(f"something in {listed([prefix])} has no proper name")
            if isinstance(value, _Tensor):
                yield f"{prefix}{name}", value
            else:
                waiting.append((f"{prefix}{name}.", value))


def _stored(path: pathlib.Path, root: str, tensor: _Tensor) -> Stored:
    (kind, key, count), offset, shape, strides = tensor
    if kind not in NUMBERS:
        raise ValueError(f"a tensor is of {listed([str(kind)])} numbers")
    dtype, numbers = NUMBERS[kind], (count, offset, *shape, *strides)
    if not (
        len(shape) == len(strides) <= MOST_AXES
        and all(type(n) is int and n >= 0 for n in numbers)
    ):
        raise ValueError("a tensor has a shape or strides that cannot be")
    last = offset + sum((n - 1) * step for n, step in zip(shape, strides, strict=True))
    if last >= count and 0 not in shape:
        raise ValueError(f"a tensor of the shape {shape} is not in its {count} numbers")

    def read() -> np.ndarray:
        with zipfile.ZipFile(path) as file:
            member = file.getinfo(f"{root}data/{key}")
            if member.compress_type or member.file_size != count * dtype.itemsize:
                raise ValueError(f"expected {count} numbers of {dtype}, not compressed")
            flat = np.frombuffer(file.read(member), dtype, count)
        steps = [step * dtype.itemsize for step in strides]
        return np.lib.stride_tricks.as_strided(flat[offset:], shape, steps).copy()

    return Stored(tuple(shape), dtype.name, read)
