"""A report as one HTML file: pictures first, then figures; no script, and nothing from the network."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable
from html import escape
from importlib.resources import files
from pathlib import PurePath

from pfgdata.pages import page_html
from pfgdata.report.figures import Example, NearCopies, StoreReport
from pfgdata.report.marks import plural, size_text
from pfgdata.report.sections import sections

__all__ = ["report_page"]


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
    return page_html(f"{report.store}: report", "\n".join(part for part in body if part), style=_style())


def _style() -> str:
    return (files("pfgdata") / "assets" / "report.css").read_text("utf-8")


def _line(report: StoreReport) -> str:
    """What the page is of, in one line."""
    of = plural(report.images, "image")
    if report.where is not None:
        of = f"{report.images:,} of {plural(report.total, 'image')}: <code>{escape(report.where)}</code>"
    words = [of, plural(report.characters.different, "character"), plural(report.general.different, "tag")]
    if report.failed:
        words.append(f"{report.failed:,} failed")
    words.append(f"{size_text(report.rows.bytes)} of pictures")
    return " · ".join(words)


def _pictures(report: StoreReport) -> str:
    if not report.examples:
        if report.examples_not_read:
            tried = f"{report.examples_not_read:,} pictures"
            return f'<p class="quiet">None of {tried} could be read: they are gone, or changed.</p>'
        return ""
    shown = "\n".join(_figure(one, one.character or PurePath(one.file).name) for one in report.examples)
    return f'<div class="pictures">\n{shown}\n</div>'


def _near(near: NearCopies | None) -> Iterable[str]:
    """Pictures that are there twice."""
    if near is None:
        return
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in near.kinds.items() if count)
    found = f"{kinds} of {near.kept:,} kept" if kinds else "nothing"
    yield f"<h2>There twice</h2><p>{found}, hashes within {near.radius} bits of 64.</p>"
    if near.not_read:
        yield f'<p class="quiet">{plural(near.not_read, "candidate")} could not be read.</p>'
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
    source = f"data:image/jpeg;base64,{b64encode(example.jpeg).decode()}"
    return (
        f'<figure title="{escape(" · ".join(told))}"><img src="{source}" alt="{escape(caption)}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def _about(report: StoreReport) -> str:
    tagger, least = report.tagger, report.thresholds
    weights = str(tagger["weights_sha256"])[:12]
    return (
        f"Tagged by {escape(str(tagger['name']))} (weights {escape(weights)}). General tags count from"
        f" {least['general']:g}, characters from {least['character']:g}; scores are kept from"
        f" {report.score_floor:g} on. Made {escape(report.created)} in {report.seconds:.1f} s by pfgdata"
        " report."
    )
