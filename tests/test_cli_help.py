"""Both commands explain themselves: help with an example for each, and a reference that is up to date."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from typing import Any

import pytest

from docs.cli import TARGET, apps, commands, render
from pfgdata.query import COLUMNS

COMMANDS = [found for name, app in apps().items() for found in commands(name, app)]


@pytest.mark.parametrize(("name", "command"), COMMANDS, ids=[name for name, _ in COMMANDS])
def test_every_command_has_help_with_an_example(name: str, command: Any) -> None:
    assert command.help, f"{name} has no help"
    text = f"{command.help} {command.epilog or ''}"
    example = re.search(rf"Examples?: {name.split()[0]} ", text)
    assert example is not None, f"{name} has no example"
    for parameter in command.params:
        assert parameter.hidden or getattr(parameter, "help", None), f"{name} {parameter.name} has no help"


def test_the_reference_is_up_to_date() -> None:
    assert TARGET.read_text() == render(), "run: python -m docs.cli"


def test_the_help_of_query_names_every_column() -> None:
    (query,) = (command for name, command in COMMANDS if name == "pfgdata query")
    listed = re.search(r"Columns: ([^.]*)\.", query.help)
    assert listed is not None
    assert [name.strip() for name in listed[1].split(",")] == list(COLUMNS)


def test_help_is_fast_and_imports_nothing_heavy() -> None:
    program = (
        "import sys; from pfgdata.cli import app; app(['--help'], standalone_mode=False);"
        "heavy = {'torch', 'numpy', 'duckdb', 'pyarrow', 'onnxruntime', 'onnx', 'PIL', 'cv2', 'h5py',"
        " 'transformers', 'diffusers', 'huggingface_hub'} & set(sys.modules); assert not heavy, heavy"
    )
    best = 60.0
    for _ in range(3):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", program], check=True, stdout=subprocess.DEVNULL)
        best = min(best, time.perf_counter() - start)
        if best < 0.4:
            break
    assert best < 0.4 * _slack(), f"{best:.2f} s"


def _slack() -> float:
    """More time where more runs than the machine has cores: the limit is for a quiet one."""
    return max(1.0, 2 * os.getloadavg()[0] / (os.cpu_count() or 1))
