"""The page of a report: every guide beside all its results, in order and unpicked, in one HTML file.

No script and nothing from the network; pictures by relative links, at their own pixels.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from html import escape
from urllib.parse import quote

from pfgtrain.evaluate.report import EvaluateReport
from pfgtrain.evaluate.rows import ROWS
from pfgtrain.evaluate.tables import Table, report_tables, verdict

__all__ = ["page"]

_STYLE = """
:root { color-scheme: light dark; font: 15px/1.4 system-ui, sans-serif }
body { margin: 1.5rem; max-width: 110rem }
table { border-collapse: collapse; margin: .5rem 0 1.5rem; font-variant-numeric: tabular-nums }
th, td { padding: .15rem .7rem .15rem 0; text-align: left; white-space: nowrap; vertical-align: top }
thead th { border-bottom: 1px solid gray }
.scroll { overflow-x: auto }
section { border-top: 1px solid color-mix(in srgb, currentColor 25%, transparent); padding: .6rem 0 }
h3 { margin: 0 0 .4rem; font-size: 1rem }
figure { display: inline-block; margin: 0 .5rem .3rem 0 }
figure.result { margin-right: 2px }
figcaption, .small { font-size: .8rem; opacity: .75 }
img { display: block; image-rendering: auto }
mark { padding: 0 .3rem }
"""
_KINDS = {"guide": "guide", "vae": "through the VAE", "view": "other view", "results": "", "copy": "copier"}


def page(report: EvaluateReport) -> str:
    """The HTML of a report whose pictures are on disk."""
    flagged = report.flagged
    warning = f"{len(flagged)} guides were in the run's selection: {', '.join(flagged)}" if flagged else None
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8>",
        '<meta name=viewport content="width=device-width">',
        f"<title>Guide fidelity</title><style>{_STYLE}</style>",
        f"<h1>Guide fidelity</h1><p><b>{escape(verdict(report))}</b></p>",
        *(f"<p>{escape(note)}</p>" for note in (*report.notes, *([warning] if warning else []))),
        *map(_table, report_tables(report)),
        _rows(),
        _settings(report),
        f"<h2>No PFG</h2><p class=small>{ROWS['no_pfg']}, from the same noise.</p>",
        *(_figure(path, caption="", report=report) for path in report.no_pfg_pictures),
        f"<h2>All {len(report.guides)} guides</h2>",
        *(_guide(report, index) for index in range(len(report.guides))),
        "</html>",
    ]
    return "\n".join(parts) + "\n"


def _table(table: Table) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in table.columns)
    rows = "\n".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) for row in table.rows)
    return (
        f"<h2>{escape(table.title)}</h2><div class=scroll><table><thead><tr>{head}</tr></thead>"
        f"<tbody>{rows}</tbody></table></div>"
    )


def _rows() -> str:
    terms = "".join(f"<tr><th>{name}</th><td>{escape(words)}</td></tr>" for name, words in ROWS.items())
    return (
        f"<table>{terms}</table><p class=small>Intervals: 95 %, percentile bootstrap over guides. Cosines are"
        " to the guide as it is, centred on the mean of all guides; scaled: shuffled is 0, ceiling is 1."
        " Ties in a gallery count as misses.</p>"
    )


def _settings(report: EvaluateReport) -> str:
    values = {**asdict(report.options), **report.model}
    told = "".join(f"<tr><th>{escape(k)}</th><td>{escape(str(v))}</td></tr>" for k, v in values.items())
    return f"<details><summary>Settings</summary><table>{told}</table></details>"


def _guide(report: EvaluateReport, index: int) -> str:
    guide = report.guides[index]
    names = [name for name in (guide.character, guide.style) if name]
    mark = " <mark>in the run's selection</mark>" if guide.in_selection else ""
    pictures = "\n".join(
        _figure(path, caption=words, report=report, result=kind == "results")
        for kind, words in _KINDS.items()
        for path in guide.pictures.get(kind, [])
    )
    numbers = "; ".join(_numbers(report, index))
    return (
        f"<section><h3>{escape(guide.name)} <span class=small>{escape(', '.join(names))}</span>{mark}</h3>"
        f"{pictures}<div class=small>{escape(numbers)}</div></section>"
    )


def _numbers(report: EvaluateReport, index: int) -> Iterable[str]:
    """What each viewer says of one guide's results."""
    for role, viewer in report.viewers.items():
        row = viewer.rows["pfg"]
        cosine = row.cosines[index]
        words = [f"cosine {cosine:.2f}" if cosine is not None else "no cosine"]
        for gallery in ("guide", "view"):
            if gallery in row.retrieval and (found := row.retrieval[gallery].ranks[index]):
                words.append(f"rank among {gallery}s {_joined(found)}")
        yield f"{role}: {', '.join(words)}"
    if report.nearest_training:
        near = report.nearest_training.per_result[index]
        yield f"nearest training image: {', '.join(f'{value:.2f}' for value in near)}"


def _joined(values: Sequence[int]) -> str:
    return " ".join(map(str, values))


def _figure(path: str, *, caption: str, report: EvaluateReport, result: bool = False) -> str:
    """A picture; a guide may be larger than what is made of it, and is shown as high as that."""
    height = report.model["resolution"]
    kind = " class=result" if result else ""
    words = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    image = f'<img src="{quote(path)}" height={height} loading=lazy alt="{escape(caption)}">'
    return f"<figure{kind}>{image}{words}</figure>"
