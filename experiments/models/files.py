"""Files of weights: what one holds is read first, and of that only what is asked for.

No pickled code is ever run, and nothing is unpacked beyond what its shape needs.
"""

import contextlib
import functools
import io
import math
import pathlib
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

# The kinds of numbers that weights are, as numpy and torch and as safetensors say it.
FLOATS = {
    *("float16", "bfloat16", "float32", "float64"),
    *("F16", "BF16", "F32", "F64"),
}
NPY_HEADER = 10_240  # bytes; numpy accepts no longer ones
# What training scripts wrap a state dict in.
WRAPPERS = ("state_dict", "model_state_dict", "model")


class WeightsError(ValueError):
    """A file of weights is missing, damaged, or of another kind."""


class Stored(NamedTuple):
    """An array that lies in a file.

    Attributes:
      shape: as the file has it.
      kind: of its numbers, in the file's words; weights have one of `FLOATS`.
      read: returns it.
    """

    shape: tuple[int, ...]
    kind: str
    read: Callable[[], np.ndarray]


def unfit(path: pathlib.Path, problem: str) -> WeightsError:
    """An error of one line."""
    return WeightsError(f"{path} is missing, damaged, or of another kind: {problem}")


def contents(path: pathlib.Path) -> dict[str, Stored]:
    """What a file holds, by name; no array is read yet.

    Raises:
      WeightsError: the file is missing, damaged, or of another kind.
    """
    readers = {
        ".npz": _npz,
        ".safetensors": _safetensors,
        **dict.fromkeys((".pt", ".pth", ".bin", ".tar"), _torch),
    }
    if path.suffix not in readers:
        raise unfit(path, f"expected a file that ends in {', '.join(readers)}.")
    with _one_line(path, f"it cannot be read as {path.suffix}:"):
        if not path.is_file():
            raise unfit(path, "there is no such file.")
        stored = readers[path.suffix](path)
    if not stored:
        raise unfit(path, "it holds no arrays.")
    return stored


def values(path: pathlib.Path, stored: Mapping[str, Stored]) -> dict[str, np.ndarray]:
    """Some of the arrays of a file, as finite float32.

    Raises:
      WeightsError: the file is damaged, or an array is not finite.
    """
    arrays = {}
    for name, array in stored.items():
        with _one_line(path, f"{listed([name])}:"), np.errstate(over="ignore"):
            arrays[name] = np.asarray(array.read(), np.float32)
        if not np.isfinite(arrays[name]).all():
            raise unfit(
                path,
                f"{listed([name])} holds NaN or infinity, or what float32 cannot hold;"
                " expected finite numbers.",
            )
    return arrays


def listed(names: list[str], most: int = 8) -> str:
    """The first names, fit for a line whatever a file calls its arrays."""
    plain = [n if n.isprintable() else ascii(n) for n in names[:most]]
    rest = len(names) - most
    return ", ".join(f"{n:.200}" for n in plain) + (f" and {rest} more" * (rest > 0))


@contextlib.contextmanager
def _one_line(path: pathlib.Path, what: str) -> Iterator[None]:
    """Whatever fails within becomes one line; a damaged file fails in any way."""
    try:
        yield
    except WeightsError:
        raise
    except ImportError as error:
        raise WeightsError(f"{path}: pip install {error.name} to read it") from error
    except Exception as error:
        lines = str(error).split("\n")
        raise unfit(path, f"{what} {lines[0] or type(error).__name__}") from error


# ---- The formats -------------------------------------------------------------------


def _npz(path: pathlib.Path) -> dict[str, Stored]:
    """What numpy.load reads the same, but only after it has made room for all of it."""
    stored = {}
    with zipfile.ZipFile(path) as file:
        for member in file.infolist():
            name = member.filename.removesuffix(".npy")
            with _one_line(path, f"{listed([name])}:"):
                if name != member.filename:
                    stored[name] = _npy(path, file, member)
    return stored


def _npy(path: pathlib.Path, file: zipfile.ZipFile, member: zipfile.ZipInfo) -> Stored:
    # numpy writes no other, and in others a few bytes unpack to gigabytes at once.
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError("compressed in another way than numpy does")
    with file.open(member) as opened:
        head = io.BytesIO(opened.read(NPY_HEADER))
    if np.lib.format.read_magic(head) == (1, 0):
        shape, by_columns, dtype = np.lib.format.read_array_header_1_0(head)
    else:
        shape, by_columns, dtype = np.lib.format.read_array_header_2_0(head)
    start, size = head.tell(), math.prod(shape) * dtype.itemsize

    def read() -> np.ndarray:
        if member.file_size != start + size:
            raise ValueError(f"expected {size} bytes for the shape {shape}")
        with zipfile.ZipFile(path) as file, file.open(member) as opened:
            opened.read(start)
            flat = np.frombuffer(opened.read(size), dtype)
        return flat.reshape(shape, order="F" if by_columns else "C")

    return Stored(shape, dtype.name, read)


def _safetensors(path: pathlib.Path) -> dict[str, Stored]:
    import safetensors

    file: Any = safetensors.safe_open(path, "numpy")
    slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
    return {
        name: Stored(
            tuple(part.get_shape()),
            part.get_dtype(),
            functools.partial(file.get_tensor, name),
        )
        for name, part in slices.items()
    }


def _torch(path: pathlib.Path) -> dict[str, Stored]:
    zipped = zipfile.is_zipfile(path)
    if zipped:
        from experiments.models import torchscript  # few weights are

        with zipfile.ZipFile(path) as file:
            if torchscript.is_archive(file):
                return torchscript.tensors(path)
            if any(member.compress_type for member in file.infolist()):
                raise ValueError("it is compressed, which torch.save's are not")
    import torch

    try:
        with warnings.catch_warnings(action="ignore"):  # of formats in beta
            state = torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except Exception as error:
        raise unfit(
            path,
            "it is damaged or holds more than tensors, and pickled code is never run;"
            " expected torch.save(model.state_dict(), path).",
        ) from error
    for wrapper in WRAPPERS:
        if isinstance(state, dict) and isinstance(state.get(wrapper), dict):
            state = state[wrapper]
    if not isinstance(state, dict):
        raise ValueError(f"expected a state_dict, got {type(state).__name__}")
    tensors = {k: v for k, v in state.items() if isinstance(v, torch.Tensor)}
    for name in tensors:
        if not isinstance(name, str):
            raise ValueError(f"expected the names of arrays as keys, got {name!r}")
    return {
        name.removeprefix("module."): Stored(
            tuple(tensor.shape),
            _kind(tensor),
            lambda tensor=tensor: tensor.detach().float().numpy(),
        )
        for name, tensor in tensors.items()
    }


def _kind(tensor: Any) -> str:
    """Of its numbers; or why it has none that can be read."""
    import torch

    if tensor.layout is not torch.strided:
        return str(tensor.layout)
    return "meta" if tensor.is_meta else str(tensor.dtype).removeprefix("torch.")
