"""A report as one HTML file: pictures first, then figures; no script, and nothing from the network."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable
from html import escape

from pfgdata.pages import page_html
from pfgdata.report.figures import Example, NearCopies, StoreReport
from pfgdata.report.marks import size_text
from pfgdata.report.sections import sections

__all__ = ["report_page"]

_STYLE = """
:root { --s0: #2f6fde; --s1: #e08a1e; --s2: #2c9c6a; --s3: #b0458f; --s4: #7a6cd0; --s5: #9a9a9a }
@media (prefers-color-scheme: dark) {
  :root { --s0: #7aa7ff; --s1: #f0ab4f; --s2: #5fcf9a; --s3: #e07fc2; --s4: #a79bf5; --s5: #8b8d96 }
}
.pictures { display: grid; grid-template-columns: repeat(4, minmax(0, 1fr)); gap: .6rem; margin: 1rem 0 1.4rem }
@media (min-width: 48rem) { .pictures { grid-template-columns: repeat(8, minmax(0, 1fr)) } }
@media (min-width: 90rem) { .pictures { grid-template-columns: repeat(12, minmax(0, 1fr)) } }
.pictures img { width: 100%; aspect-ratio: 1; object-fit: cover; object-position: 50% 20%; border-radius: var(--radius); background: var(--sunken) }
.pictures figcaption { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; margin-top: .15rem }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(9rem, 1fr)); gap: .8rem; margin: 1rem 0 }
.tiles div { border-left: 3px solid var(--accent); padding-left: .7rem }
.tiles b { display: block; font-size: 1.45rem; line-height: 1.2; font-weight: 600 }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 25rem), 1fr)); gap: 1rem; align-items: start }
.card { min-width: 0 }
.card h3 { display: flex; gap: .5rem; align-items: baseline; flex-wrap: wrap }
.card h3 span { font-weight: 400 }
.card hr { border: 0; border-top: 1px solid var(--line); margin: .5rem 0 }
.wide { grid-column: 1 / -1 }
.plot { width: 100%; height: auto; display: block }
.plot text { font-size: 11px; fill: var(--quiet) }
.plot .atword { fill: var(--text) }
.plot .grid { stroke: var(--line); stroke-width: 1 }
.plot .at { stroke: var(--text); stroke-width: 1; stroke-dasharray: 3 3 }
.plot polyline { fill: none; stroke-width: 2; stroke-linejoin: round }
.bars { list-style: none; margin: 0; padding: 0 }
.bars li { display: grid; grid-template-columns: minmax(0, 11rem) 1fr minmax(3.2rem, auto); gap: .6rem; align-items: center; padding: .1rem 0 }
.bars.parts li { grid-template-columns: minmax(0, 11rem) 1fr minmax(3.2rem, auto) 3.4rem }
.bars .name { overflow: hidden; text-overflow: ellipsis; white-space: nowrap }
.bars .value, .bars .part, td.number, th.number { text-align: right; font-variant-numeric: tabular-nums }
.bars .part { color: var(--quiet) }
.bar { width: 100%; height: .7rem; display: block; border-radius: 2px; background: var(--sunken) }
.legend { display: flex; flex-wrap: wrap; gap: .2rem 1rem; color: var(--quiet) }
.legend span { display: inline-flex; align-items: center; gap: .35rem }
.key { width: .75rem; height: .75rem; border-radius: 2px }
.s0 { fill: var(--s0) } .s1 { fill: var(--s1) } .s2 { fill: var(--s2) } .s3 { fill: var(--s3) } .s4 { fill: var(--s4) } .s5 { fill: var(--s5) }
.l0 { stroke: var(--s0) } .l1 { stroke: var(--s1) } .l2 { stroke: var(--s2) } .l3 { stroke: var(--s3) }
.two { columns: 2 24rem; column-gap: 2rem }
.two li { break-inside: avoid }
.stars { display: flex; flex-wrap: wrap; gap: .8rem 1.6rem }
.star { display: flex; gap: .4rem }
.star figure { width: 7rem }
.star img { border-radius: var(--radius) }
td { overflow-wrap: anywhere }
footer { margin-top: 2.5rem }
"""


def report_page(report: StoreReport) -> str:
    """The whole page of a report."""
    body = [
        "<main>",
        f"<h1>{escape(report.store)}</h1>",
        f"<p>{_line(report)}</p>",
        _pictures(report),
        *_near(report.near),
        *sections(report),
        f'<footer class="quiet small">{_about(report)}</footer>',
        "</main>",
    ]
    return page_html(f"{report.store}: report", "\n".join(part for part in body if part), style=_STYLE)


def _line(report: StoreReport) -> str:
    """What the page is of, in one line."""
    of = f"{report.images:,} images"
    if report.where is not None:
        of = f"{report.images:,} of {report.total:,} images: <code>{escape(report.where)}</code>"
    words = [of, f"{report.characters.different:,} characters", f"{report.general.different:,} tags"]
    if report.failed:
        words.append(f"{report.failed:,} failed")
    words.append(f"{size_text(report.rows.bytes)} of pictures")
    return " · ".join(words)


def _pictures(report: StoreReport) -> str:
    if not report.examples:
        if report.examples_not_read:
            return f'<p class="quiet">None of {report.examples_not_read:,} pictures could be read: they have moved, or changed.</p>'
        return ""
    shown = "\n".join(_figure(one, one.character or one.file) for one in report.examples)
    return f'<div class="pictures">\n{shown}\n</div>'


def _near(near: NearCopies | None) -> Iterable[str]:
    """Pictures that are there twice."""
    if near is None:
        return
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in near.kinds.items())
    yield f"<h2>There twice</h2><p>{kinds} of {near.kept:,} kept, hashes within {near.radius} bits of 64.</p>"
    if near.not_read:
        yield f'<p class="quiet">{near.not_read:,} candidates could not be read.</p>'
    stars = [
        '<div class="star">'
        + _figure(star.keep, "keep")
        + "".join(_figure(one, kind) for kind, one in star.members)
        + "</div>"
        for star in near.stars
    ]
    if stars:
        yield f'<div class="stars">{"".join(stars)}</div>'


def _figure(example: Example, caption: str) -> str:
    told = [
        example.file,
        f"{example.width} x {example.height}",
        *filter(None, (example.rating, example.character)),
    ]
    data = b64encode(example.jpeg).decode()
    return (
        f'<figure title="{escape(" · ".join(told))}"><img src="data:image/jpeg;base64,{data}" alt="{escape(caption)}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def _about(report: StoreReport) -> str:
    tagger = report.tagger
    thresholds = report.thresholds
    return (
        f"Tagged by {escape(str(tagger['name']))} (weights {escape(str(tagger['weights_sha256'])[:12])}). "
        f"General tags count from {thresholds['general']:g}, characters from {thresholds['character']:g}; scores are "
        f"kept from {report.score_floor:g} on. Made {escape(report.created)} in {report.seconds:.1f} s by pfgdata report."
    )
