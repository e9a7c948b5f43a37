"""A store's whole life over two states of a corpus, written so that it may be cut anywhere and run again.

A child process lives it and is killed; the parent looks at what is left, lives it to the end, and compares.
"""

from __future__ import annotations

import os
import shutil
import signal
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from blake3 import blake3

from pfgdata.corpus import plan_segments
from pfgdata.errors import NoStoreError
from pfgdata.files import CrashPoint, Disk
from pfgdata.ingest import IngestOptions, IngestReport, ingest, prune
from pfgdata.records import content_id
from pfgdata.store import (
    Store,
    StoreIdentity,
    compact,
    content_ids_of,
    gc,
    verify,
)
from tests.conftest import make_images
from tests.doubles import CheapTagger

# a shard for each batch, merged to 12 rows when an ingest ends, and to 20 by compact
OPTIONS = IngestOptions(batch_size=4, threads=2, shard_rows=12, shard_seconds=0)
COMPACT_ROWS = 20
IDENTITY = ("content_id", "size", "mtime_ns", "width", "height", "format", "frames", "phash", "rating")
NO_IMAGE = b"this is no image"


@dataclass(frozen=True, slots=True)
class Corpora:
    """One corpus at two moments: at `before`, and later, moved to the folder `after`."""

    before: Path
    after: Path


