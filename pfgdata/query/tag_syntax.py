"""Danbooru's own way to ask (`1girl -hat ~cat_ears ~dog_ears rating:g width:>=768`), to a question in SQL.

What comes out is a condition of pfg's expression language, checked and run like one that was typed; it knows
which of its bytes stand for which word, and every word is checked here, where it was typed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TypeVar

from pfgdata.errors import QueryError
from pfgdata.query.columns import Thresholds, quoted
from pfgdata.query.frame import Typed
from pfgdata.query.indexed import IndexedTags
from pfgdata.query.joined import JoinedColumns
from pfgdata.query.metatags import Metatags, in_sql
from pfgdata.query.question import Question
from pfgdata.query.tags import Tags
from pfgdata.store import Snapshot

__all__ = ["MOST_OF_A_WILDCARD", "read_tags"]

T = TypeVar("T")
MOST_OF_A_WILDCARD = 100  # tags, danbooru's own number; the most used of the tagger's training
_MOST_LETTERS = 2**16
_MOST_DEPTH = 50  # of brackets and signs in each other


def read_tags(snapshot: Snapshot, text: str) -> Question:
    """The question that `text` asks of a snapshot, in danbooru's syntax; `notes`: what a wildcard left out.

    Raises QueryError, one line with the place in `text`.
    """
    if len(text) > _MOST_LETTERS:
        raise QueryError(f"the tags have {len(text):,} letters; at most {_MOST_LETTERS:,}: ask in parts")
    if not text.strip():
        raise QueryError("no tags; an example: 1girl smile -hat rating:g width:>=768")
    return _Parser(snapshot, text).question()


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str  # - ~ ( ) or: what it is; term: a tag or metatag
    text: str
    at: int


@dataclass(frozen=True, slots=True)
class _Part:
    """A piece of the condition: texts and where each was typed; how it binds; whether it may be null."""

    pieces: tuple[tuple[str, int], ...]
    several: bool = False  # AND or OR stand outside of all brackets
    nullable: bool = False

    @property
    def bound(self) -> tuple[tuple[str, int], ...]:
        """The pieces, in brackets where a neighbour could tear them apart."""
        return (
            (("(", self.pieces[0][1]), *self.pieces, (")", self.pieces[0][1]))
            if self.several
            else self.pieces
        )


def _combined(parts: list[_Part], word: str) -> _Part:
    if len(parts) == 1:
        return parts[0]
    pieces = [parts[0].bound]
    for part in parts[1:]:
        pieces += [((f" {word} ", part.pieces[0][1]),), part.bound]
    return _Part(tuple(piece for each in pieces for piece in each), True, any(p.nullable for p in parts))


def _negated(part: _Part, at: int) -> _Part:
    """All but `part`; what is unknown is not in it: -character:x has the images without a character too."""
    if part.nullable:
        return _Part((("NOT coalesce(", at), *part.pieces, (", false)", at)))
    return _Part((("NOT ", at), *part.bound))


class _Parser:
    """One text, read word by word."""

    def __init__(self, snapshot: Snapshot, text: str) -> None:
        self._vocabulary = snapshot.vocabulary
        indexed = IndexedTags(lambda: None, ())  # names are looked up here, and no scores
        self._tags = Tags(snapshot.vocabulary, Thresholds(), indexed)
        self._meta = Metatags(self._tags, JoinedColumns(snapshot, indexed))
        self._text = text
        self._asked = Question()
        self._set: set[str] = set()
        self._tokens = [token for word, at in self._words() for token in self._split(word, at)]
        self._next = 0
        self._depth = 0

    def question(self) -> Question:
        part = self._either(top=True)
        if (token := self._peek()) is not None:
            raise self._wrong("a ) without its (", token.at)
        if part is None:
            return self._asked
        marks, length = [], 0
        for piece, at in part.pieces:
            marks.append((length, at))
            length += len(piece.encode())
        condition = "".join(piece for piece, _ in part.pieces)
        return replace(self._asked, where=Typed(condition, "tags", tuple(marks)))

    def _words(self) -> Iterator[tuple[str, int]]:
        """What spaces separate; none does inside double quotes that begin a word or stand after a colon."""
        at = 0
        while at < len(self._text):
            if self._text[at].isspace():
                at += 1
                continue
            start = at
            while at < len(self._text) and not self._text[at].isspace():
                if self._text[at] == '"' and self._opens(start, at):
                    end = self._text.find('"', at + 1)
                    if end < 0:
                        raise self._wrong("this quote is not closed", at)
                    at = end
                at += 1
            yield self._text[start:at], start

    def _opens(self, start: int, at: int) -> bool:
        return all(letter in "-~(" for letter in self._text[start:at]) or self._text[at - 1] == ":"

    def _split(self, word: str, at: int) -> Iterator[_Token]:
        """The signs and brackets around a word, and the word; a tag that looks like them (:), >_<) is one."""
        while word and not self._is_tag(word) and word[0] in "-~(":
            yield _Token(word[0], word[0], at)
            word, at = word[1:], at + 1
        closing = 0
        while word.endswith(")") and not self._is_tag(word) and word.count(")") > word.count("("):
            word, closing = word[:-1], closing + 1
        if word:
            yield _Token("or" if word.lower() == "or" else "term", word, at)
        for number in range(closing):
            yield _Token(")", ")", at + len(word) + number)

    def _is_tag(self, word: str) -> bool:
        return self._tags.find(word) is not None

    def _peek(self) -> _Token | None:
        return self._tokens[self._next] if self._next < len(self._tokens) else None

    def _either(self, *, top: bool) -> _Part | None:
        """Terms up to the end or a closing bracket: those on each side of `or`."""
        sides: list[_Part] = []
        while True:
            start = self._next
            side = self._all(top=top)
            token = self._peek()
            lonely = token is not None and token.kind == "or"
            if side is None and (lonely or sides or (self._next == start and token is not None)):
                place = token.at if token else len(self._text)
                raise self._wrong("no tag stands here", place)
            sides += [side] if side else []
            if not lonely:
                return _combined(sides, "OR") if sides else None
            self._next += 1

    def _all(self, *, top: bool) -> _Part | None:
        """Terms that hold together; of those with ~, one does."""
        every: list[_Part] = []
        some: list[_Part] = []
        while (token := self._peek()) is not None and token.kind not in ("or", ")"):
            target = some if token.kind == "~" else every
            if token.kind == "~":
                self._next += 1
            part = self._factor(token, plain=top and token.kind == "term")
            if part is not None:
                target.append(part)
        if some:
            every.append(_combined(some, "OR"))
        return _combined(every, "AND") if every else None

    def _factor(self, sign: _Token, *, plain: bool) -> _Part | None:
        """One term, bracket or what `sign` stands before; None for an order or limit, if `plain` allows."""
        token = self._peek()
        apart = token is not None and token is not sign and token.at > sign.at + 1
        if token is None or apart or token.kind in (")", "or"):
            raise self._wrong("a sign stands right before its tag, as in -hat", sign.at)
        self._next += 1
        if token.kind == "term":
            return self._term(token, plain=plain)
        if token.kind == "~":
            raise self._wrong("~ stands before everything else, as in ~cat_ears ~-hat", token.at)
        self._depth += 1
        if self._depth > _MOST_DEPTH:
            raise self._wrong(f"brackets and signs stand in each other {_MOST_DEPTH} deep at most", token.at)
        if token.kind == "-":
            inner = self._factor(token, plain=False)
            part = None if inner is None else _negated(inner, token.at)
        else:
            part = self._either(top=False)
            if self._peek() is None:
                raise self._wrong("this bracket is not closed", token.at)
            self._next += 1
        self._depth -= 1
        return part

    def _term(self, token: _Token, *, plain: bool) -> _Part | None:
        word = _unquoted(token.text)
        if self._is_tag(word):
            return self._part(f"has({quoted(self._meta.known(word))})", token)
        name, colon, value = token.text.partition(":")
        name = name.lower()
        if colon and name in ("order", "limit"):
            if not plain:
                raise self._wrong(
                    f"{name}: stands by itself, outside of brackets and without a sign", token.at
                )
            self._set_once(name, _unquoted(value), token)
            return None
        if colon and self._meta.knows(name):
            value = "".join(value.split('"')) if '"' in value else value
            found = self._placed(lambda: self._meta.condition(name, value), token)
            return self._part(found.sql, token, nullable=found.nullable)
        if word.startswith("@"):
            return self._saved(word[1:], token)
        if "*" in word:
            return self._wildcard(word, token)
        raise self._wrong(self._unknown(word, name if colon else None, token), token.at)

    def _part(self, sql: str, token: _Token, *, nullable: bool = False) -> _Part:
        return _Part(((sql, token.at),), nullable=nullable)

    def _set_once(self, name: str, value: str, token: _Token) -> None:
        if name in self._set:
            raise self._wrong(f"{name}: stands twice", token.at)
        self._set.add(name)
        if name == "limit":
            limit = self._placed(lambda: self._meta.limit(value), token)
            self._asked = replace(self._asked, limit=limit)
        else:
            order = self._placed(lambda: self._meta.order(value), token)
            self._asked = replace(self._asked, order=order)

    def _saved(self, name: str, token: _Token) -> _Part:
        """A saved selection, which the expression language has too."""
        if not name.isidentifier():
            raise self._wrong("@ stands before the name of a saved selection: @good", token.at)
        return self._part(f"@{in_sql(name.lower())}", token)

    def _wildcard(self, word: str, token: _Token) -> _Part:
        """Any of the tags that a word with * stands for."""
        pattern = "_".join(word.split()).lower()
        groups = (
            self._vocabulary.general_ids,
            self._vocabulary.character_ids,
            self._vocabulary.further_ids,
        )
        names, counts = self._vocabulary.names, self._vocabulary.counts
        found = [int(n) for ids in groups for n in ids if _matches(pattern, names[int(n)].lower())]
        if not found:
            raise self._wrong(f"no tag is like {word}", token.at)
        found.sort(key=lambda number: -int(counts[number]))
        if len(found) > MOST_OF_A_WILDCARD:
            note = f"{word} stands for the {MOST_OF_A_WILDCARD} most used of {len(found):,} tags"
            self._asked = replace(self._asked, notes=(*self._asked.notes, note))
        tags = ", ".join(quoted(names[number]) for number in found[:MOST_OF_A_WILDCARD])
        return self._part(f"any_of({tags})", token)

    def _unknown(self, word: str, name: str | None, token: _Token) -> str:
        """Why a word is no tag: with the next one it may be, or it names a metatag that there is not."""
        follower = self._peek()
        if follower is not None and follower.kind == "term" and self._is_tag(f"{word}_{follower.text}"):
            whole = f"{word}_{follower.text}"
            return f"this store's tagger knows no tag '{word}'; did you mean {self._meta.known(whole)}?"
        near = self._meta.near(name) if name else []
        if near:
            hint = " or ".join(f"{one}:" for one in near)
            return f"no metatag {name}:; did you mean {hint}?"
        return self._tags.unknown(word, None)

    def _placed(self, work: Callable[[], T], token: _Token) -> T:
        """What `work()` gives; what it refuses, with the place of `token`."""
        try:
            return work()
        except QueryError as problem:
            raise self._wrong(str(problem), token.at) from None

    def _wrong(self, what: str, at: int) -> QueryError:
        return QueryError(f"{what} (character {at + 1} of the tags)")


def _unquoted(word: str) -> str:
    return word[1:-1] if len(word) > 1 and word[0] == word[-1] == '"' else word


def _matches(pattern: str, name: str) -> bool:
    """Whether `name` is like `pattern`, where * stands for any letters; in time linear in `name`."""
    first, *middle, last = pattern.split("*")
    if not (name.startswith(first) and name.endswith(last) and len(name) >= len(first) + len(last)):
        return False
    at, end = len(first), len(name) - len(last)
    for part in middle:
        found = name.find(part, at, end)
        if found < 0:
            return False
        at = found + len(part)
    return True
