"""A cli from its arguments to its exit code: an error is one line, Ctrl-C a word."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

from pfgdata.errors import PfgError, refused_by_system
from pfgdata.interrupts import INTERRUPTED, raise_on_interrupt
from pfgdata.screen.printing import printable
from pfgdata.screen.streams import open_streams

if TYPE_CHECKING:
    import typer

__all__ = ["FIXABLE", "make_app", "one_line_error", "run_app"]

DONE, FIXABLE, USAGE = 0, 1, 2  # and INTERRUPTED: exit codes


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
    open_streams()
    code = DONE
    try:
        with raise_on_interrupt():
            code = app(args, prog_name=name, standalone_mode=False)
            sys.stdout.flush()
        if code == INTERRUPTED:  # typer makes this of a KeyboardInterrupt, and says nothing
            raise KeyboardInterrupt
        sys.exit(code if isinstance(code, int) else DONE)
    except BrokenPipeError:  # the reader of our stdout has seen enough (| head)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the last flush would complain
        sys.exit(code if isinstance(code, int) else DONE)
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
