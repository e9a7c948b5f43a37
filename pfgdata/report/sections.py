"""The figures of a report as HTML, below its pictures: a card each, in sections."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from html import escape

from pfgdata.report.figures import ColumnFigures, Counted, IngestFigures, PolicyFigures, StoreReport
from pfgdata.report.marks import (
    bars,
    compact,
    heat,
    histogram,
    legend,
    lines,
    percent,
    plural,
    share_bar,
    size_text,
)

__all__ = ["sections"]

_SHOWN_REASONS = 20
_SHOWN_INGESTS, _SHOWN_STAGES = 20, 8
_STAGES = ("read", "decode", "preprocess", "model", "write")
_POINTS = 120  # of a line


def sections(report: StoreReport) -> Iterator[str]:
    """Each section that has anything to show."""
    yield _tiles(report)
    if report.images:
        yield _section("Who and what", [*_content(report)])
        yield _section("Scores", [*_scores(report)])
        yield _section("Sizes and buckets", [*_sizes(report)])
    yield _section("Your columns", [_column(one) for one in report.columns])
    yield _section("Failures and copies", [*_failures(report), *_copies(report)])
    yield _section("Ingests", [*_ingests(report)])


def _section(title: str, cards: Sequence[str]) -> str:
    return "\n".join([f'<h2>{title}</h2>\n<div class="cards">', *cards, "</div>"]) if cards else ""


def _card(title: str, body: str, *, note: str = "", wide: bool = False) -> str:
    told = f' <span class="quiet small">{note}</span>' if note else ""
    return f'<section class="card{" wide" if wide else ""}"><h3>{escape(title)}{told}</h3>{body}</section>'


def _tiles(report: StoreReport) -> str:
    again = report.images - report.contents
    facts = {
        "images": f"{report.images:,}",
        "distinct contents": f"{report.contents:,}",
        "equal bytes again": f"{again:,}",
        "failures": f"{report.failed:,}",
        "shards": f"{report.shards:,}",
        "bytes of pictures": size_text(report.rows.bytes),
        "in the store's shards": size_text(sum(report.store_bytes.values())),
    }
    tiles = "".join(
        f'<div><b>{value}</b><span class="quiet small">{escape(name)}</span></div>'
        for name, value in facts.items()
    )
    return f'<div class="tiles">{tiles}</div>'


def _content(report: StoreReport) -> Iterator[str]:
    rows, images = report.rows, report.images
    animated = [Counted(name="animated", count=rows.animated)] if rows.animated else []
    yield _card(
        "Ratings and formats",
        f"{bars(rows.ratings, total=images)}<hr>{bars([*rows.formats, *animated], total=images)}",
    )
    yield _card(
        "Tags of an image",
        histogram(rows.tags_per_image, title="Images by how many general tags count", unit="images"),
        note="images by how many general tags count",
    )
    if report.characters.different > 1:
        yield _card(
            "Images of each character",
            _ranks(report.images_per_character),
            note="by rank, both logarithmic",
        )
    yield _card(
        "Tags",
        f'<div class="two">{bars(report.general.top, total=images)}</div>',
        note=_first(report.general.top, report.general.different),
        wide=True,
    )
    if report.characters.different:
        without = (
            f"{plural(rows.without_character, 'image')} ({percent(rows.without_character / images)}) without"
            f" a character over {report.thresholds['character']:g}."
        )
        yield _card(
            "Characters",
            f'<div class="two">{bars(report.characters.top, total=images)}</div>'
            f'<p class="quiet small">{without}</p>',
            note=_first(report.characters.top, report.characters.different),
            wide=True,
        )


def _first(top: Sequence[Counted], different: int) -> str:
    return f"the first {len(top):,} of {different:,}" if different > len(top) else f"{different:,}"


def _ranks(counts: Sequence[int]) -> str:
    """Images over the rank of a character, both by the logarithm."""
    last = math.log(len(counts)) or 1.0
    ranks = sorted(
        {round(math.exp(last * step / _POINTS)) for step in range(_POINTS + 1)}
        & set(range(1, len(counts) + 1))
    )
    powers = [10**power for power in range(int(math.log10(len(counts))) + 1)]
    return lines(
        {"characters": [(math.log(rank) / last, counts[rank - 1]) for rank in ranks]},
        title="Images of each character by rank",
        x_ticks=[(math.log(power) / last, compact(power)) for power in powers],
        log=True,
    )


def _scores(report: StoreReport) -> Iterator[str]:
    rows, thresholds = report.rows, report.thresholds
    for title, found, kind in (
        ("General tags", rows.general_scores, "general"),
        ("Characters", rows.character_scores, "character"),
    ):
        at = (thresholds[kind], f"counts from {thresholds[kind]:g}")
        count = sum(found.counts)
        yield _card(
            title,
            histogram(
                found, title=f"Scores of {title.lower()}", unit="scores", words=_score, log=True, at=at
            ),
            note=f"{count:,} scores from {report.score_floor:g} on; logarithmic",
        )
    names = list(rows.rating_scores)
    bins = max(len(found.counts) for found in rows.rating_scores.values()) if names else 0
    if bins:
        series = {
            name: [((index + 0.5) / bins, count) for index, count in enumerate(found.counts)]
            for name, found in rows.rating_scores.items()
        }
        ticks = [(step / 5, f"{step / 5:g}") for step in range(6)]
        yield _card(
            "Ratings",
            lines(series, title="Scores of the ratings", x_ticks=ticks, log=True) + legend(names),
            note="images by the score of each; logarithmic",
        )


def _score(value: float) -> str:
    return f"{value:.2g}"


def _ratio(value: float) -> str:
    return f"{value:.2g}:1" if value >= 1 else f"1:{1 / value:.2g}"


def _sizes(report: StoreReport) -> Iterator[str]:
    sizes = report.rows.sizes
    if sizes is not None:
        words = ", ".join(
            f"{name} {side[0]:,} to {side[2]:,} px, median {side[1]:,}"
            for name, side in (("width", sizes.width), ("height", sizes.height))
        )
        yield _card(
            "Width and height",
            heat(sizes.grid, title="Images by width and height") + f'<p class="quiet small">{words}.</p>',
            note="width across, height up, pixels; both logarithmic",
        )
        yield _card(
            "Megapixels",
            histogram(sizes.megapixels, title="Images by megapixels", unit="images", words=_score),
            note="images",
        )
        yield _card(
            "Shape",
            histogram(sizes.ratios, title="Images by width over height", unit="images", words=_ratio),
            note="images by width over height",
        )
    yield _card("What buckets would waste", _waste(report.rows.policies), wide=True)


def _waste(policies: Sequence[PolicyFigures]) -> str:
    head = ("resolution", "buckets used", "cut away", "lose over a tenth", "enlarged", "by, median")
    rows = [
        (
            f"{one.resolution}",
            f"{one.used} of {one.buckets}",
            f"{one.cropped:.1%}",
            f"{one.cropped_much:.1%}",
            f"{one.upscaled:.1%}",
            f"{one.upscale:.2f}" if one.upscale is not None else "",
        )
        for one in policies
    ]
    fullest = "".join(
        f'<div><h3>{one.resolution} px <span class="quiet small">{told}</span></h3>{bars(one.largest)}</div>'
        for one, told in ((one, f"buckets, {_first(one.largest, one.used)}") for one in policies)
    )
    return (
        f'<div class="cards lists"><div>{_table(head, rows, numbers=range(1, 6))}<p class="quiet small">cut'
        " away: the mean part of a picture's area; enlarged: pictures smaller than their bucket. Sides"
        f" are multiples of {policies[0].step}, 2/3 to 4/3 of the resolution.</p></div>"
        f'<div>{_crops(policies)}</div></div><div class="cards lists">{fullest}</div>'
    )


def _crops(policies: Sequence[PolicyFigures]) -> str:
    """Images by the part that is cut away, a line for each resolution."""
    edges, bins = policies[0].crop.edges, len(policies[0].crop.counts)
    series = {
        f"{one.resolution} px": [((place + 0.5) / bins, count) for place, count in enumerate(one.crop.counts)]
        for one in policies
    }
    ticks = [(place / bins, f"{edge:.0%}") for place, edge in enumerate(edges)]
    title = "Images by the part that is cut away"
    told = f'<p class="quiet small">{title.lower()}:</p>'
    return told + lines(series, title=title, x_ticks=ticks) + legend(list(series))


def _column(one: ColumnFigures) -> str:
    if one.problem is not None:
        return _card(one.name, f'<p class="problem">{escape(one.problem)}</p>')
    note = f"{escape(one.type)}, {plural(one.images, 'image')}"
    if one.different is not None:
        note += f", {one.different:,} different"
    body = bars(one.top)
    if one.histogram is not None:
        body = histogram(one.histogram, title=f"Images by {one.name}", unit="images")
    return _card(one.name, body, note=note)


def _failures(report: StoreReport) -> Iterator[str]:
    if not report.failures:
        return
    rows = [(f"{one.count:,}", one.kind, one.reason, one.example) for one in report.failures[:_SHOWN_REASONS]]
    shown = f"{plural(report.failed, 'image')} of the whole store, {plural(len(report.failures), 'reason')}"
    note = f"{shown}, the first {_SHOWN_REASONS}" if len(report.failures) > _SHOWN_REASONS else shown
    table = _table(("images", "kind", "reason", "for example"), rows, numbers=range(1))
    yield _card("Failures by reason", table, note=note, wide=True)


def _copies(report: StoreReport) -> Iterator[str]:
    if report.again:
        again = report.images - report.contents
        yield _card(
            "Equal bytes",
            bars(report.again),
            note=f"{plural(again, 'image')} with the bytes of another; those that are there most often",
            wide=True,
        )


def _ingests(report: StoreReport) -> Iterator[str]:
    if not report.ingests:
        return
    shown = report.ingests[: -_SHOWN_INGESTS - 1 : -1]  # the latest first
    facts = list(dict.fromkeys(name for one in shown for name in one.writer if name in _FACTS))
    head = ("began (UTC)", "images", "seconds", "images/s", "shards", *facts)
    rows = [
        (
            one.began.removesuffix("+00:00").replace("T", " "),
            f"{one.images:,}",
            f"{one.seconds:,.1f}",
            f"{one.images_per_second:,.1f}" if one.images_per_second else "",
            f"{one.shards:,}{' merged' if one.merged else ''}",
            *(one.writer.get(name, "") for name in facts),
        )
        for one in shown
    ]
    staged = [one for one in shown if one.stages][:_SHOWN_STAGES]
    parts = [_table(head, rows, numbers=range(1, 5))]
    if staged:
        parts += [
            '<p class="quiet small">Seconds of work by stage, in sum over threads:</p>',
            *map(_stages, staged),
        ]
        parts.append(legend(_STAGES))
    parts += map(_versions, _writers(shown))
    count = len(report.ingests)
    note = f"the last {_SHOWN_INGESTS} of {count:,}" if count > _SHOWN_INGESTS else plural(count, "ingest")
    yield _card("Throughput", "".join(parts), note=note, wide=True)


_FACTS = ("tagger", "provider", "precision", "decode", "batch size", "merged by")


def _stages(one: IngestFigures) -> str:
    total = sum(one.stages.values())
    words = ", ".join(f"{name} {seconds:,.1f}" for name, seconds in one.stages.items())
    parts = [one.stages.get(name, 0.0) / total for name in _STAGES]
    began = escape(one.began[:16].replace("T", " "))
    return f'<p class="small"><span class="quiet">{began}</span> {words}</p>{share_bar(*parts)}'


def _writers(ingests: Sequence[IngestFigures]) -> list[dict[str, str]]:
    """Versions, each different set once."""
    every = [{name: value for name, value in one.writer.items() if name not in _FACTS} for one in ingests]
    return [dict(items) for items in dict.fromkeys(tuple(sorted(one.items())) for one in every)]


def _versions(versions: dict[str, str]) -> str:
    words = ", ".join(f"{name} {version}" for name, version in versions.items())
    return f'<p class="quiet small">Written with {escape(words)}.</p>'


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: range) -> str:
    """A table of text; the columns `numbers` are set to the right."""

    def cells(row: Sequence[str], tag: str) -> str:
        right = ' class="number"'
        return "".join(
            f"<{tag}{right if place in numbers else ''}>{escape(cell)}</{tag}>"
            for place, cell in enumerate(row)
        )

    body = "".join(f"<tr>{cells(row, 'td')}</tr>" for row in rows)
    top = f"<thead><tr>{cells(head, 'th')}</tr></thead>"
    return f'<div class="scroll"><table>{top}<tbody>{body}</tbody></table></div>'
