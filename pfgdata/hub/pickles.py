"""The tensors of a torch.save file, without running anything that its pickle asks for.

Checkpoints of Lightning hold callbacks and configs beside their weights, and torch's own safe reader refuses
a file for one of them. Here each name in the pickle is answered from a closed table: dicts, descriptions of
tensors, and for all else a stub that swallows what it is given. Nothing is imported, and nothing that a
pickle can get hold of does more than that. Tensors are then mapped from the file by their descriptions.
"""

from __future__ import annotations

import io
import os
import pickle
import struct
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    import torch

__all__ = ["pickled_tensors"]

_MAGIC = 0x1950A86A20F9469CFC6C  # the first pickle of a file from before torch 1.6
_DEEPEST = 8  # a state dict in others, which may hold themselves
_DTYPES = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
}


def pickled_tensors(file: Path) -> dict[str, torch.Tensor]:
    """The tensors of the state dict in `file`, on the CPU, mapped from it: they are read when they are used.

    A state dict may lie in others under `state_dict`; what in it is no tensor is left out. Raises
    pickle.UnpicklingError for what is no such file, or is damaged, and OSError.
    """
    try:
        state, spans = _in_zip(file) if zipfile.is_zipfile(file) else _in_sequence(file)
        for _ in range(_DEEPEST):
            state = state["state_dict"] if isinstance(state, dict) and "state_dict" in state else state
        found = state.items() if isinstance(state, dict) else ()
        known = {str(name): value for name, value in found if isinstance(value, _Tensor)}
        return _mapped(file, known, spans)
    except OSError:
        raise
    except Exception as problem:  # a pickle of nonsense, walked, can raise anything
        raise pickle.UnpicklingError(f"{type(problem).__name__}: {problem}") from problem


@dataclass(frozen=True, slots=True)
class _Dtype:
    """A class of storages, by the dtype of its numbers."""

    name: str


@dataclass(frozen=True, slots=True)
class _Storage:
    """Numbers in the file: `count` of them, from number `first` on of what is stored under `key`."""

    dtype: str
    key: str
    first: int
    count: int


@dataclass(frozen=True, slots=True)
class _Tensor:
    """A view of a storage; offset and strides count numbers."""

    storage: _Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


class _Builder:
    """A function that a pickle may call. It has no attribute that a pickle could set."""

    __slots__ = ("_build",)
    _build: Callable[..., Any]

    def __init__(self, build: Callable[..., Any]) -> None:
        object.__setattr__(self, "_build", build)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("a pickle sets nothing here")

    def __call__(self, *args: Any) -> Any:
        return self._build(*args)


class _Sealed(type):
    """A class that a pickle can name, and not change."""

    def __setattr__(cls, name: str, value: object) -> None:
        raise AttributeError("a pickle sets nothing here")


class _Stub(metaclass=_Sealed):
    """What stands for any other object; it takes what a pickle gives to objects, and keeps none of it."""

    __slots__ = ()

    def __new__(cls, *args: object, **kwargs: object) -> _Stub:
        return object.__new__(cls)

    def _nothing(*args: object, **kwargs: object) -> None:
        """Whatever is asked."""

    __setstate__ = __setitem__ = append = extend = add = update = _nothing


class _Table(dict[Any, Any], metaclass=_Sealed):
    """An OrderedDict; the attributes that torch hangs on a state dict are dropped."""

    def __setstate__(*args: object) -> None:
        """Whatever is asked."""


def _tensor(storage: object, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: object) -> Any:
    if not isinstance(storage, _Storage):  # of a kind that is not known here
        return _Stub()
    return _Tensor(storage, int(offset), tuple(map(int, size)), tuple(map(int, stride)))


_KNOWN: Mapping[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): _Table,
    ("torch._utils", "_rebuild_tensor"): _Builder(_tensor),
    ("torch._utils", "_rebuild_tensor_v2"): _Builder(_tensor),
    ("torch._utils", "_rebuild_parameter"): _Builder(lambda data, *_: data),
}


