"""Both commands explain themselves: help with an example for each, and a reference that is up to date."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import Any

import pytest

import docs.config
from docs.cli import TARGET, apps, commands, render
from docs.config import render_config
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


@pytest.mark.parametrize("command", ["pfgdata", "pfgdata query", "pfgtrain", "pfgtrain generate"])
def test_help_imports_nothing_heavy(command: str) -> None:
    package, *words = command.split()
    program = (
        f"import sys; from {package}.cli import app; app({[*words, '--help']}, standalone_mode=False);"
        "heavy = {'torch', 'numpy', 'pydantic', 'duckdb', 'pyarrow', 'onnxruntime', 'onnx', 'PIL', 'cv2',"
        " 'h5py', 'transformers', 'diffusers', 'huggingface_hub'} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", program], check=True, stdout=subprocess.DEVNULL)


def test_asking_a_store_imports_no_model_and_no_writer() -> None:
    program = (
        "import sys; from pfgdata.query import Session; from pfgdata.store import Store;"
        "heavy = {'torch', 'onnxruntime', 'onnx', 'PIL', 'cv2', 'h5py'} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_every_key_of_a_fit_is_explained() -> None:
    assert docs.config.TARGET.read_text() == render_config(), "run: python -m docs.config"
