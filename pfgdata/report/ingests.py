"""Who wrote the store, and how fast: the ingests that its shards have on record.

A shard says when it was committed and how long its images took, so one that begins where another ended,
by the same tagger and machine, is of the same ingest. Workers make theirs side by side, as parts: a time
that several took counts once. A merged shard keeps only sums; it speaks for its inputs once gc has removed
them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from pfgdata.report.figures import IngestFigures
from pfgdata.store import ShardMeta

__all__ = ["ingest_figures"]

_PAUSE = timedelta(seconds=15)  # between two shards of one ingest: a commit waits for the disk
_FACTS = ("tagger", "provider", "precision", "decode", "batch_size")
_STAGES = ("read", "decode", "preprocess", "model", "write")
_SUMS = ("merge", "compact")


def ingest_figures(shards: Iterable[ShardMeta]) -> list[IngestFigures]:
    """The ingests of all `present` shards of a snapshot, replaced ones too, oldest first."""
    shards = list(shards)
    here = {meta.id for meta in shards}
    told = [meta for meta in shards if meta.writer.get("images") and not _has_its_inputs(meta, here)]
    return [_figures(group) for group in _together(sorted(told, key=_begin))]


def _has_its_inputs(meta: ShardMeta, here: set[str]) -> bool:
    return _is_merged(meta) and not here.isdisjoint(meta.replaces)


def _together(shards: Sequence[ShardMeta]) -> Iterator[list[ShardMeta]]:
    group: list[ShardMeta] = []
    until = datetime.min.replace(tzinfo=UTC)
    for meta in shards:
        if group and (_writer(group[-1]) != _writer(meta) or _begin(meta) - until > _PAUSE):
            yield group
            group = []
        until = max(until, _end(meta)) if group else _end(meta)
        group.append(meta)
    if group:
        yield group


def _figures(group: Sequence[ShardMeta]) -> IngestFigures:
    stages = {name: sum(_seconds(meta).get(name, 0.0) for meta in group) for name in _STAGES}
    images = sum(int(meta.writer["images"]) for meta in group)
    total = _took(group)
    return IngestFigures(
        began=_begin(group[0]).isoformat(timespec="seconds"),
        images=images,
        shards=len(group),
        seconds=round(total, 3),
        images_per_second=round(images / total, 2) if total else None,
        stages={name: round(value, 3) for name, value in stages.items() if value},
        writer=_writer(group[0]),
        merged=_is_merged(group[0]),
    )


def _took(group: Sequence[ShardMeta]) -> float:
    """The seconds in which any shard of `group`, sorted by begin, was being made."""
    took, until = 0.0, _begin(group[0])
    for meta in group:
        if _is_merged(meta) or _lacks_time(meta):
            took += _total(meta)
        else:
            took += max(0.0, (_end(meta) - max(until, _begin(meta))).total_seconds())
            until = max(until, _end(meta))
    return took


def _lacks_time(meta: ShardMeta) -> bool:
    """Whether it is a part of which an older pfg kept only when it was adopted."""
    return "part" in meta.writer and "made" not in meta.writer


def _is_merged(meta: ShardMeta) -> bool:
    return meta.writer.get("what") in _SUMS


def _writer(meta: ShardMeta) -> dict[str, str]:
    record = meta.writer
    facts = {name.replace("_", " "): record[name] for name in _FACTS if record.get(name) is not None}
    versions = {name: record[name] for name in ("python", "pyarrow") if name in record}
    versions |= record.get("versions", {})
    merged = {"merged by": record["what"]} if _is_merged(meta) else {}
    return {name: str(value) for name, value in {**facts, **merged, **versions}.items() if value is not None}


def _seconds(meta: ShardMeta) -> dict[str, Any]:
    seconds: dict[str, Any] = meta.writer.get("seconds", {})
    return seconds


def _total(meta: ShardMeta) -> float:
    return float(_seconds(meta).get("total", 0.0))


def _end(meta: ShardMeta) -> datetime:
    return datetime.fromisoformat(meta.writer.get("made", meta.created))


def _begin(meta: ShardMeta) -> datetime:
    return _end(meta) - timedelta(seconds=_total(meta))
