"""The house stands, and its checker would see each way in which it could not."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.house import check_house

ROOT = Path(__file__).parents[1]

SOUND = {
    "pfgdata/__init__.py": '__all__ = ["Store"]\nfrom pfgdata.store import Store\n',
    "pfgdata/errors.py": "class PfgError(Exception): ...\n",
    "pfgdata/records.py": '__all__ = ["Key"]\nimport numpy\nfrom pfgdata.errors import PfgError\nKey = 1\n',
    "pfgdata/store/__init__.py": '__all__ = ["Store"]\nfrom pfgdata.store.disk import Store\n',
    "pfgdata/store/disk.py": "from pfgdata.records import Key\nStore = Key\n",
    "pfgdata/query/__init__.py": "__all__ = []\n",
    "pfgdata/query/answer.py": "def f():\n    import torch\n    from pfgdata.store import Store\n",
    "pfgdata/cli/__init__.py": "from pfgdata.cli.app import app\nfrom pfgdata import Store\n",
    "pfgdata/cli/app.py": "app = 1\n",
    "pfgdata/__main__.py": "from pfgdata.cli import app\n",
    "pfgtrain/__init__.py": "__all__ = []\n",
    "pfgtrain/config.py": "from pfgdata.store import Store\n",
    "pfgtrain/fit.py": "import torch\nfrom pfgtrain.config import Store\nfrom pfgdata import Store\n",
    "pipelines/__init__.py": "",
    "pipelines/demo.py": "from pfgtrain.fit import torch\nfrom pfgdata.store import Store\n",
}

DOOR, DISK = "pfgdata/store/__init__.py", "pfgdata/store/disk.py"
ANSWER, RECORDS = "pfgdata/query/answer.py", "pfgdata/records.py"

LAZY = """
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    from pfgdata.store.disk import Store
__all__ = ["Store"]
if not TYPE_CHECKING:
    __getattr__ = lazy_imports(__name__)
