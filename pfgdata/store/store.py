"""A store as an object: open or make one, see it (`snapshot`), write to it (`writer`); derived sets, columns.

Opening reads two small files; a snapshot reads what shards say of themselves, not their rows.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pfgdata.errors import StoreError
from pfgdata.files import TEMPORARY, Disk, disk_at, explained
from pfgdata.paths import in_the_way
from pfgdata.records import NoProgress, Progress, Selection
from pfgdata.store.columns import list_columns, read_column, remove_column, write_column
from pfgdata.store.contents import Shadow, ShardContents, shadows_table
from pfgdata.store.feature_sets import FeatureIdentity, FeatureInfo, FeatureSet
from pfgdata.store.identity import (
    StoreIdentity,
    identity_bytes,
    moved_roots,
    read_identity,
    read_roots,
    read_vocabulary,
    roots_bytes,
    usable,
    vocabulary_table,
)
from pfgdata.store.latent_sets import LatentIdentity, LatentInfo, LatentSet
from pfgdata.store.layout import parquet_bytes
from pfgdata.store.matching import column_values
from pfgdata.store.parts import Part, adopt_part, retire_part
from pfgdata.store.selections import (
    SavedSelection,
    list_selections,
    read_selection,
    remove_selection,
    require_selection,
    write_selection,
)
from pfgdata.store.shards import (
    ShardDraft,
    ShardMeta,
    new_shard_id,
    sequence_of,
    shard_names,
    write_shard,
)
from pfgdata.store.snapshot import Snapshot
from pfgdata.store.tag_index import index_folder
from pfgdata.store.verdicts import Pair, Verdict, read_verdicts, write_verdicts
from pfgdata.urls import is_url
from pfgdata.vocabulary import Vocabulary

__all__ = ["Store", "StoreWriter"]


class Store:
    """A feature store on disk, open for reading; `writer` opens it for writing."""

    def __init__(self, path: Path, identity: StoreIdentity, vocabulary: Vocabulary, disk: Disk) -> None:
        self.path = path
        self.identity = identity
        self.vocabulary = vocabulary
        self.disk = disk
        self._metas: dict[str, ShardMeta] = {}

    @classmethod
    def open(cls, path: Path, *, disk: Disk | None = None) -> Store:
        """Open the store at `path`, a folder or URL. Raises NoStoreError, StoreFormatError or StoreError."""
        path = usable(path)
        disk = disk or disk_at(path)
        identity = read_identity(disk, path)
        return cls(path, identity, read_vocabulary(disk, path, identity), disk)

    @classmethod
    def create(
        cls, path: Path, *, identity: StoreIdentity, vocabulary: Vocabulary, disk: Disk | None = None
    ) -> Store:
        """Make an empty store at `path`, which must not exist or be empty.

        store.json comes last: a creation cut short leaves no store, and the next one completes it.
        """
        path = usable(path)
        disk = disk or disk_at(path)
        _require_free(disk, path)
        with explained(path):
            disk.make_folder(path)
        with disk.exclusive(path / "lock", what=f"store {path}"), explained(path):
            disk.make_folder(path / "shards")
            if disk.is_file(path / "store.json"):
                raise StoreError(f"{path}: another process has just made this store; run the same again")
            if shard_names(disk, path / "shards"):
                raise StoreError(
                    f"{path}: holds shards of a store already; restore its store.json, or name another folder"
                )
            tags = parquet_bytes(vocabulary_table(vocabulary))
            disk.replace_file(path / "vocabulary.parquet", tags)
            disk.replace_file(path / "roots.json", roots_bytes({}))
            created = datetime.now(UTC).isoformat(timespec="seconds")
            value = identity_bytes(identity, created=created, vocabulary=tags)
            disk.replace_file(path / "store.json", value)
        return cls(path, identity, vocabulary, disk)

    @property
    def folders(self) -> tuple[Path, ...]:
        """Where a writer of the store writes; those of derived sets have writers of their own."""
        named = (self.path / name for name in ("shards", "columns", "selections"))
        return (self.path, *named, index_folder(self.path))

    @property
    def parts(self) -> Path:
        """Where parts lie that are to be adopted: no writer sweeps it, and no reader sees it."""
        return self.path / "parts"

    def roots(self) -> dict[str, str]:
        """Corpus root -> the folder where it is now."""
        return read_roots(self.disk, self.path)

    def snapshot(self, *, without: Collection[str] = ()) -> Snapshot:
        """The visible rows as of now; `without` names shards to look past, as if they were gone."""
        return Snapshot(
            self.path,
            identity=self.identity,
            vocabulary=self.vocabulary,
            cache=self._metas,
            without=without,
            disk=self.disk,
        )

    @contextmanager
    def writer(
        self,
        *,
        wait: bool = False,
        progress: Progress | None = None,
        stop: Callable[[], bool] = lambda: False,
    ) -> Iterator[StoreWriter]:
        """Hold the store's lock and write.

        Raises StoreLockedError when another process does, unless `wait`: then `progress` says for whom, and
        KeyboardInterrupt is raised once `stop` is true.
        """
        what = f"store {self.path}"
        say = (progress or NoProgress()).say
        with self.disk.exclusive(self.path / "lock", what=what, wait=wait, say=say, stop=stop):
            with explained(self.path):
                for folder in self.folders:
                    self.disk.sweep(folder)
            yield StoreWriter(self)

    def move_root(self, old: str, new: str, *, wait: bool = False, progress: Progress | None = None) -> None:
        """Put on record that the corpus root `old` is now at `new`; rows keep their keys.

        Raises StoreError as `moved_roots` does, StoreLockedError as `writer` does.
        """
        with self.writer(wait=wait, progress=progress) as writer:
            writer.set_roots(moved_roots(self.roots(), old, new))

    def latent_sets(self) -> list[LatentSet]:
        """The latent sets of this store, by id."""
        return LatentSet.all_of(self.path, disk=self.disk)

    def latent_set(self, identity: LatentIdentity, info: LatentInfo) -> LatentSet:
        """The set of that identity, made if there is none; an existing one keeps its own `info`."""
        return LatentSet.create(self.path, identity, info, disk=self.disk)

    def feature_sets(self) -> list[FeatureSet]:
        """The feature sets of this store, by id; its tagger's own feature is none of them."""
        return FeatureSet.all_of(self.path, disk=self.disk)

    def feature_set(self, identity: FeatureIdentity, info: FeatureInfo) -> FeatureSet:
        """The set of that identity, made if there is none; an existing one keeps its own `info`."""
        return FeatureSet.create(self.path, identity, info, disk=self.disk)

    def columns(self) -> list[str]:
        """The names of the user's columns, sorted."""
        return list_columns(self.disk, self.path / "columns")

    def write_column(self, name: str, table: pa.Table, *, replace: bool = False) -> None:
        """Keep `table` as the user's column `name`: `content_id`, or `path` (and `root`, `member`); `value`.

        Without `root` its paths are meant under any. Rows of images that the store does not have are kept.
        Raises StoreError for a name or table that cannot be one, a key that stands twice, an existing column
        unless `replace`; StoreLockedError while another process writes.
        """
        with self.writer() as writer:
            writer.write_column(name, table, replace=replace)

    def remove_column(self, name: str) -> None:
        """Delete the user's column `name`. Raises StoreError if unknown, StoreLockedError if locked."""
        with self.writer() as writer:
            writer.remove_column(name)

    def selections(self) -> list[str]:
        """The names of the saved selections, sorted."""
        return list_selections(self.disk, self.path / "selections")

    def read_selection(self, name: str) -> SavedSelection:
        """The saved selection `name`. Raises StoreError if unknown or damaged."""
        return read_selection(self.disk, self.path / "selections", name)

    def write_selection(
        self,
        selection: SavedSelection,
        content_ids: npt.NDArray[np.uint8] | None = None,
        *,
        replace: bool = False,
    ) -> SavedSelection:
        """Save `selection` as `@name`, frozen to `content_ids` (uint8 [N, 16]) if given; as it is then.

        Raises StoreError for a name that cannot be one, an existing selection unless `replace`,
        StoreLockedError while another process writes.
        """
        folder = self.path / "selections"
        with self.writer(), explained(self.path):
            return write_selection(self.disk, folder, selection, content_ids, replace=replace)

    def require_selection(self, name: str, *, replace: bool = False) -> None:
        """Raise StoreError where `write_selection` would for the name."""
        require_selection(self.disk, self.path / "selections", name, replace=replace)

    def remove_selection(self, name: str) -> None:
        """Delete a saved selection. Raises StoreError where there is none, or another is made of it."""
        with self.writer(), explained(self.path):
            remove_selection(self.disk, self.path / "selections", name)

    def read_column(self, name: str) -> pa.Table:
        """The user's column `name`: its key and `value`. Raises StoreError if unknown or damaged."""
        return read_column(self.disk, self.path / "columns", name)

    def column_values(self, name: str, snapshot: Snapshot, selection: Selection) -> pa.ChunkedArray:
        """The values of the column `name` for the rows of `selection`, in order; null where it has none.

        Raises StoreError as `read_column` does, and where a path is meant that lies under two roots.
        """
        where = f"{self.path}: column {name}"
        return column_values(self.read_column(name), snapshot, selection, where=where)

    def verdicts(self) -> dict[Pair, Verdict]:
        """What a person said of pairs of contents (see `pair_of`). Raises StoreError where it is damaged."""
        return read_verdicts(self.disk, self.path)

    def set_verdicts(self, verdicts: Mapping[Pair, Verdict | None]) -> None:
        """Put these on record, None takes one back; others stay. Raises StoreLockedError as `writer`."""
        with self.writer(), explained(self.path):
            now = {**self.verdicts(), **verdicts}
            write_verdicts(self.disk, self.path, {pair: said for pair, said in now.items() if said})


