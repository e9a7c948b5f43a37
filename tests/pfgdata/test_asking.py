"""The walk in docs/asking.md, run as it stands there: each command prints what the page shows."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer

import pfgdata.cli
import pfgtrain.cli
from pfgdata.screen import run_app

ROOT = Path(__file__).parents[2]
TRAINING = "## Training on it"
APPS: dict[str, typer.Typer] = {"pfgdata": pfgdata.cli.app, "pfgtrain": pfgtrain.cli.app}

Captured = pytest.CaptureFixture[str]


def commands(page: str) -> list[tuple[str, list[str]]]:
    """Each command of the page's console blocks, and the lines shown below it."""
    found: list[tuple[str, list[str]]] = []
    for block in re.findall(r"```console\n(.*?)```", page, re.DOTALL):
        for line in block.splitlines():
            if line.startswith("$ "):
                found.append((line[2:], []))
            else:
                found[-1][1].append(line)
    return found


def told(text: str) -> list[str]:
    """The lines of a text without progress, whose times differ, and without moments."""
    lines = (re.sub(r"\d{4}-\d\d-\d\dT\S+", "TIME", " ".join(line.split())) for line in text.splitlines())
    return [line for line in lines if not re.match(r"\w+: [\d,]+/", line)]


def walk(page: str, capfd: Captured) -> None:
    for command, shown in commands(page):
        name, *arguments = shlex.split(command)
        capfd.readouterr()
        with pytest.raises(SystemExit) as caught:
            run_app(APPS[name], args=arguments, name=name)
        said = capfd.readouterr()
        assert caught.value.code == 0, said.err
        if shown:
            found = told(said.out) if name == "pfgtrain" else told(said.out + said.err)
            assert found == told("\n".join(shown)), command


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which the page's paths open."""
    (tmp_path / "pipelines").symlink_to(ROOT / "pipelines")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PFG_STORE", raising=False)
    return tmp_path


PAGE = (ROOT / "docs" / "asking.md").read_text()


def test_the_walk_prints_what_the_page_shows(here: Path, capfd: Captured) -> None:
    asking = PAGE[: PAGE.index(TRAINING)]
    assert len(commands(asking)) >= 10
    walk(asking, capfd)


@pytest.mark.slow
def test_the_walk_ends_in_a_fit(here: Path, capfd: Captured) -> None:
    walk(PAGE, capfd)
    assert (here / "run" / "run.json").is_file()
