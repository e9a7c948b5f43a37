"""The doctor names what hinders a GPU and the line that mends it, and is quiet where nothing is wrong."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from pfgdata.cli import app
from pfgdata.inference.machine import CPU, CUDA, TENSORRT, Gpu, Machine
from pfgdata.screen import run_app
from pfgdata.taggers import Finding, diagnose
from pfgdata.taggers.doctor import findings_of

SOUND = Machine(
    packages={"onnxruntime-gpu": "1.31.1"},
    providers=(TENSORRT, CUDA, CPU),
    cuda_build="13.0",
    card=True,
    driver="580.65.06",
    driver_cuda=(13, 0),
    gpus=(Gpu(index=0, name="NVIDIA H100 80GB HBM3", memory=80 << 30, capability="9.0"),),
)


def problems(machine: Machine, tried: dict[str, str | None] | None = None) -> dict[str, Finding]:
    return {one.what: one for one in findings_of(machine, tried or {}) if one.bad}


def test_a_sound_gpu_has_no_problem() -> None:
    assert not problems(SOUND, {"cpu": None, "cuda:0": None})
    found = {one.what: one.found for one in findings_of(SOUND, {"cuda:0": None})}
    assert found["GPU 0"] == "NVIDIA H100 80GB HBM3, 80 GiB, compute capability 9.0"
    assert found["NVIDIA driver"] == "580.65.06, runs CUDA up to 13.0"
    assert found["cuda:0"] == "runs a small model"


def test_a_machine_without_gpu_has_no_problem_with_cuda() -> None:
    machine = Machine(packages={"onnxruntime": "1.32.0"}, providers=(CPU,), driver_problem="no libcuda")
    assert not problems(machine, {"cpu": None})


BROKEN: dict[str, tuple[Machine, str, str, str]] = {
    "the CPU build beside a GPU": (
        replace(SOUND, packages={"onnxruntime": "1.32.0"}, providers=(CPU,), cuda_build=""),
        "CUDA",
        "not usable: onnxruntime 1.32.0 is a build without CUDA",
        "pip uninstall -y onnxruntime && pip install 'onnxruntime-gpu[cuda,cudnn]'",
    ),
    "both builds over each other": (
        replace(SOUND, packages={"onnxruntime": "1.32.0", "onnxruntime-gpu": "1.31.1"}),
        "onnxruntime",
        "they write over each other's files",
        "pip uninstall -y onnxruntime onnxruntime-gpu && pip install 'onnxruntime-gpu[cuda,cudnn]'",
    ),
    "no cuDNN": (
        replace(SOUND, missing={"libcudnn.so.9": "cannot open shared object file"}),
        "CUDA",
        "cannot load libcudnn.so.9 (onnxruntime-gpu was built for CUDA 13.0)",
        "pip install 'onnxruntime-gpu[cuda,cudnn]'",
    ),
    "no onnxruntime": (
        replace(SOUND, packages={}, providers=(), broken="No module named 'onnxruntime'"),
        "CPU",
        "not usable: onnxruntime is not installed",
        "pip install onnxruntime",
    ),
    "no driver": (
        replace(SOUND, gpus=(), driver=None, driver_problem="libcuda.so.1 cannot be loaded"),
        "CUDA",
        "no NVIDIA driver that works: libcuda.so.1 cannot be loaded",
        "install or update the NVIDIA driver",
    ),
}


@pytest.mark.parametrize(("machine", "what", "found", "todo"), BROKEN.values(), ids=BROKEN.keys())
def test_what_is_broken_is_named_with_what_to_do(machine: Machine, what: str, found: str, todo: str) -> None:
    finding = problems(machine)[what]
    assert all(one.todo for one in problems(machine).values())
    assert found in finding.found
    assert todo in finding.todo


def test_a_session_that_fails_is_a_problem_though_all_was_there() -> None:
    finding = problems(SOUND, {"cpu": None, "cuda:0": "fails: no kernel image is available"})["cuda:0"]
    assert "no kernel image" in finding.found


def test_tensorrt_is_optional() -> None:
    machine = replace(SOUND, missing_tensorrt={"libnvinfer.so.10": "not found"})
    assert not problems(machine)
    (finding,) = [one for one in findings_of(machine, {}) if one.what == "TensorRT"]
    assert finding.todo == "pip install 'tensorrt-cu13<11'"


def test_every_problem_of_this_machine_carries_what_to_do() -> None:
    report = diagnose()
    assert report.can_tag
    assert "cpu" in report.usable
    assert all(one.todo for one in report.findings if one.bad)


def test_the_command_prints_facts_for_people_and_json_for_programs(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as leaving:
        run_app(app, args=["doctor", "--json"], name="pfgdata")
    assert leaving.value.code == 0
    printed = capsys.readouterr()
    report = json.loads(printed.out)
    assert report["can_tag"]
    assert "cpu" in report["usable"]
    assert all(one["what"] in printed.err for one in report["findings"])
