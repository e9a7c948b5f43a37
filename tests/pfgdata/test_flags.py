"""A dataclass gives a command its options, and each of them is told once."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import pytest
import typer
import typer.main
from typer.testing import CliRunner

from pfgdata.flags import field_texts, from_fields


@dataclass(frozen=True, kw_only=True)
class Paint:
    """What any painter is asked."""

    colour: Literal["red", "blue"] = "red"
    """Colour of the first coat; default: that of the fire engine. It dries in a day."""
    coats: int = 2
    """Coats of `colour`, one
    over the other."""


@dataclass(frozen=True, kw_only=True)
class House(Paint):
    """What the painter of a house is asked."""

    doors: list[str] = field(default_factory=list)
    """Doors to paint."""
    quick: bool = False
    """Do not wait."""


PANELS = {"Paint": "colour coats", "": "doors quick"}


def app(*, layered: bool) -> typer.Typer:
    """A command that prints what reaches it."""
    made = typer.Typer(rich_markup_mode=None, add_completion=False)

    @made.command()
    @from_fields(
        House,
        PANELS,
        flags={"colour": "--paint", "doors": "--door"},
        more={"coats": {"min": 1}},
        layered=layered,
    )
    def paint(place: str, *, loud: bool = False, **keys: Any) -> None:
        print(place, loud, sorted(keys.items()))

    return made


def test_the_string_below_a_field_is_its_text_also_of_a_field_that_is_inherited() -> None:
    texts = field_texts(House)
    assert list(texts) == ["colour", "coats", "doors", "quick"]
    assert texts["coats"] == "Coats of `colour`, one over the other."


def test_a_command_takes_the_fields_with_their_defaults() -> None:
    run = CliRunner().invoke(app(layered=False), ["here", "--door", "a", "--door", "b", "--quick"])
    assert run.output == (
        "here False [('coats', 2), ('colour', 'red'), ('doors', ['a', 'b']), ('quick', True)]\n"
    )


def test_in_layers_what_is_not_given_is_none() -> None:
    run = CliRunner().invoke(app(layered=True), ["here", "--loud", "--no-quick", "--paint", "blue"])
    assert run.output == (
        "here True [('coats', None), ('colour', 'blue'), ('doors', None), ('quick', False)]\n"
    )


@pytest.mark.parametrize(("words", "said"), [(["--paint", "green"], "green"), (["--coats", "0"], "--coats")])
def test_what_a_field_cannot_be_is_wrong_usage(words: list[str], said: str) -> None:
    run = CliRunner().invoke(app(layered=False), ["here", *words])
    assert run.exit_code == 2
    assert said in run.output


def test_the_help_is_the_first_sentence_with_flags_for_keys_and_the_default_in_words() -> None:
    command = typer.main.get_command(app(layered=False))
    known: dict[str, Any] = {one.name or "": one for one in command.params}
    assert list(known) == ["place", "colour", "coats", "doors", "quick", "loud"]
    assert (known["colour"].help, known["colour"].show_default) == (
        "Colour of the first coat.",
        "that of the fire engine",
    )
    assert known["coats"].help == "Coats of --paint, one over the other."
    assert known["coats"].rich_help_panel == "Paint"
