"""Which GPUs a name means, and the reason in one line where one cannot be used."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from pfgdata.errors import ConfigError, ModelError
from pfgdata.inference.devices import Device, devices_of, unused_gpu
from pfgdata.inference.machine import CPU, CUDA, TENSORRT, Gpu, Machine, look, wanted_libraries, why_not

ROOT = Path(__file__).parents[3]

GPUS = tuple(Gpu(index=n, name="H100", memory=80 << 30, capability="9.0") for n in range(3))
SOUND = Machine(
    packages={"onnxruntime-gpu": "1.31.1"},
    providers=(TENSORRT, CUDA, CPU),
    cuda_build="13.0",
    card=True,
    driver="580.65.06",
    driver_cuda=(13, 0),
    gpus=GPUS,
)
CPU_BUILD = replace(SOUND, packages={"onnxruntime": "1.32.0"}, providers=(CPU,), cuda_build="")
NO_GPU = Machine(packages={"onnxruntime": "1.32.0"}, providers=(CPU,), driver_problem="no libcuda")


@pytest.mark.parametrize(
    ("device", "expected"),
    [
        ("auto", ["cuda:0", "cuda:1", "cuda:2"]),
        ("cuda", ["cuda:0", "cuda:1", "cuda:2"]),
        ("cuda:1", ["cuda:1"]),
        ("cuda:2,0,2", ["cuda:2", "cuda:0"]),
        ("tensorrt:0", ["tensorrt:0"]),
        ("cpu", ["cpu"]),
    ],
)
def test_a_name_means_these_places(device: str, expected: list[str]) -> None:
    assert [str(device) for device in devices_of(device, SOUND)] == expected


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:a", "cpu:0", "auto:1", "cuda:0,", ""])
def test_another_name_is_answered_with_the_known_ones(device: str) -> None:
    with pytest.raises(ConfigError, match="it is auto, cpu, cuda, cuda:1"):
        devices_of(device, SOUND)


def test_a_gpu_that_is_not_there_is_answered_with_those_that_are() -> None:
    with pytest.raises(ModelError, match=r"no GPU 3, 7 here; the driver shows 0 \(H100\), 1"):
        devices_of("cuda:7,1,3", SOUND)


BROKEN = {
    "a build for the CPU": (
        CPU_BUILD,
        r"onnxruntime 1\.32\.0 is a build without CUDA; pip uninstall -y onnxruntime && pip install"
        r" 'onnxruntime-gpu\[cuda,cudnn\]'",
    ),
    "no driver": (
        replace(SOUND, gpus=(), driver_problem="libcuda.so.1 cannot be loaded"),
        r"no NVIDIA driver that works: libcuda\.so\.1 cannot be loaded; install or update",
    ),
    "every GPU hidden": (replace(SOUND, gpus=()), "check CUDA_VISIBLE_DEVICES"),
    "an old driver": (
        replace(SOUND, driver="535.1", driver_cuda=(12, 2)),
        r"driver 535\.1 runs CUDA 12\.2 at most, onnxruntime-gpu was built for CUDA 13\.0; update the driver",
    ),
    "no cuDNN": (
        replace(SOUND, missing={"libcudnn.so.9": "cannot open shared object file"}),
        r"cannot load libcudnn\.so\.9 \(onnxruntime-gpu was built for CUDA 13\.0\); pip install",
    ),
    "half removed": (
        replace(SOUND, broken="module 'onnxruntime' has no attribute"),
        "onnxruntime cannot be imported .*; pip uninstall -y onnxruntime-gpu && pip install",
    ),
    "not installed": (Machine(broken="No module named"), "onnxruntime is not installed; pip install"),
}


@pytest.mark.parametrize(("machine", "reason"), BROKEN.values(), ids=BROKEN.keys())
def test_cuda_asked_for_never_becomes_the_cpu_in_silence(machine: Machine, reason: str) -> None:
    with pytest.raises(ModelError, match=f"no CUDA for onnxruntime here: .*{reason}") as raised:
        devices_of("cuda", machine)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("machine", [CPU_BUILD, NO_GPU, replace(SOUND, missing={"libcudnn.so.9": "no"})])
def test_auto_takes_the_cpu_where_cuda_does_not_work(machine: Machine) -> None:
    assert devices_of("auto", machine) == [Device("cpu")]


def test_a_gpu_left_unused_is_spoken_of_and_one_that_is_not_there_is_not() -> None:
    assert unused_gpu(SOUND) is None
    assert unused_gpu(NO_GPU) is None
    assert "is a build without CUDA" in (unused_gpu(CPU_BUILD) or "")


def test_tensorrt_needs_its_own_libraries() -> None:
    machine = replace(SOUND, missing_tensorrt={"libnvinfer.so.10": "not found"})
    assert why_not(machine, "cuda") is None
    with pytest.raises(
        ModelError, match=r"no TensorRT .* cannot load libnvinfer.so.10; pip install 'tensorrt-cu13"
    ):
        devices_of("tensorrt", machine)


def test_this_machine_can_tag_on_its_cpu() -> None:
    machine = look()
    assert machine.packages
    assert CPU in machine.providers
    assert why_not(machine, "cpu") is None


def test_a_build_that_does_not_say_its_cuda_is_left_to_say_itself_what_it_lacks() -> None:
    assert wanted_libraries("") == ()
    assert why_not(replace(SOUND, cuda_build=""), "cuda") is None


def test_a_build_of_onnxruntime_under_another_name_is_no_missing_one(tmp_path: Path) -> None:
    """As ort-nightly or onnxruntime-rocm: the module is there, and no package of the known names."""
    for path in map(Path, sys.path):
        for entry in path.glob("*") if path.name == "site-packages" else ():
            if not entry.name.startswith("onnxruntime-"):
                (tmp_path / entry.name).symlink_to(entry)
    script = "from pfgdata.inference import look, why_not; m = look(); print(m.packages, why_not(m, 'cpu'))"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(tmp_path)])}
    done = subprocess.run(
        [sys.executable, "-S", "-c", script], env=environment, capture_output=True, text=True, check=True
    )
    assert re.fullmatch(r"\{'onnxruntime': '[\d.]+'\} None\n", done.stdout)
