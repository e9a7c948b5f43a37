"""What a machine offers a model: onnxruntime's build, the NVIDIA driver, its GPUs, CUDA's libraries.

Facts are gathered once into a `Machine`; what follows from them is decided by plain functions, so that every
broken installation can be tested as a value. onnxruntime itself says little: where one library is missing it
prints a line to the log and goes on with the CPU.
"""

from __future__ import annotations

import contextlib
import ctypes
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path

__all__ = [
    "CPU",
    "CUDA",
    "GPU_PACKAGES",
    "NAMES",
    "PROVIDERS",
    "TENSORRT",
    "Gpu",
    "Machine",
    "look",
    "wanted_libraries",
    "why_not",
]

CPU, CUDA, TENSORRT = "CPUExecutionProvider", "CUDAExecutionProvider", "TensorrtExecutionProvider"
NAMES = {"cpu": "CPU", "cuda": "CUDA", "tensorrt": "TensorRT"}
PROVIDERS = {"cpu": CPU, "cuda": CUDA, "tensorrt": TENSORRT}
GPU_PACKAGES = "pip install 'onnxruntime-gpu[cuda,cudnn]'"  # the extras bring NVIDIA's libraries as wheels
_BUILDS = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-directml", "onnxruntime-openvino")
_NVIDIA = "0x10de"  # PCI vendor
_MAJOR, _MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_*, cuda.h
_OK = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """One GPU that the driver shows to this process (CUDA_VISIBLE_DEVICES counts)."""

    index: int
    name: str
    memory: int  # bytes
    capability: str  # 9.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """The facts. A library that cannot be loaded stands in `missing` with the loader's own words."""

    packages: Mapping[str, str] = field(default_factory=dict)  # builds of onnxruntime installed, with version
    broken: str | None = None  # why onnxruntime cannot be imported
    providers: tuple[str, ...] = ()  # that its build knows, usable or not
    cuda_build: str = ""  # the CUDA it was built with, 13.0; empty for a CPU build
    card: bool = False  # an NVIDIA card is in the machine
    driver: str | None = None  # 580.65.06
    driver_cuda: tuple[int, int] | None = None  # newest CUDA the driver runs
    driver_problem: str | None = None
    gpus: tuple[Gpu, ...] = ()
    missing: Mapping[str, str] = field(default_factory=dict)  # of what CUDA sessions need
    missing_tensorrt: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Hindrance:
    """Why something cannot be used, and what to do."""

    what: str
    todo: str

    def __str__(self) -> str:
        return f"{self.what}; {self.todo}"


def look() -> Machine:
    """The facts of this machine. Loads CUDA's libraries where onnxruntime can use them and there is a GPU."""
    machine = _Driver().seen(Machine(packages=_versions(_BUILDS), card=_has_card()))
    try:
        import onnxruntime as ort

        providers, build = tuple(ort.get_available_providers()), str(getattr(ort, "cuda_version", "") or "")
        preload = ort.preload_dlls
    # AttributeError: half of a package was removed, or it is older than 1.21
    except (ImportError, AttributeError, OSError) as problem:
        return replace(machine, broken=" ".join(str(problem).split()) or type(problem).__name__)
    packages = machine.packages or {ort.package_name: ort.__version__}  # a build under a name of its own
    machine = replace(machine, packages=packages, providers=providers, cuda_build=build)
    if CUDA not in providers or not machine.gpus:
        return machine
    with contextlib.redirect_stdout(io.StringIO()):  # it prints what it does not find
        preload()
    tensorrt = _unloadable(("libnvinfer.so.10", "libnvonnxparser.so.10")) if TENSORRT in providers else {}
    return replace(machine, missing=_unloadable(wanted_libraries(build)), missing_tensorrt=tensorrt)


def why_not(machine: Machine, kind: str) -> Hindrance | None:
    """Why a session of `kind` (cpu, cuda, tensorrt) cannot run here; None if it should."""
    if machine.broken or not machine.packages:
        return _no_onnxruntime(machine)
    if kind == "cpu":
        return None
    if PROVIDERS[kind] not in machine.providers:
        installed = " and ".join(f"{name} {version}" for name, version in machine.packages.items())
        remove = "pip uninstall -y " + " ".join(machine.packages)
        return Hindrance(f"{installed} is a build without {NAMES[kind]}", f"{remove} && {GPU_PACKAGES}")
    return _no_gpu(machine) or _no_library(machine, kind)


def _no_onnxruntime(machine: Machine) -> Hindrance:
    if not machine.packages:
        advice = f"pip install onnxruntime, or for an NVIDIA GPU {GPU_PACKAGES}"
        return Hindrance("onnxruntime is not installed", advice)
    names = " ".join(machine.packages)
    better = GPU_PACKAGES if any("gpu" in name for name in machine.packages) else "pip install onnxruntime"
    return Hindrance(
        f"onnxruntime cannot be imported ({machine.broken})", f"pip uninstall -y {names} && {better}"
    )


