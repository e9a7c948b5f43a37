"""Where sessions run: which GPUs a device's name means, and one session of onnxruntime on each.

onnxruntime falls back to the CPU by itself when a GPU provider cannot start. Asked for `cuda` or `tensorrt`
this is an error here; with `auto` the reason is in `unused_gpu`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pfgdata.errors import ConfigError, ModelError
from pfgdata.inference.machine import CPU, CUDA, NAMES, PROVIDERS, TENSORRT, Machine, look, why_not

__all__ = [
    "Device",
    "devices_of",
    "is_no_memory",
    "is_out_of_memory",
    "one_line",
    "open_session",
    "session_errors",
    "unused_gpu",
]

_DEVICE = re.compile(r"(auto|cpu|cuda|tensorrt)(?::(\d+(?:,\d+)*))?")
# As they come from onnxruntime's arenas, CUDA, cuDNN and cuBLAS, from torch's allocators, and from oneDNN.
_MEMORY = re.compile(
    r"failed to allocate memory|out of memory|CUDA failure 2\b|_ALLOC(ATION)?_FAILED"
    r"|is smaller than requested bytes|bad_?alloc|DefaultCPUAllocator"
    r"|can't allocate memory|not enough memory|could not create a primitive",
    re.IGNORECASE,
)


# After 200 letters of C++ in onnxruntime 1.32, and a path where there is one.
_TOO_NEW = re.compile(
    r"Unsupported model IR version: \d+, max supported IR version: \d+"
    r"|Opset \d+ is under development|official support for domain \S+ is till opset \d+"
)


@dataclass(frozen=True, slots=True)
class Device:
    """One CPU or GPU as a session's home."""

    kind: str  # cpu | cuda | tensorrt
    index: int = 0

    def __str__(self) -> str:
        return self.kind if self.kind == "cpu" else f"{self.kind}:{self.index}"


def devices_of(device: str, machine: Machine | None = None) -> list[Device]:
    """Where the sessions of `device` go: auto, cpu, cuda or tensorrt (every GPU), cuda:1, cuda:0,2.

    auto is every GPU that onnxruntime can use, else the CPU. Raises ConfigError for another name, ModelError
    with the reason where a GPU is asked for by name and cannot be used.
    """
    match = _DEVICE.fullmatch(device)
    if match is None or (match[2] and match[1] in ("auto", "cpu")):
        raise ConfigError(f"no device {device!r}; it is auto, cpu, cuda, cuda:1, cuda:0,2 or tensorrt")
    kind, chosen = match[1], [int(index) for index in match[2].split(",")] if match[2] else []
    machine = machine or look()
    if kind == "auto":
        kind = "cpu" if why_not(machine, "cuda") else "cuda"
    if reason := why_not(machine, kind):
        raise ModelError(str(reason) if kind == "cpu" else f"no {NAMES[kind]} for onnxruntime here: {reason}")
    if kind == "cpu":
        return [Device("cpu")]
    here = [gpu.index for gpu in machine.gpus]
    if absent := sorted(set(chosen) - set(here)):
        known = ", ".join(f"{gpu.index} ({gpu.name})" for gpu in machine.gpus)
        raise ModelError(f"there is no GPU {', '.join(map(str, absent))} here; the driver shows {known}")
    return [Device(kind, index) for index in dict.fromkeys(chosen or here)]


def unused_gpu(machine: Machine) -> str | None:
    """Why the NVIDIA GPU of this machine is not used and what to do; None if it is, or there is none."""
    reason = why_not(machine, "cuda") if machine.card or machine.gpus else None
    return str(reason) if reason else None


def open_session(model: bytes, *, device: Device, threads: int | None, half: bool) -> Any:
    """An InferenceSession of a serialised model at `device`.

    `threads` is how many one operator may use; None leaves it to onnxruntime (all cores). `half` lets
    TensorRT compute in float16. Raises ModelError if a GPU session cannot be made.
    """
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4  # fatal: an error is raised too, and running out of memory is handled
    if threads is not None:
        options.intra_op_num_threads = threads
    wanted = _providers(device, half)
    if device.kind == "cpu":
        return ort.InferenceSession(model, options, providers=wanted)
    options.intra_op_num_threads = 1  # a pool of all cores would spin beside the threads that decode
    try:
        session = ort.InferenceSession(model, options, providers=wanted, enable_fallback=0)
    except session_errors() as problem:
        raise ModelError(
            f"{device} cannot run this model ({one_line(problem)}); see pfgdata doctor, or use --device cpu"
        ) from problem
    if session.get_providers()[0] != PROVIDERS[device.kind]:
        raise ModelError(f"onnxruntime could not start {device} and took the CPU; see pfgdata doctor")
    return session


def _providers(device: Device, half: bool) -> Sequence[Any]:
    if device.kind == "cpu":
        return [CPU]
    options = {"device_id": str(device.index)}
    # HEURISTIC: the default tries every algorithm of cuDNN anew for each batch size, for seconds.
    # kSameAsRequested: the default doubles its arena, and so runs out of memory at half of it.
    cuda = {
        **options,
        "cudnn_conv_algo_search": "HEURISTIC",
        "arena_extend_strategy": "kSameAsRequested",
    }
    if device.kind == "cuda":
        return [(CUDA, cuda), CPU]
    engines = {
        **options,
        "trt_fp16_enable": str(half),
        "trt_engine_cache_enable": "True",  # an engine takes minutes to build
        "trt_engine_cache_path": str(_engine_folder()),
    }
    return [(TENSORRT, engines), (CUDA, cuda), CPU]


def _engine_folder() -> Path:
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(cache) / "pfg" / "tensorrt"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def session_errors() -> tuple[type[Exception], ...]:
    """What onnxruntime raises at a model or provider it cannot use; its own have no common base."""
    from onnxruntime.capi import onnxruntime_pybind11_state as ort

    return (
        ort.EPFail,
        ort.Fail,
        ort.InvalidArgument,
        ort.InvalidGraph,
        ort.NotImplemented,
        ort.RuntimeException,
        RuntimeError,  # a provider that cannot start
    )


def is_out_of_memory(problem: Exception) -> bool:
    """Whether an error of a model call means that fewer images at once could work."""
    return is_no_memory(problem) or "INT_MAX" in str(problem)  # or it was more than a kernel can index


def is_no_memory(problem: Exception) -> bool:
    """Whether an error says that memory is out, whoever found that."""
    return isinstance(problem, MemoryError) or _MEMORY.search(str(problem)) is not None


def one_line(problem: Exception) -> str:
    """The beginning of an error's text, on one line."""
    text = " ".join(str(problem).split())
    if too_new := _TOO_NEW.findall(text):
        import onnxruntime as ort

        return f"onnxruntime {ort.__version__} is too old for it ({', '.join(too_new)}); upgrade it"
    return text[:300]  # CUDA's own are pages long
