"""A path that a user wrote means one thing, whichever option, file or library it goes through."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_type_hints

import pytest
import typer
from typer.testing import CliRunner

import pfgdata.cli
import pfgtrain.cli
import pipelines.cli
from pfgdata.corpus import plan_segments
from pfgdata.errors import ConfigError, StoreError
from pfgdata.hub import resolve
from pfgdata.paths import in_the_way, plain_path, user_folder, user_path, user_store
from pfgdata.query import Thresholds, count
from pfgdata.screen import run_app
from pfgdata.store import Store, verify
from pfgdata.urls import UrlPath
from pfgtrain.config import FitConfig
from tests.conftest import make_images, new_store

CALLBACKS = {
    f"{app.info.name or 'pipelines'} {command.callback.__name__}": command.callback
    for app in (pfgdata.cli.app, pfgtrain.cli.app, pipelines.cli.app)
    for command in app.registered_commands
    if command.callback
}


@pytest.fixture
def stand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder where the user stands, whose home is `home` beside it."""
    (tmp_path / "home").mkdir()
    (tmp_path / "stand").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "stand")
    return tmp_path / "stand"


@dataclass(frozen=True)
class Said:
    """How a command ended, and what it said."""

    returncode: int
    stdout: str
    stderr: str


Says = Callable[..., Said]


