"""`pfgdata duplicates`: what a store has twice, and what a person says of it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pfgdata.cli.options import (
    CharacterThreshold,
    Features,
    Json,
    Replace,
    StoreArgument,
    Threshold,
    Where,
    features_of,
    show_failures,
)
from pfgdata.query import QueryJob
from pfgdata.screen import ScreenProgress, duration, print_json, show_facts, show_table

if TYPE_CHECKING:
    from pfgdata.similarity import DuplicateReport, Member
    from pfgdata.store import Snapshot, Store

__all__ = ["EXAMPLE", "duplicates"]

EXAMPLE = (
    "Examples: pfgdata duplicates feats/ --where \"rating = 'general'\"; "
    "pfgdata duplicates --verdict different a.png b.png"
)
_KINDS = ("same", "copy", "variant", "unsure")
_NONE = "none"  # takes a verdict back


def duplicates(
    store: StoreArgument = Path("feats"),
    where: Where = None,
    threshold: Threshold = 0.35,
    character_threshold: CharacterThreshold = 0.85,
    radius: Annotated[
        int, typer.Option(min=0, max=32, help="Bits, of 64, in which hashes of candidates may differ.")
    ] = 8,
    between: Annotated[
        tuple[str, str] | None,
        typer.Option(
            metavar="EXPR EXPR",
            help="Only pairs of one image in the first and one in the second.",
            show_default="within all",
        ),
    ] = None,
    verdict: Annotated[
        tuple[str, str, str] | None,
        typer.Option(
            metavar="KIND A B",
            help="Say of two images, by path or content_id, that they are `different` or you `keep-both`;"
            " `none` takes it back. Nothing is searched.",
            show_default="no",
        ),
    ] = None,
    select_as: Annotated[
        str | None,
        typer.Option(
            "--select",
            metavar="NAME",
            help="Save the copies, not what is kept of them, as the frozen selection @NAME.",
            show_default=False,
        ),
    ] = None,
    replace: Replace = False,
    features: Features = None,
    json: Json = False,
) -> None:
    """List pictures that are there twice, around the one to keep; no file is ever changed.

    same: equal bytes. copy: resized, recompressed, converted, cropped a little. variant: the same drawing
    with another expression, colour or text. unsure: look yourself. Kept is the larger picture, of equal ones
    that of more bytes, then the older file. Each copy was compared with the one kept for it; the worst is
    marked. Pictures of one colour are compared by bytes alone. Pairs with a verdict are always left out.
    With --select NAME, --where "not @NAME" is each picture once: equal bytes are one image wherever they lie.
    """
    from pfgdata.query import freeze_selection, require_free_name
    from pfgdata.similarity import DuplicateOptions, find_duplicates
    from pfgdata.store import Store

    there = Store.open(store)
    if verdict:
        _say(there, there.snapshot(), verdict, json=json)
        return
    if where and between:
        raise typer.BadParameter("--where and --between exclude each other; put the condition into both EXPR")
    if select_as is not None:
        require_free_name(there, select_as, replace=replace)
    job = QueryJob(threshold=threshold, character_threshold=character_threshold)
    with job.session(there) as session:
        snapshot = session.snapshot
        rows, *other = map(session.select, between or (where,))
    own = features_of(there, features)
    if own is not None:  # less what is on record as failed there
        rows, *other = map(own.present, (rows, *other))
    options = DuplicateOptions(
        radius=radius,
        least=job.thresholds.least(snapshot.vocabulary),
        decided=there.verdicts(),
        features=own,
    )
    with ScreenProgress() as progress:
        report = find_duplicates(
            snapshot,
            rows,
            options=options,
            roots=there.roots(),
            between=other[0] if other else None,
            progress=progress,
        )
    _show(there, snapshot, report, json=json)
    if select_as is not None:
        asked = f" --between {' '.join(map(shlex.quote, between))}" if between else ""
        how = f"the copies of duplicates{asked} --radius {radius}"
        freeze_selection(there, select_as, report.copies, how=how, replace=replace)
        show_facts({f"@{select_as}": f"{len(report.copies.distinct()):,} images, frozen"})


def _say(store: Store, snapshot: Snapshot, verdict: tuple[str, str, str], *, json: bool) -> None:
    from uuid import UUID

    from pfgdata.errors import QueryError
    from pfgdata.similarity import find_stored
    from pfgdata.store import VERDICTS, pair_of

    kind, *names = verdict
    if kind not in (*VERDICTS, _NONE):
        raise typer.BadParameter(f"--verdict {kind}: write {', '.join(VERDICTS)} or {_NONE}")
    ids = []
    for name in names:
        row = find_stored(snapshot, name)
        if row is None:
            raise QueryError(f"{name}: no image of {store.path} has that path or content_id")
        ids.append(row.content_ids[0].tobytes())
    said = next((one for one in VERDICTS if one == kind), None)
    store.set_verdicts({pair_of(ids[0], ids[1]): said})
    known = len(store.verdicts())
    show_facts({"verdict": f"{kind}: {names[0]} and {names[1]}", "on record": f"{known:,} pairs"})
    if json:
        print_json({"verdict": kind, "pair": [str(UUID(bytes=one)) for one in ids], "on_record": known})


def _show(store: Store, snapshot: Snapshot, report: DuplicateReport, *, json: bool) -> None:
    from pfgdata.query import locations
    from pfgdata.similarity import named_file

    places = locations(store.roots(), start=Path.cwd())
    stars = _stars(snapshot, report, places)
    show_failures(report.failures)
    show_facts(_facts(report))
    if json:
        print_json({**_counts(report), "stars": stars})
        return
    show_table(
        ("file", "like", "kind", "bits", "change", "cosine", ""),
        (
            (
                named_file(one),
                named_file(star["keep"]),
                one["kind"],
                *_figures(one),
                "worst" if one["worst"] else "",
            )
            for star in stars
            for one in star["members"]
        ),
    )


def _stars(snapshot: Snapshot, report: DuplicateReport, places: Mapping[str, str]) -> list[dict[str, Any]]:
    """Every star as JSON has it: the row to keep, and its members."""
    from uuid import UUID

    import numpy as np

    from pfgdata.similarity import file_names

    wanted = sorted({row for star in report.stars for row in (star.keep, *(one.row for one in star.members))})
    names = file_names(snapshot, report.rows.take(np.array(wanted, np.int64)), places)
    known = {
        row: {**name, "content_id": str(UUID(bytes=report.rows.content_ids[row].tobytes()))}
        for row, name in zip(wanted, names, strict=True)
    }
    return [
        {
            "keep": known[star.keep],
            "members": [
                {**known[one.row], "kind": one.kind, "worst": one is star.worst, **_likeness(one)}
                for one in sorted(star.members, key=lambda one: _KINDS.index(one.kind))
            ],
        }
        for star in report.stars
    ]


def _likeness(member: Member) -> dict[str, Any]:
    found = member.likeness
    if found is None:
        return {}
    return {
        "bits": found.bits,
        "change": round(found.difference.change, 1),
        "local": round(found.difference.local, 1),
        "area": round(found.difference.area, 4),
        "cosine": round(found.cosine, 4),
        "tags": round(found.tags, 3),
    }


def _counts(report: DuplicateReport) -> dict[str, Any]:
    return {
        "rows": len(report.rows),
        "contents": report.contents,
        "kept": len(report.stars),
        **{kind: sum(m.kind == kind for star in report.stars for m in star.members) for kind in _KINDS},
        "flat": report.flat,
        "compared": report.compared,
        "not_compared": report.not_compared,
        "decided": report.decided,
        "failures": [{"file": file, "kind": kind, "reason": why} for file, kind, why in report.failures],
        "seconds": {name: round(value, 3) for name, value in report.seconds.items()},
    }


def _facts(report: DuplicateReport) -> dict[str, str]:
    counts = _counts(report)
    facts = {
        "looked at": f"{len(report.rows):,} images, {report.contents:,} distinct contents",
        "members": ", ".join(f"{counts[kind]:,} {kind}" for kind in _KINDS)
        + f" of {len(report.stars):,} kept",
        "compared": f"{report.compared:,} pairs of pictures",
        "took": ", ".join(f"{name} {duration(value)}" for name, value in report.seconds.items()),
    }
    if report.flat:
        facts["flat"] = f"{report.flat:,} contents of one colour: compared by their bytes alone"
    if report.not_compared:
        facts["left out"] = f"{report.not_compared:,} pairs beyond the 32 nearest of a picture"
    if report.decided:
        facts["verdicts"] = f"{report.decided:,} pairs left out"
    return facts


def _figures(member: Mapping[str, Any]) -> tuple[str, str, str]:
    if "bits" not in member:
        return "", "", ""
    return str(member["bits"]), f"{member['change']:.1f}", f"{member['cosine']:.3f}"
