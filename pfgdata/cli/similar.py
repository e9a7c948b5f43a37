"""`pfgdata similar`: the images of a store that are most like others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pfgdata.cli.options import CharacterThreshold, Json, StoreOption, Threshold, Where
from pfgdata.screen import ScreenProgress, on_terminal, print_json, show_facts, show_table

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from pfgdata.records import Progress
    from pfgdata.similarity import Similar, Subject
    from pfgdata.store import Snapshot, Store
    from pfgdata.taggers import Tagger

__all__ = ["EXAMPLE", "similar"]

EXAMPLE = "Example: pfgdata similar portrait.png -k 10 --where \"rating = 'general'\""
_SHOWN_TAGS = 8  # of a line in the table


def similar(
    images: Annotated[
        list[str],
        typer.Argument(
            metavar="IMAGE...", help="Image files, or stored images by path (ARCHIVE!MEMBER) or content_id."
        ),
    ],
    store: StoreOption = Path("feats"),
    k: Annotated[int, typer.Option("-k", min=1, help="How many to show for each.")] = 20,
    where: Where = None,
    threshold: Threshold = 0.35,
    character_threshold: CharacterThreshold = 0.85,
    mean: Annotated[bool, typer.Option("--mean", help="Ask once, of the mean of all IMAGEs.")] = False,
    center: Annotated[
        bool, typer.Option("--center", help="Take the mean feature of the store off every feature first.")
    ] = False,
    json: Json = False,
) -> None:
    """Show the images most like each IMAGE, by the cosine of their features, and which tags both share.

    Every row is compared. Equal scores (to six places) go by content_id; same bytes are shown once, and no
    IMAGE itself. One that is not in the store is tagged first, by the store's own tagger. Features share a
    large common part, so raw scores lie close together: --center spreads them.
    """
    from pfgdata.query import Thresholds, locations, select
    from pfgdata.similarity import Neighbours, corpus_mean, least_scores, mean_direction, read_subjects
    from pfgdata.store import Store

    there = Store.open(store)
    snapshot = there.snapshot()
    chosen = Thresholds(general=threshold, character=character_threshold)
    chosen.require(snapshot.score_floor)
    selection = select(snapshot, where, chosen) if where else None
    least = least_scores(
        snapshot.vocabulary, general=chosen.stored("general"), character=chosen.stored("character")
    )
    with ScreenProgress() as progress:
        subjects = read_subjects(
            there, snapshot, images, least=least, tagger=lambda: _tagger(there, progress)
        )
    asked = [subjects] if mean else [[one] for one in subjects]
    features = mean_direction([[one.feature for one in group] for group in asked])
    neighbours = Neighbours(snapshot, selection, mean=corpus_mean(snapshot) if center else None)
    found = neighbours.nearest(features, k, without={one.content_id for one in subjects})
    places = locations(there.roots(), start=Path.cwd())
    answers = [
        _answer(snapshot, group, one, least=least, places=places)
        for group, one in zip(asked, found, strict=True)
    ]
    _show(answers, json=json)


def _tagger(store: Store, progress: Progress) -> Tagger:
    from pfgdata.ingest import IngestJob, tagger_for

    progress.say(f"not every IMAGE is in the store: tagged now by {store.identity.tagger.name}")
    return tagger_for(store, IngestJob())


def _answer(
    snapshot: Snapshot,
    group: Sequence[Subject],
    found: Similar,
    *,
    least: npt.NDArray[np.float32],
    places: Mapping[str, str],
) -> dict[str, Any]:
    """One query and its results, as JSON has them."""
    from uuid import UUID

    from pfgdata.similarity import file_names, tags_over

    names = snapshot.vocabulary.names
    ours = frozenset.intersection(*(one.tags for one in group))
    rows = zip(
        found.scores.tolist(),
        file_names(snapshot, found.rows, places),
        found.rows.content_ids,
        tags_over(snapshot, found.rows, least),
        strict=True,
    )
    results = [
        {
            "rank": rank,
            "score": score,
            **name,
            "content_id": str(UUID(bytes=content.tobytes())),
            "shared_tags": [names[tag] for tag in tags.tolist() if tag in ours],
        }
        for rank, (score, name, content, tags) in enumerate(rows, start=1)
    ]
    return {
        "query": [one.name for one in group],
        "content_id": [str(UUID(bytes=one.content_id)) for one in group],
        "tagged_now": [one.name for one in group if not one.stored],
        "results": results,
    }


def _show(answers: Sequence[dict[str, Any]], *, json: bool) -> None:
    if json:
        for answer in answers:
            print_json(answer)
    else:
        lines = [(" ".join(answer["query"]), row) for answer in answers for row in answer["results"]]
        show_table(
            ("file", "query", "rank", "score", "shared tags"),
            (
                (_named(row), query, str(row["rank"]), f"{row['score']:.4f}", _few(row["shared_tags"]))
                for query, row in lines
            ),
        )
    if not any(answer["results"] for answer in answers):
        show_facts({"nothing": "the store, or what --where selects of it, has no other image"})


def _named(row: Mapping[str, Any]) -> str:
    return row["file"] if row["member"] is None else f"{row['file']}!{row['member']}"


def _few(tags: Sequence[str]) -> str:
    if on_terminal() and len(tags) > _SHOWN_TAGS:
        return f"{' '.join(tags[:_SHOWN_TAGS])} +{len(tags) - _SHOWN_TAGS}"
    return " ".join(tags)
