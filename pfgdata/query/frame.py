"""The text of a question, to DuckDB's tree of it; an expression is put between brackets of ours.

A text that people did not type as it is (tags that became a condition) knows which character made which byte.
"""

from __future__ import annotations

import bisect
from dataclasses import dataclass
from typing import Any

from pfgdata.errors import QueryError
from pfgdata.query.columns import SOURCE
from pfgdata.query.sandbox import Sandbox
from pfgdata.query.text_limits import check_text

__all__ = ["Node", "Typed", "admitted", "closed", "parsed"]

Node = dict[str, Any]
_NO_PLACE = 2**63  # positions of nodes that DuckDB made itself lie above it
_FRAME = f"SELECT * FROM {SOURCE} WHERE (\n"  # the new line ends a comment in the expression
_CLOSE = "\n)"
# `a) or (b` fits the brackets of the first frame and `a then b when c` the words of this one: none fits both
_SECOND_FRAME = f"SELECT * FROM {SOURCE} WHERE CASE WHEN\n{{}}\nTHEN true END"


@dataclass(frozen=True, slots=True)
class Typed:
    """A `text` to parse, and what the one who typed it calls it: expression, tags, order or SELECT.

    `marks` are (byte of `text`, character of what was typed), sorted, where the two differ. `before` is what
    of ours stands before the text when it is parsed.
    """

    text: str
    called: str = "expression"
    marks: tuple[tuple[int, int], ...] = ()
    before: str = _FRAME

    def place(self, offset: int) -> str:
        """What a person finds at byte `offset` of `text` as character so and so of what was typed."""
        if self.marks:
            found = bisect.bisect_right(self.marks, (max(offset, 0), _NO_PLACE)) - 1
            return f"character {self.marks[max(found, 0)][1] + 1} of the {self.called}"
        before = self.text.encode()[: max(offset, 0)].decode(errors="ignore")
        return f"character {len(before) + 1} of the {self.called}"

    def place_of(self, node: Node) -> str | None:
        """Where the expression has `node`, a part of its tree; None for one that DuckDB made itself."""
        offset = node.get("query_location", _NO_PLACE)
        return None if offset >= _NO_PLACE else self.place(offset - len(self.before.encode()))

    def refusal(self, node: Node, what: str) -> QueryError:
        """The error that says `what` of a node, and where it stands."""
        place = self.place_of(node)
        return QueryError(f"{what} ({place})" if place else what)


def admitted(sandbox: Sandbox, typed: Typed) -> Node:
    """The one statement of our frame around the expression, which is its where_clause. Raises QueryError."""
    more = _more(typed.called)
    example = "character = 'hatsune_miku' and width >= 512"
    theirs: list[Node] = parsed(sandbox, typed, _CLOSE, example=example, other=more)["statements"]
    frame = sandbox.parse(f"{_FRAME}true{_CLOSE}")["statements"][0]["node"]
    if len(theirs) != 1 or _shape(theirs[0]["node"]) != _shape(frame):
        raise QueryError(more)
    return theirs[0]


def parsed(sandbox: Sandbox, typed: Typed, close: str = "", *, example: str, other: str) -> Node:
    """DuckDB's tree of the text between `before` and `close`. Raises QueryError, one line with the place.

    `example` is shown where the text is empty, `other` where it is another statement than SELECT.
    """
    text, called = typed.text, typed.called
    if not text.strip():
        raise QueryError(f"the {called} is empty; an example: {example}")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise QueryError(f"the {called} is not UTF-8 text") from None
    check_text(text, called)
    answer = sandbox.parse(typed.before + text + close)
    if answer["error"]:
        raise QueryError(_syntax_error(answer, typed, other))
    return answer


def closed(sandbox: Sandbox, typed: Typed) -> None:
    """Raise QueryError unless the expression stands in another frame too, so that it closes none."""
    if sandbox.parse(_SECOND_FRAME.replace("{}", typed.text))["error"]:
        raise QueryError(_more(typed.called))


def _more(called: str) -> str:
    return f"the {called} is more than one condition; see that its brackets match"


def _shape(node: Node) -> Node:
    """Everything of a SELECT but its condition and what hangs on the length of the text."""
    return {key: value for key, value in node.items() if key != "where_clause"}


def _syntax_error(answer: Node, typed: Typed, other: str) -> str:
    message = str(answer.get("error_message", "not valid")).splitlines()[0]
    if answer.get("error_type") == "not implemented":
        return other
    if "position" not in answer:
        return f"the {typed.called} is not valid: {message}"
    offset = int(answer["position"]) - len(typed.before.encode())
    if offset >= len(typed.text.encode()):
        return (
            f"the {typed.called} does not end well; a value or a bracket is missing, or there is one too many"
        )
    return f"{message} ({typed.place(offset)})"
