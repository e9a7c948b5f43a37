"""What was committed to a set of shards in a bucket: `commits/NUMBER.json`, each put only where none was.

A bucket has no rename. A shard is in the set once a record says so, and out of it once a later one does; who
puts a record has seen all before it, else another has its number and the put is refused. So a writer that
slept while another committed can change nothing, whatever became of its lock. Records are never changed.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from threading import RLock
from typing import Any

from blake3 import blake3

from pfgdata.errors import CorruptShardError, StoreFormatError, StoreLockedError
from pfgdata.files.cache import FileCache
from pfgdata.files.place_errors import TakenError
from pfgdata.files.places import ObjectInfo, ObjectPlace
from pfgdata.files.sealed import canonical_json, sealed_value

__all__ = ["CommitLog", "Seal"]

_FORMAT = 1  # of a record; a reader refuses a larger one
_FOLDER, _SHARDS = "commits", "shards"
_COPIED = "as where a folder was copied there by other means"
_ASIDE = 16  # records read side by side: each is a request
_LOOKS = 3  # a list of several pages may lack a record that came while it was read
REPAIR = "run: pfgdata verify STORE --repair"


@dataclass(frozen=True, slots=True)
class Seal:
    """What the shard.json of a committed shard is."""

    size: int
    blake3: str


class CommitLog:
    """The records of one set, as last looked at. Safe for threads."""

    def __init__(self, place: ObjectPlace, cache: FileCache) -> None:
        self._place = place
        self._cache = cache
        self._records: dict[int, tuple[str, Mapping[str, Any] | None]] = {}  # its etag; None: damaged
        self._unnamed = 0  # shards that lie there where no record is at all
        self._shards: dict[str, Seal] | None = None
        self._next: int | None = None
        self._lock = RLock()

    def shards(self, *, anew: bool = True) -> Mapping[str, Seal]:
        """The shards that are committed, by id; with `anew` as of now, else as last looked at.

        Raises CorruptShardError where a record is missing or damaged: what it says cannot be guessed.
        """
        with self._lock:
            if anew or self._shards is None:
                self._look()
                for path, what in self.problems():
                    raise CorruptShardError(f"{path}: {what}; {REPAIR}")
                self._shards = self._added()
            return self._shards

    def problems(self) -> list[tuple[str, str]]:
        """The records that are missing or damaged, as last looked at: where, and what is wrong."""
        found = []
        if self._unnamed > 1:  # one may be on its way
            found = [(f"{self._place.url}/{_FOLDER}", f"says nothing of {self._unnamed:,} shards, {_COPIED}")]
        for number in range(1, max(self._records, default=0) + 1):
            etag, record = self._records.get(number, ("", None))
            if record is None:
                found.append((self._shown(number), "is damaged" if etag else "is missing"))
        return found

    def look(self) -> None:
        """Look at the records as of now."""
        with self._lock:
            self._look()

    def begin(self) -> None:
        """From here on this process writes: nothing that another commits after now is written over."""
        with self._lock:
            self._look()
            self._shards = None if self.problems() else self._added()
            self._next = max(self._records, default=0) + 1

    def end(self) -> None:
        """This process writes no more."""
        self._next = None

    @property
    def next(self) -> int:
        """The number of the next record of this writer."""
        assert self._next is not None, "only between begin and end"
        return self._next

    @property
    def last(self) -> int:
        """The number of the last record that this process takes account of."""
        return (self._next or max(self._records, default=0) + 1) - 1

    def require_turn(self, number: int) -> None:
        """Raise StoreLockedError unless this writer's next record is `number`."""
        if number != self.next:
            raise self._overtaken()

    def require_latest(self) -> None:
        """Raise StoreLockedError where another has committed since this writer began, as of now."""
        if any(_number(one.key) >= self.next for one in self._place.list(_FOLDER)):
            raise self._overtaken()

    def append(self, *, adds: tuple[str, Seal] | None = None, removes: Sequence[str] = ()) -> None:
        """Commit, or take out, for good and all at once.

        Raises StoreLockedError where another process has committed since `begin`: nothing has changed then.
        """
        with self._lock:
            number = self.next
            try:
                etag, record = self._put(number, adds=adds, removes=removes)
            except TakenError:
                raise self._overtaken() from None
            self._next = number + 1
            self._records[number] = (etag, record)
            if self._shards is not None:
                self._shards = self._added()

    def mend(self, whole: Mapping[int, tuple[str, Seal]]) -> None:
        """Put what is missing or damaged again; `whole`, by number, are the shards that may be meant."""
        with self._lock:
            self._look()
            last = max([*self._records, *(whole if self._unnamed else ())], default=0)
            for number in range(1, last + 1):
                etag, record = self._records.get(number, ("", None))
                if record is None:
                    self._records[number] = self._put(number, adds=whole.get(number), over=etag)
            self._unnamed = 0
            if self._next:
                self._next = last + 1
            self._shards = self._added()

    def _overtaken(self) -> StoreLockedError:
        return StoreLockedError(
            f"{self._place.url}: another process has written here since this one began, so nothing more is "
            "committed; what was committed stays, run the same again"
        )

    def _put(
        self, number: int, *, adds: tuple[str, Seal] | None, removes: Sequence[str] = (), over: str = ""
    ) -> tuple[str, Mapping[str, Any]]:
        record = {
            "format": _FORMAT,
            "number": number,
            "adds": adds and {"shard": adds[0], "size": adds[1].size, "blake3": adds[1].blake3},
            "removes": sorted(removes),
            "created": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "writer": uuid.uuid4().hex,  # so that no two are equal, and who was first can be told
        }
        data = canonical_json(record)
        key = _key(number)
        etag = self._place.put(key, data, if_none_match=not over, if_match=over or None)
        return etag, record

    def _look(self) -> None:
        """Read the records that came since, until the list has none missing, or lacks one for good."""
        for _ in range(_LOOKS):
            listed = {_number(one.key): one for one in self._place.list(_FOLDER) if _number(one.key)}
            fresh = [
                one for number, one in listed.items() if self._records.get(number, ("", None))[0] != one.etag
            ]
            if len(fresh) > 1:
                with ThreadPoolExecutor(min(_ASIDE, len(fresh))) as pool:
                    read = list(pool.map(self._read, fresh))
            else:
                read = [self._read(one) for one in fresh]
            self._records = {
                **{number: known for number, known in self._records.items() if number in listed},
                **{_number(one.key): (one.etag, record) for one, record in zip(fresh, read, strict=True)},
            }
            self._unnamed = 0 if self._records else len(self._place.children(_SHARDS)[0])
            if not self.problems():
                return

    def _read(self, info: ObjectInfo) -> Mapping[str, Any] | None:
        name = f"{self._place.url}/{info.key} {info.etag} {info.size}"

        def bring(path: Path) -> None:
            path.write_bytes(self._place.read(info.key))

        digest = blake3(name.encode()).hexdigest()
        try:
            record = sealed_value(self._cache.get(digest, bring).read_bytes())
            self._cache.opened(digest)
        except (ValueError, FileNotFoundError):
            self._cache.forget(digest)
            return None
        if record["format"] > _FORMAT:
            raise StoreFormatError(
                f"{self._place.url}/{info.key}: written in format {record['format']}, this pfgdata reads up "
                f"to {_FORMAT}; upgrade pfg"
            )
        return record

    def _added(self) -> dict[str, Seal]:
        shards: dict[str, Seal] = {}
        for number in sorted(self._records):
            record = self._records[number][1]
            assert record is not None
            if adds := record["adds"]:
                shards[adds["shard"]] = Seal(adds["size"], adds["blake3"])
            for gone in record["removes"]:
                shards.pop(gone, None)
        return shards

    def _shown(self, number: int) -> str:
        return f"{self._place.url}/{_key(number)}"


def _key(number: int) -> str:
    return f"{_FOLDER}/{number:08d}.json"


def _number(key: str) -> int:
    stem = key.removeprefix(f"{_FOLDER}/").removesuffix(".json")
    return int(stem) if stem.isdigit() else 0
