"""The doctor: what this machine can tag with, what hinders it, and the line that mends it.

The commonest complaint about tools with WD14 taggers is a GPU that lies idle in silence: CUDA or cuDNN of
another version, or the CPU's build of onnxruntime. So every provider is not only listed but run here.
"""

from __future__ import annotations

import os
import platform
import resource
import sys
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from pfgdata.errors import ModelError
from pfgdata.inference import (
    NAMES,
    PROVIDERS,
    Device,
    Machine,
    look,
    one_line,
    open_session,
    session_errors,
    why_not,
)

__all__ = ["DoctorReport", "Finding", "diagnose", "findings_of"]

_FILES = 4096  # readers of a store keep a descriptor for each shard's array, two where latents are read too
_OPTIONAL = {"JPEG XL": "pillow-jxl-plugin", "HEIC": "pillow-heif"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing looked at. `todo`, where there is one, says what to do; `bad` that tagging suffers."""

    what: str
    found: str
    todo: str = ""
    bad: bool = False

    def __str__(self) -> str:
        return f"{self.found}; {self.todo}" if self.todo else self.found


@dataclass(frozen=True, slots=True, kw_only=True)
class DoctorReport:
    """All findings in the order of reading, and the devices that ran a small model: cpu, cuda:0."""

    findings: tuple[Finding, ...]
    usable: tuple[str, ...]

    @property
    def can_tag(self) -> bool:
        """Whether anything here can run a tagger."""
        return bool(self.usable)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "can_tag": self.can_tag,
            "usable": list(self.usable),
            "findings": [asdict(finding) for finding in self.findings],
        }


def diagnose() -> DoctorReport:
    """Look at this machine and run a small model on each device of it."""
    machine = look()
    tried = {str(device): _try(device) for device in _homes(machine)}
    findings = [*_software(), *findings_of(machine, tried), *_decoders(), *_resources()]
    usable = tuple(device for device, problem in tried.items() if problem is None)
    return DoctorReport(findings=tuple(findings), usable=usable)


def findings_of(machine: Machine, tried: dict[str, str | None]) -> list[Finding]:
    """What follows from the facts, and from what running a model on each device gave (None: it ran)."""
    findings = [_onnxruntime(machine), _driver(machine)]
    findings += [
        Finding(
            what=f"GPU {gpu.index}",
            found=f"{gpu.name}, {gpu.memory / 2**30:.0f} GiB, compute capability {gpu.capability}",
        )
        for gpu in machine.gpus
    ]
    findings += _hindrances(machine)
    for device, problem in tried.items():
        bad = problem is not None
        todo = "compare the versions above; another onnxruntime may fit this driver" if bad else ""
        findings.append(Finding(what=device, found=problem or "runs a small model", todo=todo, bad=bad))
    return findings


def _hindrances(machine: Machine) -> list[Finding]:
    """What cannot be used. That CUDA needs a GPU is no news where there is none."""
    has_gpu = machine.card or bool(machine.gpus)
    return [
        Finding(
            what=NAMES[kind], found=f"not usable: {reason.what}", todo=reason.todo, bad=kind != "tensorrt"
        )
        for kind in NAMES
        if (kind == "cpu" or has_gpu) and (reason := why_not(machine, kind)) is not None
    ]


def _onnxruntime(machine: Machine) -> Finding:
    installed = (
        ", ".join(f"{name} {version}" for name, version in machine.packages.items()) or "not installed"
    )
    built = f", built for CUDA {machine.cuda_build}" if machine.cuda_build else ""
    knows = f" (knows {', '.join(machine.providers)})" if machine.providers else ""
    if len(machine.packages) > 1:
        keep = "onnxruntime-gpu[cuda,cudnn]" if "onnxruntime-gpu" in machine.packages else "onnxruntime"
        return Finding(
            what="onnxruntime",
            found=f"{installed}: they write over each other's files{built}{knows}",
            todo=f"pip uninstall -y {' '.join(machine.packages)} && pip install '{keep}'",
            bad=True,
        )
    return Finding(what="onnxruntime", found=f"{installed}{built}{knows}")


def _driver(machine: Machine) -> Finding:
    if machine.gpus:
        cuda = ".".join(map(str, machine.driver_cuda or ()))
        return Finding(what="NVIDIA driver", found=f"{machine.driver or 'found'}, runs CUDA up to {cuda}")
    if not machine.card:
        return Finding(what="NVIDIA driver", found="no NVIDIA GPU here")
    return Finding(what="NVIDIA driver", found=machine.driver_problem or "shows no GPU")


def _homes(machine: Machine) -> list[Device]:
    """Every device whose session should start."""
    if why_not(machine, "cpu"):
        return []
    homes = [Device("cpu")]
    for kind in ("cuda", "tensorrt"):
        if why_not(machine, kind) is None:
            homes += [Device(kind, gpu.index) for gpu in machine.gpus]
    return homes


def _try(device: Device) -> str | None:
    """Run a convolution (it needs cuDNN) and a product (cuBLAS); None if the numbers are right."""
    side = 8
    image = np.ones((1, 3, side, side), np.float32)
    try:
        session = open_session(_small_model(side), device=device, threads=1, half=False)
        (found,) = session.run(None, {"image": image})
    except ModelError as problem:
        return f"fails: {problem}"
    except session_errors() as problem:
        return f"fails: {one_line(problem)}"
    if not np.allclose(found, 3 * side**2):
        return f"gives wrong numbers: {found.ravel()[0]:.6g}, not {3 * side**2}"
    assert session.get_providers()[0] == PROVIDERS[device.kind]
    return None


def _small_model(side: int) -> bytes:
    """1x1 convolution that sums the channels, then the sum of all pixels as a product."""
    from onnx import TensorProto, helper, numpy_helper

    stored = [
        numpy_helper.from_array(np.ones((1, 3, 1, 1), np.float32), "kernel"),
        numpy_helper.from_array(np.ones((side * side, 1), np.float32), "ones"),
    ]
    nodes = [
        helper.make_node("Conv", ["image", "kernel"], ["plane"]),
        helper.make_node("Flatten", ["plane"], ["row"]),
        helper.make_node("MatMul", ["row", "ones"], ["sum"]),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, side, side])
    total = helper.make_tensor_value_info("sum", TensorProto.FLOAT, [1, 1])
    graph = helper.make_graph(nodes, "small", [image], [total], stored)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


def _software() -> list[Finding]:
    version = _version("pfg") or "not installed as a package"
    return [
        Finding(what="pfg", found=version),
        Finding(
            what="Python", found=f"{platform.python_version()} ({sys.executable}), {platform.platform()}"
        ),
    ]


def _decoders() -> list[Finding]:
    """Which image formats can be read, and what reads JPEG."""
    from PIL import features

    jpeg = [f"simplejpeg {_version('simplejpeg')}", f"Pillow {_version('pillow')}"]
    turbo = features.version_feature("libjpeg_turbo")
    turbo_text = f"with libjpeg-turbo {turbo}" if turbo else "with a libjpeg that is not turbo"
    findings = [Finding(what="JPEG", found=f"{', '.join(jpeg)} {turbo_text}")]
    for name, feature in (("WebP", "webp"), ("AVIF", "avif")):
        there = features.check_module(feature)
        todo = "" if there else "pip install --force-reinstall pillow"
        findings.append(
            Finding(what=name, found="Pillow" if there else "not readable", todo=todo, bad=not there)
        )
    for name, package in _OPTIONAL.items():
        version = _version(package)
        found = f"{package} {version}" if version else f"not readable; for such files pip install {package}"
        findings.append(Finding(what=name, found=found))
    return findings


def _resources() -> list[Finding]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    findings = [Finding(what="CPU", found=f"{cores} core{'s' if cores != 1 else ''} for this process")]
    if (free := _free_memory()) is not None:
        low = free < 2 * 2**30  # a ViT-B at 448 px, its batch of 8 and the decoders take about that
        todo = "close other programs, or use a smaller --batch-size" if low else ""
        findings.append(Finding(what="memory", found=f"{free / 2**30:.1f} GiB free", todo=todo, bad=low))
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    few = hard != resource.RLIM_INFINITY and hard < _FILES
    limit = "no limit" if hard == resource.RLIM_INFINITY else f"{hard:,} at most"
    todo = f"ulimit -Hn {_FILES}, for large stores" if few else ""
    findings.append(Finding(what="open files", found=limit, todo=todo, bad=few))
    return findings


def _free_memory() -> int | None:
    """Bytes that programs may still take; None where the kernel does not say."""
    file = Path("/proc/meminfo")
    if not file.exists():
        return None
    for line in file.read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
