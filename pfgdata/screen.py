"""The terminal, for both clis: progress with rate and ETA, tables, an error as one line, exit codes.

Results pipe through stdout, words for people go to stderr; control characters in names of files are escaped.
"""

from __future__ import annotations

import io
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any, NoReturn

from pfgdata.errors import PfgError, refused_by_system
from pfgdata.interrupts import INTERRUPTED, raise_on_interrupt
from pfgdata.paths import is_text

if TYPE_CHECKING:
    import typer
    from rich.console import Console
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

__all__ = [
    "FIXABLE",
    "ScreenProgress",
    "duration",
    "make_app",
    "on_terminal",
    "one_line_error",
    "print_json",
    "print_line",
    "printable",
    "run_app",
    "show_facts",
    "show_table",
]

PLAIN_SECONDS = 10.0  # between two lines where stderr is no terminal
BRIEF_SECONDS = 2.0  # a brief task that took less leaves no line
DONE, FIXABLE, USAGE = 0, 1, 2  # and INTERRUPTED: exit codes


@dataclass(slots=True)
class _Task:
    name: str
    total: int | None
    unit: str
    brief: bool
    began: float
    said: float
    done: int = 0
    figures: dict[str, float] = field(default_factory=dict)
    bar: TaskID | None = None


class ScreenProgress:
    """A `records.Progress` on stderr: a live bar on a terminal, else a line every ten seconds and at the end.

    Use it as a context manager, so that an error finds the terminal as it was.
    """

    def __init__(
        self,
        *,
        stream: IO[str] | None = None,
        interval: float = PLAIN_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stream = stream or sys.stderr
        self._live = self._stream.isatty()
        self._interval = interval
        self._clock = clock
        self._tasks: list[_Task] = []
        self._bars: RichProgress | None = None

    def __enter__(self) -> ScreenProgress:
        return self

    def __exit__(self, *_: object) -> None:
        self._tasks.clear()
        self._stop_bars()

    def start(self, task: str, *, total: int | None, unit: str = "images", brief: bool = False) -> None:
        """A task begins; a `brief` one leaves a line behind only if it took seconds."""
        now = self._clock()
        begun = _Task(task, total, unit, brief, began=now, said=now)
        self._tasks.append(begun)
        if self._live:
            if self._bars is None:
                self._bars = _bars(self._stream)
                self._bars.start()
            begun.bar = self._bars.add_task(task, total=total, rate="", figures="")

    def advance(self, count: int = 1, **figures: float) -> None:
        """`count` more units are done; `figures` are shown beside the rate (loss=0.12)."""
        task = self._tasks[-1]
        task.done += count
        task.figures.update(figures)
        now = self._clock()
        if self._bars is not None and task.bar is not None:
            rate = f"{_rate(task, now)} {task.unit}/s"
            self._bars.update(task.bar, advance=count, rate=rate, figures=_figures(task.figures))
        elif not self._live and now - task.said >= self._interval:
            task.said = now
            self._line(_plain(task, now))

    def say(self, message: str) -> None:
        """One line a person should read now."""
        if self._bars is not None:
            self._bars.console.print(printable(message), markup=False, highlight=False, soft_wrap=True)
        else:
            self._line(printable(message))

    def finish(self) -> None:
        """The task begun last has ended; what it did stays on the screen as one line."""
        task, now = self._tasks.pop(), self._clock()
        if self._bars is not None and task.bar is not None:
            self._bars.remove_task(task.bar)
        if not self._tasks:
            self._stop_bars()
        if task.total != 0 and not (task.brief and now - task.began < BRIEF_SECONDS):  # else nothing to say
            self.say(_plain(task, now, ended=True))

    def _stop_bars(self) -> None:
        if self._bars is not None:
            self._bars.stop()
            self._bars = None

    def _line(self, text: str) -> None:
        print(text, file=self._stream, flush=True)


def show_table(
    columns: Sequence[str], rows: Iterable[Sequence[str]], *, stream: IO[str] | None = None
) -> None:
    """Print rows of text: drawn to the width of a terminal, else tab-separated with a header line."""
    stream = stream or sys.stdout
    if not stream.isatty():
        for row in (columns, *rows):
            print("\t".join(printable(cell) for cell in row), file=stream)
        return
    from rich import box
    from rich.table import Table
    from rich.text import Text

    texts = [[Text(printable(cell)) for cell in row] for row in rows]
    console = _console(stream)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for index, name in enumerate(columns):
        longest = max((row[index].cell_len for row in texts), default=0)
        # the first column, a file, is broken last: it is what people copy
        table.add_column(
            name, overflow="fold", min_width=min(longest, console.width // 3) if not index else None
        )
    for line in texts:
        table.add_row(*line)
    console.print(table)


def show_facts(facts: Mapping[str, object], *, stream: IO[str] | None = None) -> None:
    """Print names and values for people, aligned, on stderr."""
    width = max(map(len, facts), default=0)
    for name, value in facts.items():
        print(f"{name:<{width}}  {printable(str(value))}", file=stream or sys.stderr)


def on_terminal() -> bool:
    """Whether stdout is a terminal, which obeys escape sequences; it is None where the shell closed it."""
    return sys.stdout is not None and sys.stdout.isatty()


def print_line(text: object) -> None:
    """Print a line of a result on stdout: exact into a pipe or file, `printable` on a terminal."""
    print(printable(str(text)) if on_terminal() else text)


def print_json(value: Any) -> None:
    r"""Print `value` as JSON on a line of stdout, NaN as null; on a terminal controls stand as `\uNNNN`."""
    import json

    line = json.dumps(value, ensure_ascii=False, default=str)
    if "NaN" in line or "Infinity" in line:
        line = json.dumps(json.loads(line, parse_constant=lambda _: None), ensure_ascii=False)
    if on_terminal() or not is_text(line):
        line = "".join(letter if letter.isprintable() else _json_escape(letter) for letter in line)
    print(line)


def printable(text: str) -> str:
    r"""`text` on one line: control characters, and bytes that are no text, as `\xNN`."""
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text
    )


def duration(seconds: float) -> str:
    """`seconds` for people: 8 s, 3 min 20 s, 2 h 05 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"


def one_line_error(error: BaseException) -> str:
    """What stderr says of an error: `error: ` and its text on one line."""
    text = " ".join(str(error).split())
    if isinstance(error, MemoryError):
        text = f"out of memory{f': {text}' if text else ''}; ask for smaller batches or fewer threads"
    if isinstance(error, OSError) and error.filename and error.strerror:
        text = f"{error.filename}: {refused_by_system(error) or error.strerror.lower() + '; check the path'}"
    return f"error: {printable(text or type(error).__name__)}"


def make_app(name: str, *, help: str, example: str) -> typer.Typer:
    """The app of a cli: the ways that both share, and `--version`; its commands are added to it."""
    import typer

    app = typer.Typer(
        name=name,
        help=help,
        epilog=(
            f"Example: {example}. PFG_STORE sets the default store; PFG_DEBUG=1 shows tracebacks. "
            "Exit codes: 0 done, 1 you can fix it, 2 wrong usage, 130 interrupted."
        ),
        no_args_is_help=True,
        rich_markup_mode="markdown",
        # for a --help that is not given, and so None, typer would import pydantic: 0.12 s
        context_settings={"help_option_names": ["-h", "--help"], "default_map": {"help": False}},
        add_completion=False,
        pretty_exceptions_enable=False,
    )

    def say_version(asked: bool) -> None:
        if asked:
            from importlib import metadata

            typer.echo(f"{name} {metadata.version('pfg')}")
            raise typer.Exit

    version = typer.Option(False, "--version", callback=say_version, is_eager=True, help="Print the version.")

    @app.callback()
    def options(_: bool = version) -> None:
        """Hold the options that stand before a command."""

    return app


def run_app(app: typer.Typer, *, args: Sequence[str] | None = None, name: str | None = None) -> NoReturn:
    """Run a cli and exit: 0 done, 1 a user's error, 2 wrong usage, 130 stopped (PFG_DEBUG=1: tracebacks)."""
    import typer

    debug = os.environ.get("PFG_DEBUG", "") not in ("", "0")
    if not debug:  # what libraries warn of (broken EXIF, a torchvision not needed) is not for a cli's user
        warnings.simplefilter("ignore")
        for library in ("DIFFUSERS", "TRANSFORMERS"):
            os.environ.setdefault(f"{library}_VERBOSITY", "error")
    if isinstance(sys.stdout, io.TextIOWrapper):  # a name that its encoding lacks ends no command
        exact = sys.stdout.encoding.lower() == "utf-8"  # it has every letter: left are the bytes of a path
        sys.stdout.reconfigure(errors="surrogateescape" if exact else "backslashreplace")
    try:
        with raise_on_interrupt():
            code = app(args, prog_name=name, standalone_mode=False)
            if sys.stdout is not None:  # None where the shell closed it
                sys.stdout.flush()
        if code == INTERRUPTED:  # typer makes this of a KeyboardInterrupt, and says nothing
            raise KeyboardInterrupt
        sys.exit(code if isinstance(code, int) else DONE)
    except BrokenPipeError:  # the reader of our stdout has seen enough (| head)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the last flush would complain
        sys.exit(DONE)
    except SystemExit as leaving:
        if isinstance(leaving.__context__, BrokenPipeError):  # typer has seen it first, and says 1
            sys.exit(DONE)
        raise
    except (KeyboardInterrupt, typer.Abort):
        print("interrupted", file=sys.stderr)
        sys.exit(INTERRUPTED)
    except typer.TyperException as error:
        if text := error.format_message():
            print(f"{one_line_error(Exception(text))}{_help_hint(error)}", file=sys.stderr)
        sys.exit(error.exit_code)
    except (PfgError, OSError, MemoryError) as error:
        if debug:
            raise
        print(one_line_error(error), file=sys.stderr)
        sys.exit(FIXABLE)


def _help_hint(error: typer.TyperException) -> str:
    path = getattr(getattr(error, "ctx", None), "command_path", None)
    return f" (see {path} --help)" if path else ""


def _json_escape(letter: str) -> str:
    units = letter.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))


