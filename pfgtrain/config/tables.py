"""A TOML table to a dataclass and back: a key is known and of its type, or refused with the nearest name."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection, Mapping
from types import UnionType
from typing import TYPE_CHECKING, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from pfgdata.errors import ConfigError
from pfgdata.paths import is_text
from pfgtrain.config.aliases import FLAGS_ONLY, SYNONYMS, UNSUPPORTED

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

__all__ = ["read_table", "require_text", "toml_of", "toml_value"]

T = TypeVar("T", bound="DataclassInstance")


def read_table(
    kind: type[T],
    table: Mapping[str, Any],
    *,
    source: str,
    tables: Collection[str] = (),
    within: str = "",
) -> T:
    """The dataclass `kind` of a TOML table. Raises ConfigError naming `source` and the key that is wrong.

    Keys are its fields that are numbers, texts, bools, lists of them, Literals, and unions of these and None;
    of its fields that are dataclasses, those in `tables` are tables in the table, `within` which we may be.
    """
    hints = {
        name: hint
        for name, hint in get_type_hints(kind).items()
        if (name in tables if dataclasses.is_dataclass(hint) else _described(hint))
    }
    for key, value in table.items():
        if key not in hints:
            raise ConfigError(f"{source}: unknown key {within + key!r}{_advice(key, _known(hints))}")
        if not _fits(value, hints[key]):
            raise ConfigError(
                f"{source}: {within}{key} = {toml_value(value)} is not {_described(hints[key])}"
            )
    for field in dataclasses.fields(kind):
        if field.name not in table and field.default is field.default_factory is dataclasses.MISSING:
            raise ConfigError(
                f"{source}: {within}{field.name} is missing; it is {_described(hints[field.name])}"
            )
    values: dict[str, Any] = {
        key: _float(value, f"{source}: {within}{key}") if float in _options(hints[key]) else value
        for key, value in table.items()
    }
    for key, hint in hints.items():
        if key in table and key in tables:
            values[key] = read_table(hint, table[key], source=source, within=f"{within}{key}.")
    try:
        return kind(**values)
    except ConfigError as problem:
        raise ConfigError(f"{source}: {problem}") from None


def require_text(name: str, value: str) -> None:
    """Raise ConfigError where `value` is no text that a tokenizer and a file can hold."""
    if "\0" in value:
        raise ConfigError(f"{name} = {value!r} holds a NUL character; take it out")
    if not is_text(value):
        raise ConfigError(f"{name} = {value!r} is not UTF-8 text; write it as UTF-8")


def toml_of(table: Mapping[str, Any]) -> str:
    """`table` of text, numbers, bools, lists of them and such tables as TOML; what is None is left out."""
    inner = {key: value for key, value in table.items() if isinstance(value, Mapping)}
    own = {key: value for key, value in table.items() if key not in inner and value is not None}
    lines = [f"{key} = {toml_value(value)}\n" for key, value in own.items()]
    return "".join([*lines, *(f"\n[{key}]\n{toml_of(value)}" for key, value in inner.items())])


def toml_value(value: Any) -> str:
    """`value`, of those that TOML has, as it is written there; a table on one line."""
    if isinstance(value, list):
        return f"[{', '.join(map(toml_value, value))}]"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{key} = {toml_value(one)}' for key, one in value.items())}}}"
    if isinstance(value, str):
        quoted = json.dumps(value, ensure_ascii=False)  # TOML knows every escape that JSON writes
        return quoted.replace("\x7f", "\\u007f")  # the one control that JSON leaves bare and TOML forbids
    return str(value).lower()  # true, 5e-06, inf: TOML's spelling too


def _float(value: float, where: str) -> float:
    try:
        return float(value)
    except OverflowError:  # TOML's whole numbers have no end
        raise ConfigError(f"{where} is too large for a number; 1e308 is not") from None


def _known(hints: Mapping[str, Any]) -> tuple[str, ...]:
    """The keys, those of tables in the table as `table.key`."""
    tables = {name: hint for name, hint in hints.items() if dataclasses.is_dataclass(hint)}
    inner = [f"{name}.{field.name}" for name, hint in tables.items() for field in dataclasses.fields(hint)]
    return (*(name for name in hints if name not in tables), *inner)


def _advice(key: str, known: tuple[str, ...]) -> str:
    ours = SYNONYMS.get(key)
    if ours and ours.split()[0].rstrip(",") in known:
        return f"; here it is {ours}"
    if key in FLAGS_ONLY and "max_train_steps" in known:
        return f"; that is {FLAGS_ONLY[key]}"
    if key in UNSUPPORTED and "max_train_steps" in known:
        return "; pfgtrain has no such thing; leave it out"
    from pfgdata.records import nearest  # with numpy, which no --help waits for

    close = nearest(key, known)
    return f"; did you mean {' or '.join(close)}?" if close else f"; known are {', '.join(known)}"


def _fits(value: Any, hint: Any) -> bool:
    return any(_fits_one(value, option) for option in _options(hint))


def _fits_one(value: Any, hint: Any) -> bool:
    if get_origin(hint) is Literal:
        return isinstance(value, str) and value in get_args(hint)
    if dataclasses.is_dataclass(hint):
        return isinstance(value, dict)
    if get_origin(hint) is list:
        return isinstance(value, list) and all(_fits(item, get_args(hint)[0]) for item in value)
    return type(value) in ((int, float) if hint is float else (hint,))  # exact: True is an int by isinstance


def _options(hint: Any) -> tuple[Any, ...]:
    """The alternatives of `X | Y`; anything else is its own only one."""
    return get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)


def _described(hint: Any) -> str:
    named = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}
    parts = []
    for option in _options(hint):
        if get_origin(option) is Literal:
            parts.append("one of " + ", ".join(get_args(option)))
        elif get_origin(option) is list:
            parts.append(f"a list, each {_described(get_args(option)[0])}")
        elif dataclasses.is_dataclass(option):
            parts.append("a table")
        elif option in named:
            parts.append(named[option])
    return " or ".join(parts)
