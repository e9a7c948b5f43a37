"""Where a session runs: execution providers of onnxruntime.

onnxruntime falls back to the CPU by itself when a GPU provider cannot start; asked for `cuda` this is an
error here, with `auto` it shows in `OnnxTagger.provider`.
"""

from __future__ import annotations

from typing import Any, Literal

from pfgdata.errors import ConfigError, ModelError

__all__ = ["Device", "open_session", "providers", "session_errors"]

Device = Literal["auto", "cpu", "cuda"]
_CPU, _CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
_NO_CUDA = "no CUDA for onnxruntime here; pip install 'pfg[gpu]' on a machine with an NVIDIA GPU, or use cpu"


def providers(device: str) -> list[str]:
    """onnxruntime's providers for `device`, best first. Raises ModelError if cuda is not installed."""
    import onnxruntime as ort

    if device not in ("auto", "cpu", "cuda"):
        raise ConfigError(f"no device {device!r}; it is auto, cpu or cuda")
    installed = _CUDA in ort.get_available_providers()
    if device == "cuda" and not installed:
        raise ModelError(_NO_CUDA)
    return [_CUDA, _CPU] if installed and device != "cpu" else [_CPU]


def open_session(model: bytes, *, device: str, threads: int | None) -> Any:
    """An InferenceSession of a serialised model.

    `threads` is how many one operator may use; None leaves it to onnxruntime (all cores). Raises ModelError
    if the model was to run on cuda and cannot.
    """
    import onnxruntime as ort

    wanted = providers(device)
    options = ort.SessionOptions()
    options.log_severity_level = 3  # errors: the warnings speak of the graph's making
    if threads is not None:
        options.intra_op_num_threads = threads
    session = ort.InferenceSession(model, options, providers=wanted)
    if device == "cuda" and session.get_providers()[0] != _CUDA:
        raise ModelError(_NO_CUDA)
    return session


def session_errors() -> tuple[type[Exception], ...]:
    """What onnxruntime raises at a model it cannot load or run; they have no common base of their own."""
    from onnxruntime.capi import onnxruntime_pybind11_state as ort

    return (ort.Fail, ort.InvalidArgument, ort.InvalidGraph, ort.NotImplemented, ort.RuntimeException)