def _no_gpu(machine: Machine) -> Hindrance | None:
    if machine.driver_problem:
        return Hindrance(
            f"no NVIDIA driver that works: {machine.driver_problem}",
            "install or update the NVIDIA driver (in a container: start it with --gpus all)",
        )
    if not machine.gpus:
        return Hindrance(
            "the NVIDIA driver shows no GPU to this process", "check CUDA_VISIBLE_DEVICES and nvidia-smi"
        )
    major = _major(machine.cuda_build)
    if machine.driver_cuda and machine.driver_cuda[0] < major:
        runs = ".".join(map(str, machine.driver_cuda))
        return Hindrance(
            f"the NVIDIA driver {machine.driver or ''} runs CUDA {runs} at most, onnxruntime-gpu was built"
            f" for CUDA {machine.cuda_build}",
            f"update the driver, or install an onnxruntime-gpu built for CUDA {machine.driver_cuda[0]}",
        )
    return None


def _no_library(machine: Machine, kind: str) -> Hindrance | None:
    if machine.missing:
        built = f"onnxruntime-gpu was built for CUDA {machine.cuda_build}"
        return Hindrance(f"cannot load {', '.join(machine.missing)} ({built})", GPU_PACKAGES)
    if kind == "tensorrt" and machine.missing_tensorrt:
        package = f"tensorrt-cu{_major(machine.cuda_build)}<11"  # the sonames end in .10
        return Hindrance(f"cannot load {', '.join(machine.missing_tensorrt)}", f"pip install '{package}'")
    return None


def wanted_libraries(build: str) -> tuple[str, ...]:
    """What a CUDA session loads: as linked into the provider library of onnxruntime-gpu 1.31 (readelf).

    cuDNN is not linked but loaded at the first convolution, which every tagger has. Nothing is known of a
    build that does not say its CUDA (conda's, one's own): its session will tell.
    """
    major = _major(build)
    if not major:
        return ()
    linked = (f"libcudart.so.{major}", f"libcublasLt.so.{major}", f"libcublas.so.{major}", "libcurand.so.10")
    return (*linked, "libcudnn.so.9")


def _unloadable(names: Sequence[str]) -> dict[str, str]:
    """Those of `names` that the loader does not find, with its words."""
    missing = {}
    for name in names:
        try:
            ctypes.CDLL(name)
        except OSError as problem:
            missing[name] = str(problem)
    return missing


def _major(version: str) -> int:
    first = version.partition(".")[0]
    return int(first) if first.isdigit() else 0


def _versions(names: Sequence[str]) -> dict[str, str]:
    found = {}
    for name in names:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def _has_card() -> bool:
    """Whether the PCI bus or the driver's own files show an NVIDIA display or compute device."""
    if Path("/proc/driver/nvidia/version").exists() or Path("/dev/nvidiactl").exists():
        return True
    for device in Path("/sys/bus/pci/devices").glob("*"):
        with contextlib.suppress(OSError):
            kind = (device / "class").read_text()  # 0x03....: display controllers, 3D ones included
            if (device / "vendor").read_text().strip() == _NVIDIA and kind.startswith("0x03"):
                return True
    return False


class _Driver:
    """The CUDA driver's library, asked directly: no context is made and no memory of a GPU is taken."""

    def __init__(self) -> None:
        self.problem: str | None = None
        try:
            self._cuda: ctypes.CDLL | None = ctypes.CDLL("libcuda.so.1")
        except OSError:
            self._cuda = None
            self.problem = "libcuda.so.1 cannot be loaded"
            return
        if code := self._cuda.cuInit(0):
            text = ctypes.c_char_p()
            self._cuda.cuGetErrorString(code, ctypes.byref(text))
            self.problem = f"cuInit says {(text.value or b'').decode() or 'error'} ({code})"

    def seen(self, machine: Machine) -> Machine:
        """`machine` with what the driver says."""
        if self._cuda is None or self.problem:
            return replace(machine, driver_problem=self.problem, driver=_driver_version())
        version = self._number("cuDriverGetVersion")
        return replace(
            machine,
            driver=_driver_version(),
            driver_cuda=(version // 1000, version % 1000 // 10),
            gpus=tuple(self._gpu(index) for index in range(self._number("cuDeviceGetCount"))),
        )

    def _number(self, function: str, *arguments: int) -> int:
        value = ctypes.c_int()
        getattr(self._cuda, function)(ctypes.byref(value), *arguments)
        return value.value

    def _gpu(self, index: int) -> Gpu:
        assert self._cuda is not None
        device = self._number("cuDeviceGet", index)
        name, memory = ctypes.create_string_buffer(256), ctypes.c_size_t()
        self._cuda.cuDeviceGetName(name, len(name), device)
        self._cuda.cuDeviceTotalMem_v2(ctypes.byref(memory), device)
        capability = [self._number("cuDeviceGetAttribute", which, device) for which in (_MAJOR, _MINOR)]
        return Gpu(
            index=index,
            name=name.value.decode(errors="replace"),
            memory=memory.value,
            capability=".".join(map(str, capability)),
        )


def _driver_version() -> str | None:
    """The driver's version from NVML; None where there is no NVML or no driver."""
    try:
        nvml = ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return None
    text = ctypes.create_string_buffer(80)  # NVML_SYSTEM_DRIVER_VERSION_BUFFER_SIZE
    if nvml.nvmlInit_v2() != _OK or nvml.nvmlSystemGetDriverVersion(text, len(text)) != _OK:
        return None
    return text.value.decode(errors="replace")
