"""The files of a user's column: replaced whole, never half, and seen when damaged."""

from __future__ import annotations

import os
import random
import shutil
import threading
from pathlib import Path

import pyarrow as pa
import pytest

from pfgdata.errors import StoreError, StoreFormatError, StoreLockedError
from pfgdata.files import canonical_json, read_json
from pfgdata.store import Store, verify
from tests.conftest import new_store
from tests.doubles import FailingDisk, FullDisk


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty store: a column may be there before its images."""
    return new_store(tmp_path / "feats")


def captions(*texts: str) -> pa.Table:
    """A column of `texts`, keyed by content."""
    ids = [number.to_bytes(16, "big") for number in range(len(texts))]
    return pa.table({"content_id": pa.array(ids, pa.binary(16)), "value": list(texts)})


def texts_of(store: Store) -> list[str]:
    """What the column `caption` holds."""
    return list(store.read_column("caption")["value"].to_pylist())


def test_an_existing_column_is_replaced_only_when_asked_for(store: Store) -> None:
    store.write_column("caption", captions("old"))
    with pytest.raises(StoreError, match="has a column caption already"):
        store.write_column("caption", captions("new"))
    assert texts_of(store)[0] == "old"
    store.write_column("caption", captions("new", "more"), replace=True)
    assert texts_of(store) == ["new", "more"]


def test_a_column_is_not_written_while_another_writer_holds_the_store(store: Store) -> None:
    with store.writer(), pytest.raises(StoreLockedError):
        Store.open(store.path).write_column("caption", captions("x"))


def _write_until(store: Store, steps: int, table: pa.Table) -> bool:
    """Replace the column `caption` on a disk that fails after `steps`; whether it came to the end."""
    try:
        Store.open(store.path, disk=FailingDisk(steps)).write_column("caption", table, replace=True)
    except KeyboardInterrupt:
        return False
    return True


@pytest.mark.parametrize("before", [None, "old"])
def test_wherever_a_write_ends_the_column_is_the_old_or_the_new_one(store: Store, before: str | None) -> None:
    if before:
        store.write_column("caption", captions(before))
    untouched = store.path.with_name("untouched")
    store.path.rename(untouched)
    seen: list[str | None] = []
    done, steps = False, 0
    while not done:
        shutil.copytree(untouched, store.path)
        done = _write_until(store, steps, captions("new"))
        assert verify(store.path, deep=True) == verify(store.path) == []
        seen.append(texts_of(store)[0] if store.columns() else None)
        if not done and steps % 2:  # the next write may end early too
            _write_until(store, 4, captions("newer"))
            assert verify(store.path, deep=True) == []
            assert not store.columns() or texts_of(store)[0] in (before, "new", "newer")
        store.write_column("caption", captions("last"), replace=True)
        assert texts_of(store)[0] == "last" and verify(store.path, deep=True) == []
        shutil.rmtree(store.path)
        steps += 1
    first_new = seen.index("new")
    assert 0 < first_new < len(seen) - 2
    assert seen == [before] * first_new + ["new"] * (len(seen) - first_new)


def test_what_a_dead_writer_left_in_columns_is_swept_by_the_next(store: Store) -> None:
    store.write_column("caption", captions("x"))
    (store.path / "columns" / ".tmp-half").write_bytes(b"half")
    assert store.columns() == ["caption"] and verify(store.path, deep=True) == []
    with store.writer():
        assert sorted(path.name for path in (store.path / "columns").iterdir()) == [
            "caption.json",
            "caption.parquet",
        ]


def test_a_reader_beside_a_writer_always_finds_one_whole_column(store: Store) -> None:
    store.write_column("caption", captions("0"))

    def write() -> None:
        for turn in range(1, 16):
            store.write_column("caption", captions(*[str(turn)] * (1 + turn % 5)), replace=True)

    writer, reader, last = threading.Thread(target=write), Store.open(store.path), 0
    writer.start()
    while writer.is_alive():
        texts = texts_of(reader)
        assert len(set(texts)) == 1 and len(texts) == 1 + int(texts[0]) % 5 and int(texts[0]) >= last
        assert verify(store.path, deep=True) == []
        last = int(texts[0])
    writer.join()
    assert texts_of(reader) == ["15"]


def test_a_column_replaced_between_a_readers_two_looks_is_read_again(store: Store) -> None:
    record, path = (store.path / "columns" / f"caption.{kind}" for kind in ("json", "parquet"))
    store.write_column("caption", captions("old"))
    old_record = record.read_bytes()
    store.write_column("caption", captions("new"), replace=True)
    new_record, new = record.read_bytes(), path.read_bytes()
    record.write_bytes(old_record)
    fresh = path.replace(path.with_name("aside"))
    os.mkfifo(path)  # opening it waits for the other side: the reader has seen the old record by then

    def replace() -> None:
        with path.open("wb") as pipe:
            record.write_bytes(new_record)
            fresh.replace(path)
            pipe.write(new)

    writer = threading.Thread(target=replace)
    writer.start()
    assert texts_of(store) == ["new"]
    writer.join()


def test_every_flipped_byte_and_truncation_of_a_column_is_found_and_never_read(store: Store) -> None:
    store.write_column("caption", captions(*"abcdef"))
    chance = random.Random(0)
    for path in sorted((store.path / "columns").iterdir()):
        data = path.read_bytes()
        for turn in range(40):
            at = chance.randrange(len(data))
            flipped = data[:at] + bytes([data[at] ^ (1 << chance.randrange(8))]) + data[at + 1 :]
            path.write_bytes(flipped if turn % 2 else data[:at])
            (problem,) = verify(store.path, deep=True)
            assert problem.path == path and problem.shard is None and "write the column again" in problem.what
            with pytest.raises(StoreError, match=path.name) as caught:
                store.read_column("caption")
            assert "\n" not in str(caught.value)
        path.unlink()
        for deep in (False, True):
            (problem,) = verify(store.path, deep=deep)
            assert problem.path == path and problem.what.startswith("is missing")
        with pytest.raises(StoreError, match=rf"{path.name}: is missing; write the column again"):
            store.read_column("caption")
        path.write_bytes(data)
    assert verify(store.path, deep=True) == []


def test_a_damaged_column_is_made_good_by_writing_it_again(store: Store) -> None:
    for name in ("caption.json", "caption.parquet"):
        path = store.path / "columns" / name
        for damage in (b"nonsense", None):
            store.write_column("caption", captions("old"), replace=True)
            path.unlink() if damage is None else path.write_bytes(damage)
            _write_until(store, 4, captions("new"))  # ends before the new file is in place
            assert [problem.path.parent.name for problem in verify(store.path, deep=True)] == ["columns"]
            store.write_column("caption", captions("new"), replace=True)
            assert texts_of(store)[0] == "new" and verify(store.path, deep=True) == []


def test_a_column_is_removed_from_a_full_disk_and_none_is_written_there(store: Store) -> None:
    store.write_column("caption", captions("x"))
    full = Store.open(store.path, disk=FullDisk())
    with pytest.raises(StoreError, match="no space left on the disk of"):
        full.write_column("caption", captions("y"), replace=True)
    assert texts_of(store) == ["x"]
    full.remove_column("caption")
    assert list((store.path / "columns").iterdir()) == [] and verify(store.path, deep=True) == []


def test_a_column_of_a_newer_format_is_refused_and_not_written_over(store: Store) -> None:
    store.write_column("caption", captions("x"))
    record = store.path / "columns" / "caption.json"
    value = read_json(record, advice="")
    del value["states"][0]["size"]
    record.write_bytes(canonical_json({**value, "format": 99}))
    for act in (
        lambda: store.read_column("caption"),
        lambda: store.write_column("caption", captions("y"), replace=True),
    ):
        with pytest.raises(StoreFormatError, match="upgrade"):
            act()
    assert "upgrade" in verify(store.path)[0].what


def test_fields_that_a_later_version_adds_are_passed_over(store: Store) -> None:
    store.write_column("caption", captions("x"))
    record = store.path / "columns" / "caption.json"
    value = read_json(record, advice="")
    value["states"][0]["later"] = value["later"] = 1
    record.write_bytes(canonical_json(value))
    assert texts_of(store)[0] == "x" and verify(store.path, deep=True) == []
