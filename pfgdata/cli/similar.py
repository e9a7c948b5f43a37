"""`pfgdata similar`: the images of a store that are most like others."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pfgdata.cli.options import CharacterThreshold, Features, Json, StoreOption, Threshold, Where, features_of
from pfgdata.query import QueryJob
from pfgdata.screen import ScreenProgress, on_terminal, print_json, show_facts, show_table

if TYPE_CHECKING:
    from pfgdata.extractors import Extractor
    from pfgdata.records import Progress
    from pfgdata.similarity import Eye
    from pfgdata.store import SetFeatures, Store
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
    features: Features = None,
    json: Json = False,
) -> None:
    """Show the images most like each IMAGE, by the cosine of their features, and which tags both share.

    Every row is compared. Equal scores (to six places) go by content_id; same bytes are shown once, and no
    IMAGE itself. One that is not in the store is tagged first, by the store's own tagger. Features share a
    large common part, so raw scores lie close together: --center spreads them. By --features LABEL the
    features are those of another set; an IMAGE that is not in the store is then looked at by its extractor,
    and has no tags to share.
    """
    from pfgdata.query import LikenessOptions, most_similar
    from pfgdata.store import Store

    there = Store.open(store)
    job = QueryJob(threshold=threshold, character_threshold=character_threshold)
    options = LikenessOptions(k=k, where=where, mean=mean, center=center)
    own = features_of(there, features)
    with job.session(there) as session, ScreenProgress() as progress:
        eye = None if own is None else _eye(own, progress)
        answers = most_similar(
            session, there, images, options, tagger=lambda: _tagger(there, progress), eye=eye
        )
    _show(answers, json=json)


def _eye(features: SetFeatures, progress: Progress) -> Eye:
    from pfgdata.features import extractor_of
    from pfgdata.similarity import Eye

    def extractor() -> Extractor:
        progress.say(f"not every IMAGE is in the store: looked at now by {features.set.info.extractor}")
        return extractor_of(features.set)

    return Eye(features=features, extractor=extractor)


def _tagger(store: Store, progress: Progress) -> Tagger:
    from pfgdata.ingest import IngestJob, tagger_for

    progress.say(f"not every IMAGE is in the store: tagged now by {store.identity.tagger.name}")
    return tagger_for(store, IngestJob())


def _show(answers: Sequence[dict[str, Any]], *, json: bool) -> None:
    from pfgdata.similarity import named_file

    if json:
        for answer in answers:
            print_json(answer)
    else:
        lines = [(" ".join(answer["query"]), row) for answer in answers for row in answer["results"]]
        show_table(
            ("file", "query", "rank", "score", "shared tags"),
            (
                (named_file(row), query, str(row["rank"]), f"{row['score']:.4f}", _few(row["shared_tags"]))
                for query, row in lines
            ),
        )
    if not any(answer["results"] for answer in answers):
        show_facts({"nothing": "the store, or what --where selects of it, has no other image"})


def _few(tags: Sequence[str]) -> str:
    if on_terminal() and len(tags) > _SHOWN_TAGS:
        return f"{' '.join(tags[:_SHOWN_TAGS])} +{len(tags) - _SHOWN_TAGS}"
    return " ".join(tags)
