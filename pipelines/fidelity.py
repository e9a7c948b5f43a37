"""What an evaluation says in a few lines: retrieval before and after a fit, beside what bounds it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pfgtrain.evaluate import EvaluateReport, Figure

__all__ = ["retrieval_lines", "top1_words"]

_GALLERIES = {"guide": "the guide", "view": "another view"}
_BOUNDS = {
    "no_pfg": "without a guide",
    "shuffled": "of another guide",
    "style": "knows the style alone",
    "style_hair": "... and hair colour",
    "copier": "nearest training image",
    "ceiling": "the guide itself",
}


def top1_words(reports: Mapping[str, EvaluateReport]) -> str:
    """Top-1 of each report, in order, and of a style copier; by the judge, if there is one."""
    last = list(reports.values())[-1]
    role = "judge" if "judge" in last.viewers else "tagger"
    found = " -> ".join(str(_top1(report, role, "pfg", "guide")) for report in reports.values())
    style = _top1(last, role, "style", "guide")
    beside = f", style-only {style.value:.2f}" if style else ""
    return f"{found} by the {role}{beside}"


def retrieval_lines(reports: Mapping[str, EvaluateReport]) -> Iterator[str]:
    """Top-1 with 95 % intervals: a line a report, then a line a row to compare with, of the last report.

    A column is a viewer and a gallery.
    """
    last = list(reports.values())[-1]
    columns = [
        (role, gallery)
        for role, viewer in last.viewers.items()
        for gallery in _GALLERIES
        if gallery in viewer.chance
    ]
    yield _line("top-1 by, against", [f"{role}, {_GALLERIES[where]}" for role, where in columns])
    for name, report in reports.items():
        yield _line(
            f"pictures, {name}", [_text(_top1(report, role, "pfg", where)) for role, where in columns]
        )
    for row, words in _BOUNDS.items():
        if row in last.viewers["tagger"].rows:
            yield _line(words, [_text(_top1(last, role, row, where)) for role, where in columns])


def _top1(report: EvaluateReport, role: str, row: str, gallery: str) -> Figure | None:
    rows = report.viewers[role].rows
    found = rows[row].retrieval.get(gallery) if row in rows else None
    return found.top1 if found else None


def _text(figure: Figure | None) -> str:
    return str(figure) if figure else "-"


def _line(name: str, cells: list[str]) -> str:
    return "  " + "".join([f"{name:24}", *(f"{cell:22}" for cell in cells)]).rstrip()