def make_corpora(folder: Path, *, count: int = 32) -> Corpora:
    """`count` images, a duplicate and two broken files; later changed in each way there is."""
    folder = folder.resolve()
    before, after = folder / "before", folder / "after"
    images = make_images(before, count)
    (before / "more").mkdir()
    for path in images[count // 2 :]:
        path.rename(before / "more" / path.name)
    images = sorted(before.rglob("*.png"))
    shutil.copy2(images[0], before / "twin.png")
    for name in ("broken.png", "mended.png"):
        (before / name).write_bytes(NO_IMAGE)
    shutil.copytree(before, after)
    _change(
        after, [after / path.relative_to(before) for path in images], make_images(folder / "new", 6, seed=9)
    )
    return Corpora(before, after)


def _change(after: Path, images: list[Path], fresh: list[Path]) -> None:
    for path, new in zip([*images[1:4], after / "mended.png", after / "late.png"], fresh, strict=False):
        shutil.copy2(new, path)  # changed, mended, new
    for path in images[5:7]:
        os.utime(path, ns=(10**18, 10**18))  # touched
    images[8].rename(after / "moved.png")
    shutil.copy2(images[9], after / "more" / "again.png")  # duplicated
    images[10].unlink()
    (after / "broken.png").unlink()
    images[11].write_bytes(NO_IMAGE)  # broken since


class LoggingDisk(Disk):
    """The real disk; it counts the points, and keeps in `log` which shards are committed and which removed.

    At occurrence `nth` of `point` it kills its own process.
    """

    def __init__(self, log: Path, *, point: CrashPoint | None = None, nth: int = 0) -> None:
        self.counts: Counter[CrashPoint] = Counter()
        self._log, self._point, self._nth = log, point, nth

    def reach(self, point: CrashPoint) -> None:
        """Count, and die if this is the moment."""
        self.counts[point] += 1
        if point == self._point and self.counts[point] == self._nth:
            os.kill(os.getpid(), signal.SIGKILL)

    def commit_folder(self, fresh: Path, final: Path) -> None:
        """Commit, and only then write it down."""
        super().commit_folder(fresh, final)
        self._write(f"+ {final} {blake3((final / 'shard.json').read_bytes()).hexdigest()}\n")

    def remove_folder(self, path: Path) -> None:
        """Write it down, and only then remove."""
        self._write(f"- {path} -\n")
        super().remove_folder(path)

    def _write(self, line: str) -> None:
        with self._log.open("ab", buffering=0) as log:
            log.write(line.encode())


def live(corpora: Corpora, path: Path, disk: Disk) -> list[IngestReport]:
    """Everything that is done to a store in its life, from wherever the last call of this was cut."""
    store = open_or_make(path, disk)
    reports = []
    if store.roots().get(str(corpora.before), str(corpora.before)) == str(corpora.before):
        reports.append(add(corpora.before, store))
        store.move_root(str(corpora.before), str(corpora.after))
    reports.append(add(corpora.after, store))
    store.write_column("liked", liked(store), replace=True)
    prune(store, yes=True)
    compact(store, rows=COMPACT_ROWS)
    gc(store, older_than=0.0)
    return reports


def open_or_make(path: Path, disk: Disk) -> Store:
    """The store at `path`, made if its creation was cut or never begun."""
    try:
        return Store.open(path, disk=disk)
    except NoStoreError:
        tagger = CheapTagger()
        identity = StoreIdentity(
            tagger=tagger.identity,
            vocabulary_digest=tagger.vocabulary.digest,
            feature_dim=tagger.feature_dim,
        )
        return Store.create(path, identity=identity, vocabulary=tagger.vocabulary, disk=disk)


def add(folder: Path, store: Store) -> IngestReport:
    """Ingest `folder`; the report adds up, and exactly what the store did not know is tagged, once."""
    known = {bytes(row) for row in content_ids_of(store.snapshot().images(["content_id"])["content_id"])}
    contents = {content_id(data) for data in map(Path.read_bytes, folder.rglob("*.png")) if data != NO_IMAGE}
    segments = plan_segments([folder], store.roots())
    report = ingest(segments, store, CheapTagger(), options=OPTIONS)
    assert report.found == report.tagged + report.copied + report.unchanged + report.failed + report.pending
    assert report.found == len(list(folder.rglob("*.png"))) and report.pending == 0
    assert report.tagged == len(contents - known), "an image was tagged twice, or not at all"
    return report


def liked(store: Store) -> pa.Table:
    """A column for every image of the store."""
    images = store.snapshot().images(["path", "size"])
    return pa.table({"path": images["path"], "value": images["size"]})


@dataclass(frozen=True, slots=True)
class Seen:
    """What a reader sees: identity columns, scores [V] and feature [F] of each path; failures."""

    rows: dict[str, tuple[Any, ...]]
    scores: dict[str, npt.NDArray[np.float32]]
    features: dict[str, npt.NDArray[np.float16]]
    failures: dict[str, tuple[Any, ...]]


def see(store: Store) -> Seen:
    """All that is visible; a path twice fails."""
    snapshot = store.snapshot()
    table, failures = snapshot.images(), snapshot.failures().to_pylist()
    paths = table["path"].to_pylist()
    features = snapshot.features(snapshot.everything)
    rows = table.to_pylist()
    assert len(set(paths)) == len(paths), "a path twice among the visible rows"
    assert len({row["path"] for row in failures}) == len(failures), "a path twice among the failures"
    return Seen(
        {row["path"]: tuple(map(str, (row[name] for name in IDENTITY))) for row in rows},
        {row["path"]: _dense(row, len(store.vocabulary.names)) for row in rows},
        dict(zip(paths, features, strict=True)),
        {row["path"]: (row["size"], row["mtime_ns"], row["kind"]) for row in failures},
    )


def require_equal(seen: Seen, expected: Seen) -> None:
    """Identity columns and failures equal, scores and features within 1e-3."""
    assert seen.rows == expected.rows
    assert seen.failures == expected.failures
    for path, feature in expected.features.items():
        np.testing.assert_allclose(seen.features[path], feature, atol=1e-3)
        np.testing.assert_allclose(seen.scores[path], expected.scores[path], atol=1e-3)


def require_sound(path: Path, log: Path) -> None:
    """Nothing that was acknowledged is lost or changed, and no reader sees anything twice."""
    present = acknowledged(log)
    for shard, digest in present.items():
        assert blake3((Path(shard) / "shard.json").read_bytes()).hexdigest() == digest
    if not (path / "store.json").exists():
        assert not present, "shards without a store"
        return
    assert verify(path, deep=True) == []
    see(Store.open(path))


def acknowledged(log: Path) -> dict[str, str]:
    """Path and digest of shard.json of each shard that was committed and not since removed."""
    present: dict[str, str] = {}
    for line in log.read_text().splitlines() if log.exists() else []:
        sign, shard, digest = line.split(" ")
        if sign == "+":
            present[shard] = digest
        else:
            present.pop(shard, None)
    return present


def _dense(row: dict[str, Any], width: int) -> npt.NDArray[np.float32]:
    scores = np.zeros(width, np.float32)
    scores[row["tag_ids"]] = row["tag_scores"]
    return scores
