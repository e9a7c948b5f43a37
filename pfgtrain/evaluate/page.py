"""The page of a report: every guide beside all its results, in order and unpicked, then what they come to.

No script and nothing from the network; pictures by relative links, each a link to itself at its own pixels.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from html import escape
from urllib.parse import quote

from pfgdata.pages import page_html
from pfgtrain.evaluate.report import EvaluateReport
from pfgtrain.evaluate.rows import GUIDE_ITSELF, ROWS
from pfgtrain.evaluate.tables import Table, report_tables, verdict

__all__ = ["page"]

_STYLE = """
.verdict { font-size: 1.05rem }
.guides { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 42rem), 1fr)); gap: 1rem }
.guides { margin: 1.2rem 0 }
.row { display: grid; gap: 3px; align-items: start; justify-content: start }
.row > :first-child { grid-row: 1 / span var(--lines) }
.guides > section > .row > :first-child { margin-right: .8rem }
.row img { border-radius: var(--radius); background: var(--sunken); width: 100%; height: auto }
.beside { margin: .6rem 0 .2rem }
.beside summary { cursor: pointer }
.beside .row { margin-top: .4rem }
h3 .small { font-weight: 400 }
td, th { white-space: nowrap }
.settings td, .terms td { white-space: normal; overflow-wrap: anywhere }
"""
_SHOWN = 192  # pixels wide at most, whatever they have
_BESIDE_IT = 6  # results beside their guide; more stand below these
_KINDS = {
    "guide": "guide",
    "results": "",
    "vae": "guide through the VAE",
    "view": "other view",
    "copy": "nearest training image",
}


def page(report: EvaluateReport) -> str:
    """The HTML of a report whose pictures are on disk."""
    flagged = report.flagged
    warning = f"{len(flagged)} guides were trained on: {', '.join(flagged)}" if flagged else None
    notes = (*report.notes, *([warning] if warning else []))
    guides = "\n".join(_guide(report, index) for index in range(len(report.guides)))
    parts = [
        "<main>",
        f'<h1>Guide fidelity</h1><p class="verdict"><b>{escape(verdict(report))}</b></p>',
        *(f'<p class="quiet">{escape(note)}</p>' for note in notes),
        f'<div class="guides">\n{guides}\n</div>' if report.guides else "",
        _no_pfg(report),
        *map(_table, report_tables(report)),
        _rows(),
        _settings(report),
        "</main>",
    ]
    return page_html("Guide fidelity", "\n".join(part for part in parts if part), style=_STYLE)


def _guide(report: EvaluateReport, index: int) -> str:
    """A guide, then its results; what else there is of it is folded."""
    guide = report.guides[index]
    names = [name for name in (guide.character, guide.style) if name]
    mark = " <mark>trained on</mark>" if guide.trained_on else ""
    kept = {
        kind: [_figure(path, words) for path in guide.pictures.get(kind, [])]
        for kind, words in _KINDS.items()
    }
    shown, results = [*kept["guide"], *kept["results"]], len(kept["results"])
    beside = [figure for kind in ("vae", "view", "copy") for figure in kept[kind]]
    folded = f'<details class="beside small"><summary>beside it</summary>{_row(report, beside)}</details>'
    return (
        f'<section class="card"><h3>{escape(guide.name)} <span class="small quiet">{escape(", ".join(names))}'
        f"</span>{mark}</h3>{_row(report, shown, lines=-(-results // _BESIDE_IT))}{folded if beside else ''}"
        f'<div class="small quiet">{escape("; ".join(_numbers(report, index)))}</div></section>'
    )


def _row(report: EvaluateReport, figures: Sequence[str], *, lines: int = 1) -> str:
    """Pictures beside each other, the first one beside all `lines` of the others."""
    side = min(_SHOWN, report.model["resolution"])
    columns = min(len(figures), _BESIDE_IT + 1)
    style = f"grid-template-columns: repeat({columns}, minmax(0, {side}px)); --lines: {max(1, lines)}"
    return f'<div class="row" style="{style}">{"".join(figures)}</div>'


def _no_pfg(report: EvaluateReport) -> str:
    if not report.no_pfg_pictures:
        return ""
    pictures = _row(report, [_figure(path, "") for path in report.no_pfg_pictures])
    words = f'<p class="small quiet">{escape(ROWS["no_pfg"])}, from the same noise.</p>'
    return f"<h2>No PFG</h2>{words}{pictures}"


def _table(table: Table) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in table.columns)
    rows = "\n".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in table.rows
    )
    return (
        f'<h2>{escape(table.title)}</h2><div class="scroll"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )


def _rows() -> str:
    terms = "".join(f"<tr><th>{name}</th><td>{escape(words)}</td></tr>" for name, words in ROWS.items())
    terms += f"<tr><th>guide</th><td>{escape(GUIDE_ITSELF)}</td></tr>"
    return (
        f'<h2>What the rows are</h2><table class="terms">{terms}</table><p class="small quiet">Intervals:'
        " 95 %, percentile bootstrap over guides. Cosines are to the guide as it is, centred on the mean of"
        " all guides; scaled: shuffled is 0, ceiling is 1. Ties in a gallery count as misses. Edges and lines"
        " are energies over those of the ceiling; colour error: of flat regions, 0 to 255; KID: to the other"
        " views as they are, 0 is alike.</p>"
    )


def _settings(report: EvaluateReport) -> str:
    values = {**asdict(report.options), **report.model}
    told = "".join(f"<tr><th>{escape(k)}</th><td>{escape(str(v))}</td></tr>" for k, v in values.items())
    return f'<details><summary>Settings</summary><table class="settings">{told}</table></details>'


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


def _figure(path: str, caption: str) -> str:
    """A picture that leads to itself."""
    link, words = quote(path), f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    image = f'<img src="{link}" loading="lazy" alt="{escape(caption)}">'
    return f'<figure><a href="{link}">{image}</a>{words}</figure>'
