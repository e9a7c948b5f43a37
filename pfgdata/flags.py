"""The options of a command out of the fields of a dataclass, so that each is told once.

The sentence is the string below a field: `Rank; default: the base's.` is the help `Rank.` and the default in
words. A key that the sentence names in backticks is shown as the flag that it has.
"""

from __future__ import annotations

import ast
import functools
import inspect
import itertools
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, fields
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, get_type_hints

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

__all__ = ["field_texts", "from_fields"]

F = TypeVar("F", bound=Callable[..., Any])


def field_texts(kind: type[DataclassInstance]) -> dict[str, str]:
    """Field name -> the string that stands below it in the class or in one it extends, on one line."""
    found: dict[str, str] = {}
    for one in reversed(kind.__mro__[:-1]):
        for node, text in itertools.pairwise(_class_bodies(one.__module__)[one.__name__]):
            if isinstance(node, ast.AnnAssign) and isinstance(text, ast.Expr):
                assert isinstance(node.target, ast.Name) and isinstance(text.value, ast.Constant)
                found[node.target.id] = " ".join(str(text.value.value).split())
    return found


@functools.cache  # commands share what their dataclasses extend
def _class_bodies(module: str) -> dict[str, list[ast.stmt]]:
    tree = ast.parse(inspect.getsource(sys.modules[module]))
    return {node.name: node.body for node in tree.body if isinstance(node, ast.ClassDef)}


def from_fields(
    kind: type[DataclassInstance],
    panels: Mapping[str, str],
    *,
    flags: Mapping[str, str] | None = None,
    more: Mapping[str, Mapping[str, Any]] | None = None,
    layered: bool = False,
) -> Callable[[F], F]:
    """Let a command take fields of `kind` in place of its `**parameter`, each as an option.

    `panels`: title of a panel of the help -> the fields in it, separated by spaces; a title may be empty.
    `flags`: field -> its flag, where that is not its name. `more`: field -> what typer.Option takes beside.
    They stand between the command's positional and its keyword-only parameters. With `layered` an option
    that is not given is None, its default only shown: another layer, such as a file, may lie below.
    """
    names = {name: panel or None for panel, listed in panels.items() for name in listed.split()}
    shown = {name: (flags or {}).get(name, f"--{name.replace('_', '-')}") for name in names}
    hints, texts = get_type_hints(kind), field_texts(kind)
    known = {field.name: field for field in fields(kind)}
    options = []
    for name, panel in names.items():
        help_text, default_words = _told(texts[name], shown)
        default = _default(known[name])
        words = {"help": help_text, "show_default": default_words or True, "rich_help_panel": panel}
        if layered:
            words["show_default"] = default_words or str(default)
            default = None
        flag = shown[name]
        if layered and hints[name] is bool:
            flag = f"{flag}/--no-{flag[2:]}"
        options.append(_option(name, hints[name], flag, default, {**words, **(more or {}).get(name, {})}))

    def take(command: F) -> F:
        signature = inspect.signature(command, eval_str=True)
        own = [one for one in signature.parameters.values() if one.kind is not one.VAR_KEYWORD]
        first = [one for one in own if one.kind is not one.KEYWORD_ONLY]
        command.__signature__ = signature.replace(parameters=[*first, *options, *own[len(first) :]])  # type: ignore[attr-defined]
        return command

    return take


def _told(text: str, flags: Mapping[str, str]) -> tuple[str, str | None]:
    """The first sentence of a field's text, and the default that it tells."""
    text = re.sub(r"`(\w+)`", lambda key: flags.get(key[1], key[0]), text)
    sentence = re.split(r"(?<=\.) (?=[A-Z])", text, maxsplit=1)[0]
    help_text, _, default = sentence.partition("; default: ")
    return (f"{help_text}.", default.removesuffix(".")) if default else (sentence, None)


def _default(field: Field[Any]) -> Any:
    return field.default if field.default_factory is MISSING else field.default_factory()


def _option(name: str, hint: Any, flag: str, default: Any, words: Mapping[str, Any]) -> inspect.Parameter:
    import typer

    optional = hint | None if default is None else hint
    annotation: Any = Annotated[optional, typer.Option(flag, **words)]
    absent = ... if default is MISSING else default
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=absent, annotation=annotation)