class StoreWriter:
    """The one writer of a store, alive while its lock is held."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._folder = store.path / "shards"
        self._last: int | None = None  # number of a shard, once one is committed

    def set_roots(self, roots: Mapping[str, str]) -> None:
        """Replace roots.json: corpus root -> the folder where it is now."""
        with explained(self.store.path):
            self.store.disk.replace_file(self.store.path / "roots.json", roots_bytes(dict(roots)))

    def write_column(self, name: str, table: pa.Table, *, replace: bool = False) -> None:
        """Keep a user's column, as `Store.write_column` does."""
        with explained(self.store.path):
            write_column(self.store.disk, self.store.path / "columns", name, table, replace=replace)

    def remove_column(self, name: str) -> None:
        """Delete a user's column, as `Store.remove_column` does."""
        with explained(self.store.path):
            remove_column(self.store.disk, self.store.path / "columns", name)

    def commit(self, contents: ShardContents) -> ShardMeta:
        """Write one shard durably; when this returns, readers see all of it.

        Raises StoreError where the disk refuses (full, read-only, ...): then they see nothing of it.
        """
        assert contents.images.num_rows == len(contents.features)
        with explained(self.store.path):
            draft = ShardDraft(
                tables={
                    "images": contents.images,
                    "failures": contents.failures,
                    "shadows": shadows_table(contents.shadows),
                },
                arrays={"feature": contents.features},
                replaces=contents.replaces,
                writer=contents.writer,
                id=self._next_id(),
            )
            return write_shard(self.store.disk, self._folder, draft)

    def adopt(
        self, part: Part, *, shadows: Sequence[Shadow], without: Mapping[str, Iterable[int]]
    ) -> ShardMeta:
        """Commit the rows of a part as the next shard; the part stays.

        `shadows` are rows of older shards that they hide, `without` (table -> rows) those of its own that no
        reader is to see. One in the store's own folder is linked where the disk can, as it goes afterwards.
        Raises CorruptShardError, naming the part, unless every byte of it is as written.
        """
        copy = part.path.resolve().parent != self.store.parts.resolve()
        with explained(self.store.path):
            return adopt_part(
                self.store.disk,
                self._folder / self._next_id(),
                part,
                shadows=shadows,
                without=without,
                copy=copy,
            )

    def _next_id(self) -> str:
        """The id of the next shard: nobody else gives one while the lock is held."""
        shard = new_shard_id(self.store.disk, self._folder, after=self._last)
        self._last = sequence_of(shard)
        return shard

    def retire(self, part: Part, *, shard: str | None) -> None:
        """Put on record that a part has been adopted as `shard` (None: it brought nothing)."""
        with explained(self.store.path):
            retire_part(self.store.disk, self.store.parts, part, shard=shard)


def _require_free(disk: Disk, path: Path) -> None:
    # a creation cut short leaves these; cache/ may be left by a store that lost its store.json
    ours = {"lock", "shards", "vocabulary.parquet", "roots.json", "cache"}
    if not is_url(path) and (reason := in_the_way(path)):
        raise StoreError(reason)
    names = disk.names(path) if disk.is_folder(path) else []
    if any(name not in ours and not name.startswith(TEMPORARY) for name in names):
        raise StoreError(f"{path}: holds other files and no store; name an empty or new folder")