@pytest.fixture
def pfgdata_says(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Says:
    """Run pfgdata here, with these arguments and variables of the environment."""

    def run_it(*arguments: str, **environment: str) -> Said:
        capsys.readouterr()
        with monkeypatch.context() as here, pytest.raises(SystemExit) as ended:
            for name, value in environment.items():
                here.setenv(name, value)
            run_app(pfgdata.cli.app, args=arguments, name="pfgdata")
        assert isinstance(ended.value.code, int)
        return Said(ended.value.code, *capsys.readouterr())

    return run_it


def process_says(*arguments: str) -> Said:
    """Run pfgdata as a shell does."""
    run = subprocess.run(
        [sys.executable, "-m", "pfgdata", *arguments],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
    )
    return Said(run.returncode, run.stdout, run.stderr)


def test_a_tilde_is_a_home_unless_something_is_named_so(stand: Path) -> None:
    home = stand.parent / "home"
    assert [user_path(text) for text in ("~", "~/x", "~root")] == [home, home / "x", Path("/root")]
    assert [user_path(text) for text in ("feats", "a/~/x", "/~/x")] == [
        Path("feats"),
        Path("a/~/x"),
        Path("/~/x"),
    ]
    assert user_path("~nobody-here/x") == stand / "~nobody-here" / "x"
    assert user_path("./~/x") == stand / "~" / "x"
    (stand / "~").mkdir()
    assert (user_path("~"), user_path("~/x")) == (stand / "~", home / "x")
    (stand / "~" / "x").symlink_to("nowhere")
    assert user_path("~/x") == stand / "~" / "x"
    assert user_path("~/x", start=home) == home / "x"
    assert plain_path(Path("~x")) == stand / "~x"


@pytest.mark.parametrize("callback", CALLBACKS.values(), ids=list(CALLBACKS))
def test_every_path_of_a_command_goes_through_the_one_reading(callback: Callable[..., Any]) -> None:
    for name, hint in get_type_hints(callback, include_extras=True).items():
        if "Path" in str(hint):
            (told,) = (one for one in hint.__metadata__ if hasattr(one, "parser"))
            assert told.parser in (user_path, user_folder, user_store), (
                f"{name}: a path option needs parser=user_path"
            )


def test_a_store_below_a_tilde_is_one_store_for_all_commands(stand: Path, pfgdata_says: Says) -> None:
    make_images(stand / "images", 3)
    for says, there, name in (
        (process_says, stand.parent / "home", "~/feats"),
        (pfgdata_says, stand / "~", "./~/feats"),
    ):
        made = says("ingest", "images", f"--store={name}", "--tagger", "demo", "--min-side", "1")
        assert made.returncode == 0, made.stderr
        assert Store.open(there / "feats").snapshot().num_images == 3
        assert pfgdata_says("query", "true", "--count", PFG_STORE=name).stdout == "3\n"
        for command in (["verify"], ["compact"], ["gc"], ["prune", "--dry-run"]):
            run = pfgdata_says(command[0], name, *command[1:])
            assert run.returncode == 0, run.stderr
    assert pfgdata_says("query", "true", "--store=~/feats", "--parquet=~/x.parquet").returncode == 0
    assert (stand.parent / "home" / "x.parquet").is_file()
    moved = pfgdata_says("prune", "~/feats", "--root=~/images")
    assert f"{stand.parent / 'home' / 'images'} is no corpus root" in moved.stderr


def test_a_library_that_is_given_a_tilde_opens_the_folder_of_that_name(stand: Path) -> None:
    for name in ("~/feats", "~feats"):
        store = new_store(Path(name))
        assert store.path == stand / name
        again = Store.open(Path(name))
        assert count(again.snapshot(), None, Thresholds()) == 0
        assert verify(Path(name), deep=True) == []
    assert list((stand.parent / "home").iterdir()) == []


def test_a_list_and_a_model_below_a_folder_named_tilde_are_found(stand: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    (stand / "~").mkdir()
    make_images(stand / "~", 1)
    pq.write_table(pa.table({"path": ["0000.png"]}), stand / "~" / "list.parquet")
    (segment,) = plan_segments([Path("~/list.parquet")], {})
    assert segment.location == stand / "~"
    assert resolve("./~", what="tagger").folder == stand / "~"
    (stand.parent / "home" / "model").mkdir()
    assert resolve("~/model", what="tagger").folder == stand.parent / "home" / "model"


def test_what_is_no_text_is_one_line(stand: Path, pfgdata_says: Says) -> None:
    with pytest.raises(ConfigError, match="NUL"):
        user_path("a\0b")
    with pytest.raises(ConfigError, match=r"base = .* holds a NUL"):
        FitConfig(base="a\0b")
    broken = os.fsdecode(b"feats\xff")
    (stand / broken).mkdir()
    for use in (Store.open, new_store, verify):
        with pytest.raises(StoreError, match="not a UTF-8 path"):
            use(Path(broken))
    for says, arguments in (
        (process_says, ["ingest", ".", "--store", broken]),
        (pfgdata_says, ["query", "true", "--store", broken]),
        (pfgdata_says, ["verify", broken]),
        (pfgdata_says, ["query", "true", "--parquet", broken]),
    ):
        run = says(*arguments)
        assert run.returncode in (1, 2) and len(run.stderr.splitlines()) == 1
        assert "not a UTF-8 path" in run.stderr and r"feats\udcff" in run.stderr


def test_a_folder_that_cannot_be_made_is_refused_with_what_is_in_the_way(
    stand: Path, pfgdata_says: Says
) -> None:
    (stand / "link").symlink_to("/nowhere/disk")
    (stand / "file").touch()
    (stand / "good").symlink_to(stand)
    assert in_the_way(Path("good/new/er")) is in_the_way(Path("new")) is None
    for name in ("link", "link/feats"):
        with pytest.raises(ConfigError, match="link: is a link to /nowhere/disk, which is not there"):
            user_folder(name)
        with pytest.raises(StoreError, match="link: is a link to /nowhere/disk, which is not there"):
            new_store(Path(name))
    with pytest.raises(ConfigError, match="file: is a file; name a folder"):
        user_folder("file/x")
    run = pfgdata_says("ingest", ".", "--store", "link", "--json")
    assert run.returncode == 1 and "is a link to /nowhere/disk" in run.stderr


def test_a_path_that_a_pipe_reads_is_exact(stand: Path) -> None:
    program = (
        "import sys, typer; from pfgdata.screen import *; app = typer.Typer()\n"
        "@app.command()\ndef run(path: str) -> None:\n    print_line(path); print_json({'path': path})\n"
        "run_app(app)"
    )
    run = subprocess.run([sys.executable, "-c", program, b"\xe6\x97\xa5\xff\x1b"], capture_output=True)
    line, text = run.stdout.splitlines()
    assert line == b"\xe6\x97\xa5\xff\x1b"
    assert json.loads(text) == {"path": "日\udcff\x1b"}


def test_the_apps_are_all_looked_at() -> None:
    assert len(CALLBACKS) == 27 and isinstance(pipelines.cli.app, typer.Typer)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("s3://", "is no place"),
        ("gcs://bucket/x", "gcs://bucket/x: pfg reads from"),
        (
            "hf://datasets/a/b",
            "hf://datasets/a/b: no store can lie there; name a folder, or s3://, gs://, az://",
        ),
        ("https://host/x", "no store can lie there"),
        ("s3://key:secret@bucket/x", "s3://bucket/x: leave out"),
        ("s3://bucket/x?X-Amz-Signature=secret", "s3://bucket/x: leave out"),
    ],
)
def test_a_url_that_can_hold_no_store_is_refused_and_makes_no_folder(text: str, told: str) -> None:
    for meant in (user_store, user_folder):
        with pytest.raises(ConfigError) as problem:
            meant(text)
        assert "secret" not in str(problem.value)
        assert meant is user_folder or told in str(problem.value)


@pytest.mark.parametrize("text", ["s3://bucket/x/", "S3://bucket//x", "s3:/bucket/x"])
def test_a_store_in_a_bucket_is_meant_by_its_url(text: str) -> None:
    assert str(user_store(text)) == "s3://bucket/x" and user_store(text) == UrlPath("s3://bucket/x")


def test_a_root_at_a_url_is_named_to_prune_as_it_is_on_record(stand: Path) -> None:
    store = new_store(stand / "far")
    with store.writer() as writer:
        writer.set_roots({"s3://pictures/all": "s3://pictures/all"})
    told = CliRunner().invoke(
        pfgdata.cli.app, ["prune", str(store.path), "--root", "s3://pictures/all/", "--dry-run"]
    )
    assert told.exit_code == 0, told.output
