"""What a person sees: progress, tables, one-line errors, exit codes."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import typer

from pfgdata.errors import QueryError
from pfgdata.records import during
from pfgdata.screen import (
    ScreenProgress,
    duration,
    one_line_error,
    printable,
    run_app,
    show_facts,
    show_table,
)

_NO_MEMORY = "error: out of memory; ask for smaller batches or fewer threads"


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_progress_without_a_terminal_is_a_line_every_ten_seconds_and_one_at_the_end() -> None:
    stream, clock = io.StringIO(), Clock()
    with ScreenProgress(stream=stream, clock=clock) as progress:
        progress.start("tag", total=1000)
        for _ in range(25):
            clock.now += 1.0
            progress.advance(20)
        progress.finish()
    assert stream.getvalue().splitlines() == [
        "tag: 200/1,000 images, 20/s, 10 s, ETA 40 s",
        "tag: 400/1,000 images, 20/s, 20 s, ETA 30 s",
        "tag: 500/1,000 images, 20/s, 25 s",
    ]


def test_progress_shows_figures_and_needs_no_total() -> None:
    stream, clock = io.StringIO(), Clock()
    progress = ScreenProgress(stream=stream, clock=clock, interval=0)
    progress.start("fit", total=None, unit="steps")
    clock.now = 4
    progress.advance(loss=0.123456)
    assert stream.getvalue() == "fit: 1 steps, 0.25/s, 4 s, loss 0.1235\n"


def test_a_task_inside_a_task_ends_first() -> None:
    stream = io.StringIO()
    progress = ScreenProgress(stream=stream, clock=Clock())
    progress.start("outer", total=2)
    progress.start("inner", total=1)
    progress.advance()
    progress.finish()
    progress.advance(2)
    progress.finish()
    assert [line.split(",")[0] for line in stream.getvalue().splitlines()] == [
        "inner: 1/1 images",
        "outer: 2/2 images",
    ]


@pytest.mark.parametrize(("seconds", "left"), [(1.9, []), (2.0, ["load: 1/1 models, 0.5/s, 2 s"])])
def test_a_brief_task_leaves_a_line_only_if_it_took_seconds(seconds: float, left: list[str]) -> None:
    stream, clock = io.StringIO(), Clock()
    progress = ScreenProgress(stream=stream, clock=clock)
    progress.start("load", total=1, unit="models", brief=True)
    clock.now = seconds
    progress.advance()
    progress.finish()
    assert stream.getvalue().splitlines() == left


def test_a_brief_task_is_shown_on_a_terminal_while_it_runs() -> None:
    stream = Terminal()
    with ScreenProgress(stream=stream, clock=Clock()) as progress:
        progress.start("load", total=1, unit="models", brief=True)
        progress.say("a word")
        progress.finish()
    assert "load" in stream.getvalue()
    assert "load: " not in stream.getvalue()


def test_a_task_that_fails_is_ended_and_the_one_around_it_goes_on() -> None:
    stream = io.StringIO()
    progress = ScreenProgress(stream=stream, clock=Clock())
    progress.start("fit", total=2)
    with pytest.raises(QueryError), during(progress, "draw", total=40, unit="steps"):
        raise QueryError("no")
    progress.advance(2)
    progress.finish()
    assert stream.getvalue().splitlines() == ["fit: 2/2 images, 0/s, 0 s"]


def test_progress_on_a_terminal_draws_a_bar_and_leaves_one_line() -> None:
    stream, clock = Terminal(), Clock()
    with ScreenProgress(stream=stream, clock=clock) as progress:
        progress.start("tag", total=4)
        clock.now = 2
        progress.advance(4)
        progress.say("[bold]a name\x1b[2J")
        progress.finish()
    assert "tag: 4/4 images, 2/s, 2 s" in stream.getvalue().splitlines()[-1]
    assert "[bold]a name\\x1b[2J" in stream.getvalue()


def test_an_error_inside_progress_gives_the_terminal_back() -> None:
    stream = Terminal()
    with pytest.raises(QueryError), ScreenProgress(stream=stream) as progress:
        progress.start("tag", total=4)
        raise QueryError("no")
    assert stream.getvalue().count("\x1b[?25h") == stream.getvalue().count("\x1b[?25l")  # the cursor


def test_a_table_in_a_pipe_is_separated_by_tabs_and_keeps_one_line_a_row() -> None:
    stream = io.StringIO()
    show_table(["file", "tags"], [["a\tb\n.png", "x y"], ["é.png", ""]], stream=stream)
    assert stream.getvalue() == "file\ttags\na\\tb\\n.png\tx y\né.png\t\n"


def test_a_table_on_a_terminal_is_drawn_and_takes_no_markup_from_names() -> None:
    stream = Terminal()
    show_table(["file"], [["[red]a\x1b[2J.png"]], stream=stream)
    assert "[red]a\\x1b[2J.png" in stream.getvalue()


def test_names_are_printable() -> None:
    assert printable("日本 é") == "日本 é"
    assert printable("a\x1b[2J\udcff\u202e") == "a\\x1b[2J\\udcff\\u202e"


def test_facts_are_aligned_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    show_facts({"found": 3, "took": "2 s"})
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "found  3\ntook   2 s\n")


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59, "59 s"), (200, "3 min 20 s"), (7500, "2 h 05 min")]
)
def test_durations_are_for_people(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_an_error_is_one_line() -> None:
    assert one_line_error(QueryError("a\n  b")) == "error: a b"
    assert one_line_error(MemoryError()) == _NO_MEMORY
    assert one_line_error(MemoryError("9 GB")).startswith("error: out of memory: 9 GB; ask for smaller")


def code_of(command: Callable[..., None], *arguments: str) -> int:
    app = typer.Typer()
    app.command()(command)
    app.callback()(lambda: None)
    with pytest.raises(SystemExit) as caught:
        run_app(app, args=["run", *arguments], name="tool")
    code = caught.value.code
    assert isinstance(code, int)
    return code


@pytest.mark.parametrize(
    ("raised", "code", "words"),
    [
        (QueryError("no column x"), 1, "error: no column x"),
        (PermissionError(13, "Permission denied", "/x"), 1, "error: /x: permission denied; check"),
        (MemoryError(), 1, _NO_MEMORY),
        (KeyboardInterrupt(), 130, "interrupted\n"),
        (typer.Abort(), 130, "interrupted\n"),
        (typer.Exit(130), 130, "interrupted\n"),
        (typer.BadParameter("not both"), 2, "not both"),
    ],
)
def test_what_went_wrong_becomes_an_exit_code_and_one_line(
    capsys: pytest.CaptureFixture[str], raised: BaseException, code: int, words: str
) -> None:
    def run() -> None:
        raise raised

    assert code_of(run) == code
    captured = capsys.readouterr()
    assert words in captured.err
    assert captured.err.count("\n") <= 1
    assert captured.out == ""


def test_a_command_that_ends_well_exits_with_0() -> None:
    def run() -> None:
        pass

    assert code_of(run) == 0


def test_wrong_usage_exits_with_2_and_names_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    def run(count: int) -> None:
        pass

    assert code_of(run) == 2
    assert code_of(run, "x") == 2
    assert code_of(run, "1", "--nope") == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    assert all(line.startswith("error: ") and "tool run --help" in line for line in lines)


def test_a_bug_keeps_its_traceback() -> None:
    def run() -> None:
        raise ZeroDivisionError

    app = typer.Typer()
    app.command()(run)
    with pytest.raises(ZeroDivisionError):
        run_app(app, args=[])


def test_debugging_lets_every_traceback_through(monkeypatch: pytest.MonkeyPatch) -> None:
    def run() -> None:
        raise QueryError("no")

    monkeypatch.setenv("PFG_DEBUG", "1")
    app = typer.Typer()
    app.command()(run)
    with pytest.raises(QueryError):
        run_app(app, args=[])


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    program = (
        "import typer; from pfgdata.screen import run_app; app = typer.Typer()\n"
        "@app.command()\ndef run() -> None:\n    for n in range(100000): print(n)\nrun_app(app, args=[])"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        assert child.stdout.readline() == b"0\n"
        child.stdout.close()
        assert child.stderr.read() == b""
    assert child.returncode == 0


_SAYS = (
    "import sys, typer; from pfgdata.screen import ScreenProgress, print_line, run_app; app = typer.Typer()\n"
    "@app.command()\ndef run() -> None:\n"
    "    with ScreenProgress() as progress:\n"
    "        for n in range(3): progress.say(f'word {n}')\n"
    "    open('done', 'w').close(); print_line('result'); raise typer.Exit(1)\n"
    "run_app(app, args=[])"
)


@pytest.mark.parametrize("streams", ["2>&1 | true", "2>&- | cat", ">&-", ">&- 2>&-", "2> >(true)"])
def test_work_ends_as_it_would_where_nobody_hears_its_words(tmp_path: Path, streams: str) -> None:
    line = f'"{sys.executable}" -c "$PROGRAM" {streams}; exit "${{PIPESTATUS[0]}}"'
    given = {**os.environ, "PROGRAM": _SAYS, "PYTHONUNBUFFERED": ""}
    run = subprocess.run(["bash", "-c", line], cwd=tmp_path, env=given, capture_output=True)
    assert (run.returncode, (tmp_path / "done").exists()) == (1, True)
    assert b"Traceback" not in run.stderr


def test_a_step_is_told_whole_and_a_loss_by_four_digits() -> None:
    stream = io.StringIO()
    with ScreenProgress(stream=stream) as progress:
        progress.start("fit", total=1, unit="images")
        progress.advance(step=123456, loss=0.123456)
        progress.finish()
    assert stream.getvalue().endswith("loss 0.1235\n")
    assert "step 123,456" in stream.getvalue()
