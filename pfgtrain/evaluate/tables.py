"""The report for people: tables of rows and figures, and one line that says how it went."""

from __future__ import annotations

from dataclasses import dataclass

from pfgtrain.evaluate.report import IN_STYLE, EvaluateReport, Figure, ViewerReport
from pfgtrain.evaluate.viewers import JUDGE, TAGGER

__all__ = ["Table", "report_tables", "verdict"]

_NONE = "-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A title, the names of the columns, and rows of text."""

    title: str
    columns: list[str]
    rows: list[list[str]]


def report_tables(report: EvaluateReport) -> list[Table]:
    """For each viewer what rows come to, then its attributes; what else was measured; what was tried."""
    tables = []
    for role, viewer in report.viewers.items():
        tables += [*_fidelity(role, viewer), _attributes(role, viewer)]
    tables += [*_faces(report), _drawing(report), _spread(report)]
    if report.tuning:
        best = report.tuning.best
        rows = [
            [
                f"{trial.guidance_scale:g}",
                f"{trial.pfg_scale:g}",
                _text(trial.scaled),
                _text(trial.top1),
                "used" if index == best else "",
            ]
            for index, trial in enumerate(report.tuning.trials)
        ]
        title = f"tried on {len(report.tuning.guides)} other guides"
        tables.append(Table(title=title, columns=["guidance", "pfg scale", "scaled", "top-1", ""], rows=rows))
    return tables


def verdict(report: EvaluateReport) -> str:
    """One line: top-1 among the guides by each viewer, the judge first, beside what bounds it."""
    viewers = [report.viewers[role] for role in (JUDGE, TAGGER) if role in report.viewers]
    first, rows = viewers[0], viewers[0].rows
    bounds = [f"chance {first.chance['guide'][0]:.2f}"]
    for name, words in (
        ("no_pfg", "no PFG"),
        ("style", "style-only"),
        ("copier", "copier"),
        ("ceiling", "ceiling"),
    ):
        figure = rows[name].retrieval["guide"].top1 if name in rows else None
        if figure:
            bounds.append(f"{words} {figure.value:.2f}")
    among = f" among {len(report.guides) + report.further}" if report.further else ""
    count = f"{len(report.guides)} guides{among}"
    line = f"top-1 {rows['pfg'].retrieval['guide'].top1} of {count} ({', '.join(bounds)})"
    if len(viewers) == 1:
        return line
    return f"{line} by the judge; {viewers[1].rows['pfg'].retrieval['guide'].top1} by the run's tagger"


def _fidelity(role: str, viewer: ViewerReport) -> list[Table]:
    """Who it is, among all guides and within one style: two tables, for one would be wider than a screen."""
    tables = []
    for words, within in (("who is it", False), ("who is it, within one style", True)):
        galleries = [gallery for gallery in viewer.chance if gallery.endswith(IN_STYLE) == within]
        columns = [role] if within else [role, "scaled"]
        columns += [f"{top} {_words(gallery)}" for gallery in galleries for top in ("top-1", "top-5")]
        rows = [
            [
                name,
                *([] if within else [_text(row.scaled)]),
                *(_text(f) for g in galleries for f in (row.retrieval[g].top1, row.retrieval[g].top5)),
            ]
            for name, row in viewer.rows.items()
        ]
        chance = [f"{value:.2f}" for g in galleries for value in viewer.chance[g]]
        rows.append(["chance", *([] if within else [_NONE]), *chance])
        if galleries:
            tables.append(Table(title=f"{role} {viewer.name}: {words}", columns=columns, rows=rows))
    return tables


def _attributes(role: str, viewer: ViewerReport) -> Table:
    rows = [
        [name, *(_text(row.attributes[group]) for group in viewer.tags)] for name, row in viewer.rows.items()
    ]
    columns = [role, *(f"{_words(group)} ({count})" for group, count in viewer.tags.items())]
    return Table(title=f"{role} {viewer.name}: F1 of the guide's tags", columns=columns, rows=rows)


def _faces(report: EvaluateReport) -> list[Table]:
    """What of a face is told, over what is left of it in the guides through the VAE; by the judge, if any."""
    role, viewer = list(report.viewers.items())[-1]
    names = list(viewer.rows["pfg"].face)
    rows = [
        [name, *(_text(row.face[part]) for part in names)]
        for name, row in viewer.rows.items()
        if name != "ceiling"
    ]
    title = f"{role} {viewer.name}: F1 of a face's tags as a share of the ceiling's"
    return [Table(title=title, columns=[role, *map(_words, names)], rows=rows)] if names else []


def _drawing(report: EvaluateReport) -> Table:
    """How pictures are drawn, and how far they are from real ones as each viewer sees them."""
    rows = []
    for name, row in report.pixels.items():
        kids = [
            _text(viewer.kid_real if name == "guide" else viewer.rows[name].kid, places=3)
            for viewer in report.viewers.values()
        ]
        rows.append([name, _text(row.edges), _text(row.lines), _text(row.colour, places=1), *kids])
    columns = ["", "edges", "lines", "colour error", *(f"KID, {role}" for role in report.viewers)]
    return Table(title="how it is drawn", columns=columns, rows=rows)


def _spread(report: EvaluateReport) -> Table:
    rows = []
    for role, viewer in report.viewers.items():
        rows.append([f"diversity, {role}", _text(viewer.diversity.results), _text(viewer.diversity.views)])
    near = report.nearest_training
    if near:
        rows.append(["nearest training image, mean cosine", _text(near.results), _text(near.guides)])
        rows.append(["nearest training image, highest", f"{near.results_max:.2f}", f"{near.guides_max:.2f}"])
    return Table(title="beside real images", columns=["", "results", "real"], rows=rows)


def _words(name: str) -> str:
    return name.replace("_", " ")


def _text(figure: Figure | None, *, places: int = 2) -> str:
    return figure.text(places) if figure else _NONE