"""


def test_the_house_stands() -> None:
    problems = check_house(ROOT)
    assert not problems, "\n".join(problems)


def test_a_sound_house_has_no_problems(tmp_path: Path) -> None:
    assert check_house(build(tmp_path, {})) == []
    assert check_house(build(tmp_path, {"pfgdata/store/__init__.py": LAZY})) == []


def test_a_function_may_have_60_lines_and_six_parameters_beside_self(tmp_path: Path) -> None:
    text = "class Key:\n    def f(self, a, b, c, d, *e, **f):\n" + "        a = 1\n" * 59
    assert check_house(build(tmp_path, {RECORDS: text})) == []


def test_a_command_may_have_as_many_parameters_as_it_has_flags(tmp_path: Path) -> None:
    text = "def app(a, b, c, d, e, f, g): ...\n"
    assert check_house(build(tmp_path, {"pfgdata/cli/app.py": text})) == []


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({RECORDS: "from pfgdata.store import Store\n"}, "upward"),
        ({RECORDS: "def f():\n    from pfgdata.store import Store\n"}, "upward"),
        (
            {
                RECORDS: "from typing import TYPE_CHECKING\n"
                "if TYPE_CHECKING:\n    from pfgdata.store import Store\n"
            },
            "upward",
        ),
        ({DISK: "from pfgdata import Store\n"}, "upward"),
        (
            {"pfgdata/captions.py": "import pfgdata.ingest\n", "pfgdata/ingest/__init__.py": "__all__ = []"},
            "sideways",
        ),
        ({"pfgtrain/config.py": "import pfgtrain.fit\n"}, "upward"),
        ({ANSWER: "from pfgdata.store.disk import Store\n"}, "past the door"),
        ({ANSWER: "from pfgdata.store import disk\n"}, "past the door"),
        ({ANSWER: "from ..store.disk import Store\n"}, "past the door"),
        ({ANSWER: "from ..store import disk\n"}, "past the door"),
        ({ANSWER: "from pfgdata.store import hidden\n"}, "not at the door"),
        ({ANSWER: "from pfgdata.stor import Store\n"}, "not there"),
        ({"pfgtrain/fit.py": "from pfgdata.store.disk import Store\n"}, "past the door"),
        ({"pipelines/demo.py": "import pfgdata.store.disk\n"}, "past the door"),
        ({"pfgtrain/fit.py": "from pfgdata.cli import app\n"}, "nobody imports a cli"),
        ({"pipelines/demo.py": "from pfgdata.cli import app\n"}, "nobody imports a cli"),
        ({"pfgdata/cli/app.py": "def f():\n    import pfgtrain.fit\n"}, "pfgdata imports pfgtrain.fit"),
        ({"pfgtrain/fit.py": "import pipelines.demo\n"}, "pfgtrain imports pipelines.demo"),
        ({"pfgdata/helpers.py": ""}, "no place"),
        ({"pfgdata/helpers/__init__.py": "__all__ = []"}, "no place"),
        ({"pfgtrain/util.py": ""}, "no place"),
        (
            {
                DISK: "import pfgdata.store.lock\n",
                "pfgdata/store/lock.py": "from pfgdata.store import disk\n",
            },
            "circle",
        ),
        ({DISK: "Store = 1\ndef f():\n    from pfgdata.store import Store\n"}, "circle"),
        (
            {
                "pipelines/demo.py": "import pipelines.runner\n",
                "pipelines/runner.py": "import pipelines.demo\n",
            },
            "circle",
        ),
        ({DISK: "import torch.nn\nStore = 1\n"}, "at the top"),
        ({DISK: "try:\n    from onnxruntime import X\nexcept ImportError: ...\nStore = 1\n"}, "at the top"),
        ({DISK: "class Store:\n    import ray\n"}, "at the top"),
        ({RECORDS: "Key = 1\n" * 351}, "351 lines"),
        ({RECORDS: "Key = 1\ndef f():\n" + "    a = 1\n" * 60}, "f: 61 lines"),
        ({RECORDS: "Key = 1\nasync def f():\n" + "    a = 1\n" * 60}, "f: 61 lines"),
        ({RECORDS: "class Key:\n    def f(self, a, b, c, d, e, f, g): ...\n"}, "Key.f: 7 parameters"),
        ({RECORDS: "Key = 1\ndef f(a, /, b, c, *d, e, f, **g): ...\n"}, "f: 7 parameters"),
        ({"pipelines/demo.py": "def f():\n    def g(a, b, c, d, e, f, g): ...\n"}, "f.g: 7 parameters"),
        ({DOOR: "from pfgdata.store.disk import Store\n"}, "without __all__"),
        ({DOOR: '__all__ = ["Store", "Gone"]\nfrom pfgdata.store.disk import Store\n'}, "names Gone"),
        ({DOOR: LAZY.replace('__all__ = ["Store"]', "__all__ = []")}, "imports Store, __all__ lacks it"),
        ({DOOR: LAZY.replace("__getattr__", "get")}, "is not there at run time"),
        ({DOOR: LAZY.replace("store.disk", "stor.disk")}, "not there"),
        ({DOOR: LAZY.replace("Store", "disk")}, "hidden by the file"),
    ],
)
def test_the_checker_sees(tmp_path: Path, changes: dict[str, str], expected: str) -> None:
    problems = check_house(build(tmp_path, changes))
    assert any(expected in problem for problem in problems), problems


def test_every_name_of_a_door_can_be_imported_and_no_other() -> None:
    for package in ("pfgdata", "pfgtrain"):
        for door in sorted((ROOT / package).rglob("__init__.py")):
            module = importlib.import_module(".".join(door.parent.relative_to(ROOT).parts))
            for name in module.__all__:
                assert getattr(module, name) is not None, f"{module.__name__}.{name}"
            with pytest.raises(AttributeError, match=f"'{module.__name__}' has no attribute 'nothing'"):
                _ = module.nothing


def build(root: Path, changes: Mapping[str, str]) -> Path:
    """A small sound house in `root`, with `changes` to it."""
    for name, text in {**SOUND, **changes}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root