class _Unpickler(pickle._Unpickler):  # the one in Python: its memo is a dict, a forged index costs no memory
    """Answers every name from the table above; it never asks Python for one."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file, encoding="utf-8")
        self.dtypes: dict[str, str] = {}  # of each storage, by its key

    def find_class(self, module: str, name: str) -> Any:
        """A builder, a dtype, or a stub."""
        if module.split(".")[0] == "torch" and name in _DTYPES:
            return _Dtype(_DTYPES[name])
        return _KNOWN.get((module, name), _Stub)

    def persistent_load(self, pid: Any) -> Any:
        """The storage that torch means by `pid`."""
        if not isinstance(pid, tuple) or len(pid) < 5 or not isinstance(pid[1], _Dtype):
            return _Stub()
        _, dtype, key, _, count, *view = pid
        self.dtypes[str(key)] = dtype.name
        first, count = (int(view[0][1]), int(view[0][2])) if view and view[0] else (0, int(count))
        return _Storage(dtype.name, str(key), first, count)

    def get_extension(self, code: int) -> None:
        """Refuse what other code of this process has registered with copyreg."""
        raise pickle.UnpicklingError(f"asks for extension {code}")


_Spans = Mapping[str, tuple[int, int]]  # of each key: first byte in the file, and how many


def _in_zip(file: Path) -> tuple[Any, _Spans]:
    """What the pickle of a file since torch 1.6 builds, and where in the file its storages lie."""
    spans: dict[str, tuple[int, int]] = {}
    with zipfile.ZipFile(file) as archive, file.open("rb") as raw:
        (pickled,) = (info for info in archive.infolist() if info.filename.endswith("/data.pkl"))
        top = pickled.filename.removesuffix("data.pkl")
        for info in archive.infolist():
            if info.compress_type != zipfile.ZIP_STORED:
                raise pickle.UnpicklingError("a zip that was packed again; torch.save stores without packing")
            if info.filename.startswith(f"{top}data/"):
                key = info.filename.removeprefix(f"{top}data/")
                spans[key] = (_start(raw, info), info.file_size)
        if f"{top}byteorder" in archive.namelist() and archive.read(f"{top}byteorder") != b"little":
            raise pickle.UnpicklingError("its numbers are in big-endian order")
        return _Unpickler(io.BytesIO(archive.read(pickled))).load(), spans


def _start(raw: BinaryIO, info: zipfile.ZipInfo) -> int:
    """Where the bytes of a member begin: behind its local header, of 30 bytes, a name and extra fields."""
    raw.seek(info.header_offset + 26)
    name, extra = struct.unpack("<HH", raw.read(4))
    return int(info.header_offset + 30 + name + extra)


def _in_sequence(file: Path) -> tuple[Any, _Spans]:
    """The same of a file from before: five pickles, then each storage behind its count."""
    spans: dict[str, tuple[int, int]] = {}
    with file.open("rb") as raw:
        if _Unpickler(raw).load() != _MAGIC:
            raise pickle.UnpicklingError("no file of torch.save")
        _version, _system = (_Unpickler(raw).load() for _ in range(2))
        reading = _Unpickler(raw)
        state = reading.load()
        for key in _Unpickler(raw).load():
            (count,) = struct.unpack("<q", raw.read(8))
            spans[str(key)] = (raw.tell(), count * _width(reading.dtypes[str(key)]))
            raw.seek(spans[str(key)][1], os.SEEK_CUR)
    return state, spans


def _mapped(file: Path, known: Mapping[str, _Tensor], spans: _Spans) -> dict[str, torch.Tensor]:
    """The tensors described. Raises ValueError for one that reaches beyond its storage, or the file."""
    import torch

    whole = torch.from_file(str(file), shared=False, size=file.stat().st_size, dtype=torch.uint8)
    tensors = {}
    for name, one in known.items():
        dtype, width = getattr(torch, one.storage.dtype), _width(one.storage.dtype)
        start, length = spans[one.storage.key]
        start += one.storage.first * width
        held = min(length // width - one.storage.first, (len(whole) - start) // width, one.storage.count)
        last = one.offset + sum((side - 1) * step for side, step in zip(one.size, one.stride, strict=True))
        if min(one.offset, one.storage.first, *one.size, *one.stride, 0) < 0:
            raise ValueError(f"{name} has negative sides")
        if 0 in one.size:
            tensors[name] = torch.empty(one.size, dtype=dtype)
            continue
        if last >= held:
            raise ValueError(f"{name} is cut short")
        part = whole[start : start + held * width]
        numbers = (part.clone() if start % width else part).view(dtype)  # what is not aligned is read now
        tensors[name] = numbers.as_strided(one.size, one.stride, numbers.storage_offset() + one.offset)
    return tensors


def _width(dtype: str) -> int:
    """Bytes of a number."""
    import torch

    return int(getattr(torch, dtype).itemsize)
