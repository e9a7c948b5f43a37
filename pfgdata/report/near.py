"""Near copies for a report: what `pfgdata duplicates` counts, and a few of its stars to look at."""

from __future__ import annotations

from collections.abc import Sequence

from pfgdata.records import Progress
from pfgdata.report.figures import NearCopies, Star
from pfgdata.report.pictures import Shelf
from pfgdata.similarity import DuplicateOptions, DuplicateReport, find_duplicates
from pfgdata.similarity import Star as FoundStar

__all__ = ["near_copies"]

_STARS, _MEMBERS = 6, 3  # shown
_STAR_BYTES = 500_000
_KINDS = ("same", "copy", "variant", "unsure")


def near_copies(shelf: Shelf, options: DuplicateOptions, progress: Progress) -> NearCopies:
    """Search the rows of `shelf`; reads the picture of every candidate."""
    report = find_duplicates(
        shelf.snapshot, shelf.rows, options=options, roots=shelf.roots, progress=progress
    )
    return NearCopies(
        radius=options.radius,
        kept=len(report.stars),
        kinds={
            kind: sum(member.kind == kind for star in report.stars for member in star.members)
            for kind in _KINDS
        },
        not_read=len(report.failures),
        stars=_shown(shelf, report, progress),
    )


def _shown(shelf: Shelf, report: DuplicateReport, progress: Progress) -> list[Star]:
    """The first stars with a member that is no equal bytes, as far as their files can be read."""
    stars = [star for star in report.stars if _members(star)][:_STARS]
    places = list(dict.fromkeys(place for star in stars for place in (star.keep, *dict(_members(star)))))
    found, _ = shelf.examples(places, len(places), progress, most_bytes=_STAR_BYTES)
    return [
        Star(
            keep=found[star.keep],
            members=[(kind, found[place]) for place, kind in _members(star) if place in found],
        )
        for star in stars
        if star.keep in found
    ]


def _members(star: FoundStar) -> Sequence[tuple[int, str]]:
    return [(one.row, one.kind) for one in star.members if one.kind != "same"][:_MEMBERS]
