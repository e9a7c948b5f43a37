"""Graphs in onnxruntime, whatever they say of a picture: taggers and extractors run through here.

A graph is opened whole, made to take images as bytes and to give what is asked of it, and run on the devices
of this machine in batches that fit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pfgdata.lazy import lazy_imports

if TYPE_CHECKING:
    from pfgdata.inference.batches import BatchLimit, Images, run_in_parts
    from pfgdata.inference.devices import (
        Device,
        devices_of,
        is_no_memory,
        is_out_of_memory,
        one_line,
        open_session,
        session_errors,
        unused_gpu,
    )
    from pfgdata.inference.fused import Fused, fuse
    from pfgdata.inference.machine import NAMES, PROVIDERS, Machine, look, why_not
    from pfgdata.inference.models import OpenedModel, expose, open_model
    from pfgdata.inference.pixels import (
        UNREADABLE,
        deepghs_pixels,
        json_in,
        processor_pixels,
        timm_pixels,
    )
    from pfgdata.inference.probe import choose_batch_size
    from pfgdata.inference.runner import Runner, unusable
    from pfgdata.inference.surgery import (
        ImageInput,
        Precision,
        give_scores,
        image_input,
        image_side,
        take_bytes,
        to_float16,
    )

__all__ = [
    "NAMES",
    "PROVIDERS",
    "UNREADABLE",
    "BatchLimit",
    "Device",
    "Fused",
    "ImageInput",
    "Images",
    "Machine",
    "OpenedModel",
    "Precision",
    "Runner",
    "choose_batch_size",
    "deepghs_pixels",
    "devices_of",
    "expose",
    "fuse",
    "give_scores",
    "image_input",
    "image_side",
    "is_no_memory",
    "is_out_of_memory",
    "json_in",
    "look",
    "one_line",
    "open_model",
    "open_session",
    "processor_pixels",
    "run_in_parts",
    "session_errors",
    "take_bytes",
    "timm_pixels",
    "to_float16",
    "unusable",
    "unused_gpu",
    "why_not",
]

if not TYPE_CHECKING:
    __getattr__ = lazy_imports(__name__)