def _console(stream: IO[str]) -> Console:
    from rich.console import Console

    return Console(file=stream, highlight=False, markup=False)


def _bars(stream: IO[str]) -> RichProgress:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeElapsedColumn as Elapsed
    from rich.progress import TimeRemainingColumn as Remaining

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}", markup=False),
        TextColumn("{task.fields[figures]}", markup=False),
        Elapsed(),
        TextColumn("ETA"),
        Remaining(),
        console=_console(stream),
        transient=True,
    )


def _rate(task: _Task, now: float) -> str:
    rate = task.done / (now - task.began) if now > task.began else 0.0
    return f"{rate:,.0f}" if rate >= 100 else f"{rate:.3g}"


def _figures(figures: Mapping[str, float]) -> str:
    return " ".join(f"{name} {value:.4g}" for name, value in figures.items())


def _plain(task: _Task, now: float, *, ended: bool = False) -> str:
    """One line: what, how far, how fast, for how long, how much longer."""
    took = now - task.began
    of = f"/{task.total:,}" if task.total is not None else ""
    parts = [f"{task.name}: {task.done:,}{of} {task.unit}", f"{_rate(task, now)}/s", duration(took)]
    if not ended and task.total is not None and 0 < task.done <= task.total:
        parts.append(f"ETA {duration(took / task.done * (task.total - task.done))}")
    return ", ".join([*parts, *([_figures(task.figures)] if task.figures else [])])
