"""Writes docs/cli.md, the reference of both commands, from their Typer apps: `python -m docs.cli`.

tests/test_cli_help.py fails when the file no longer says what the apps do.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import typer
import typer.main

__all__ = ["TARGET", "apps", "commands", "render"]

TARGET = Path(__file__).with_suffix(".md")
_HEAD = """# Command line

Written by `python -m docs.cli` from the apps; change the help texts, not this file.

Results go to stdout, everything for people to stderr. Exit codes: 0 done (also with named failures of single
images), 1 a user can fix it, 2 wrong usage, 130 interrupted. `PFG_STORE` sets the default store,
`PFG_DEBUG=1` shows the traceback of an error. In every path, also of a recipe, a `~` that the shell has left
(`--store=~/feats`) is the home, unless something of just that name is there; `./~/feats` is in a folder `~`.
On a terminal control characters are shown escaped; into a pipe or a file results go as they are.
"""


def apps() -> dict[str, Any]:
    """Both apps by name, as click commands; pfgtrain's where it is there."""
    found = {}
    for name in ("pfgdata", "pfgtrain"):
        if find_spec(name) and find_spec(f"{name}.cli"):
            app: typer.Typer = importlib.import_module(f"{name}.cli").app
            found[name] = typer.main.get_command(app)
    return found


def commands(name: str, app: Any) -> Iterator[tuple[str, Any]]:
    """Each command with its full name, the app itself first; depth first."""
    yield name, app
    for part, command in getattr(app, "commands", {}).items():
        if not command.hidden:
            yield from commands(f"{name} {part}", command)


def render() -> str:
    """The text of docs/cli.md."""
    parts = [_HEAD]
    for name, app in apps().items():
        for full, command in commands(name, app):
            parts.append(_command(full, command))
    return "\n".join(parts)


def _command(name: str, command: Any) -> str:
    level = "##" if " " not in name else "###"
    arguments = [p for p in command.params if p.param_type_name == "argument" and not p.hidden]
    options = [p for p in command.params if p.param_type_name == "option" and not p.hidden]
    usage = [name, *(["COMMAND"] if hasattr(command, "commands") else map(_usage, arguments)), "[OPTIONS]"]
    lines = [f"{level} {name}", "", "```", " ".join(usage), "```", "", _prose(command.help)]
    for panel, items in _panels(arguments, options).items():
        lines += ["", f"**{panel}**", "", "| | default | |", "|---|---|---|"]
        lines += [f"| {_names(item)} | {_default(item)} | {_cell(item.help)} |" for item in items]
    if command.epilog:
        lines += ["", _example(command.epilog)]
    return "\n".join(lines) + "\n"


def _panels(arguments: list[Any], options: list[Any]) -> dict[str, list[Any]]:
    panels: dict[str, list[Any]] = {}
    for title, items in (("Arguments", arguments), ("Options", options)):
        for item in items:
            panels.setdefault(getattr(item, "rich_help_panel", None) or title, []).append(item)
    return panels


def _usage(argument: Any) -> str:
    name = argument.metavar or argument.human_readable_name
    return str(name) if argument.required else f"[{name}]"


def _names(item: Any) -> str:
    if item.param_type_name == "argument":
        return f"`{item.metavar or item.human_readable_name}`"
    names = ", ".join([*item.opts, *item.secondary_opts])
    kind = item.type_descriptor.annotation
    choices = "\\|".join(get_args(kind)) if get_origin(kind) is Literal else ""
    value = "" if item.is_flag or item.count else f" {item.metavar or choices or str(item.name).upper()}"
    return f"`{names}{value}`"


def _default(item: Any) -> str:
    if item.required:
        return "required"
    shown = item.show_default if isinstance(item.show_default, str) else None
    if shown is None and item.default not in (None, False, (), []) and not callable(item.default):
        shown = f"`{item.default}`"
    variable = f"`{item.envvar}`" if item.envvar else ""
    return _cell(", else ".join(filter(None, (variable, shown))))


def _prose(text: str | None) -> str:
    return "\n\n".join(" ".join(part.split()) for part in (text or "").split("\n\n"))


def _cell(text: str | None) -> str:
    return _prose(text).replace("|", "\\|")


def _example(epilog: str) -> str:
    """An epilog `Example: COMMAND` or `Examples: COMMAND; COMMAND` as code, else as it is."""
    word, _, rest = epilog.partition(": ")
    if word not in ("Example", "Examples") or ". " in rest:
        return _prose(epilog)
    return "\n".join(["```sh", *(line.strip() for line in rest.split("; ")), "```"])


if __name__ == "__main__":
    TARGET.write_text(render())
