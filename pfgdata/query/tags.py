"""Tags in an expression: from the name a person writes to the number in `tag_ids`, and SQL over the numbers.

The four ratings stand in their own column, and a rating has no threshold: it holds if it is the highest. A
tag of a further category (copyright, artist, ...) counts from the threshold of general tags on.
"""

from __future__ import annotations

from pfgdata.query.columns import Thresholds, quoted
from pfgdata.query.indexed import IndexedTags
from pfgdata.records import did_you_mean
from pfgdata.vocabulary import CATEGORIES, Vocabulary

__all__ = ["CATEGORY_COLUMNS", "NO_RATINGS", "Tags", "kind_of_category"]

NO_RATINGS = "this store's tagger gives no rating: it is null for every image"

CATEGORY_COLUMNS = {  # column whose values are tags -> the kinds of tags that can stand in it
    "tags": ("general",),
    "characters": ("character",),
    "character": ("character",),
    "rating": ("rating",),
}


def kind_of_category(category: int) -> str:
    """rating, character, general, copyright, ...: what a tag of a vocabulary's category is called."""
    return CATEGORIES.get(category, "general")


class Tags:
    """Names, numbers and SQL of one vocabulary under given thresholds."""

    def __init__(self, vocabulary: Vocabulary, thresholds: Thresholds, indexed: IndexedTags) -> None:
        self._vocabulary = vocabulary
        self._indexed = indexed
        self._thresholds = thresholds
        self._numbers = {name: number for number, name in enumerate(vocabulary.names)}
        self.kinds = frozenset(kind_of_category(category) for category in set(vocabulary.categories.tolist()))
        self._rating_places = {int(number): place for place, number in enumerate(vocabulary.rating_ids)}

    def find(self, text: str) -> int | None:
        """The number of the tag called `text`: as it is, with underscores for spaces, or in lower case."""
        joined = "_".join(text.split())
        for name in (text, joined, joined.lower()):
            if name in self._numbers:
                return self._numbers[name]
        return None

    def name(self, number: int) -> str:
        """The tag's own spelling."""
        return self._vocabulary.names[number]

    def kind_of(self, number: int) -> str:
        """The kind of a tag: rating, general, character or a further one."""
        return kind_of_category(int(self._vocabulary.categories[number]))

    def score(self, number: int) -> str:
        """SQL for a tag's score, 0 below the store's floor."""
        if number in self._rating_places:
            return f"rating_scores[{self._rating_places[number] + 1}]"
        column = self._indexed.score(number)
        return f"coalesce({column}, 0::FLOAT)" if column else self._listed(number)

    def has(self, number: int) -> str:
        """SQL for whether a tag counts: its score reaches the threshold of its kind."""
        kind = self.kind_of(number)
        if kind == "rating":
            return f"rating = {quoted(self.name(number))}"
        threshold = self._thresholds.stored(kind)
        return self._indexed.has(number, threshold) or f"{self._listed(number)} >= {threshold}::FLOAT"

    def _listed(self, number: int) -> str:
        return f"coalesce(tag_scores[list_position(tag_ids, {number})], 0::FLOAT)"

    def unknown(self, text: str, column: str | None) -> str:
        """Why `text` is no tag (of that column or kind), with the nearest that are."""
        if column == "rating" and not self._rating_places:
            return NO_RATINGS
        number = self.find(text)
        if number is not None and column is not None:
            kind = self.kind_of(number)
            name = self.name(number)
            article = "an" if kind[0] in "aeiou" else "a"
            right = f"rating = '{name}'" if kind == "rating" else f"has('{name}')"
            return f"'{text}' is no value of {column}, it is {article} {kind} tag; write {right}"
        kinds = CATEGORY_COLUMNS.get(column, (column,)) if column else tuple(self.kinds)
        wanted = kinds[0] if column else "tag"
        if wanted == "rating":
            names = [self.name(int(number)) for number in self._vocabulary.rating_ids]
            return f"no rating '{text}'; there are {', '.join(names)}"
        near = [name for name in self._near(text) if self.kind_of(self._numbers[name]) in kinds]
        what = "tag" if wanted == "general" else wanted
        hint = did_you_mean(near[:3], "its vocabulary has nothing like it")
        return f"this store's tagger knows no {what} '{text}'; {hint}"

    def _near(self, text: str) -> list[str]:
        from difflib import get_close_matches

        joined = "_".join(text.split()).lower()
        return get_close_matches(joined, self._vocabulary.names, n=9, cutoff=0.6)
