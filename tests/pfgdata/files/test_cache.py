"""Copies of what lies far away: whole or not there, bounded, shared, and held while in use."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from threading import Barrier, Thread

import pytest

from pfgdata.errors import ConfigError
from pfgdata.files import FileCache


def _bring(data: bytes, brought: list[bytes] | None = None) -> Callable[[Path], None]:
    def bring(path: Path) -> None:
        path.write_bytes(data)
        if brought is not None:
            brought.append(data)

    return bring


def _stored(folder: Path) -> set[str]:
    return {path.name for path in (folder / "files").glob("*/*")}


def test_a_file_is_brought_once_by_all_who_want_it(tmp_path: Path) -> None:
    brought: list[bytes] = []
    gate, found = Barrier(8), list[bytes]()

    def ask() -> None:
        cache = FileCache(tmp_path)
        gate.wait()
        found.append(cache.get("ab12", _bring(b"bytes", brought)).read_bytes())

    threads = [Thread(target=ask) for _ in range(8)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert found == [b"bytes"] * 8 and brought == [b"bytes"]


def test_what_could_not_be_brought_is_not_there(tmp_path: Path) -> None:
    cache = FileCache(tmp_path)

    def cut(path: Path) -> None:
        path.write_bytes(b"half")
        raise ConnectionResetError("cut")

    with pytest.raises(ConnectionResetError):
        cache.get("ab", cut)
    assert not cache.has("ab") and not list((tmp_path / "making").iterdir())
    assert cache.get("ab", _bring(b"whole")).read_bytes() == b"whole"


def test_the_bound_holds_and_what_was_used_last_stays(tmp_path: Path) -> None:
    cache = FileCache(tmp_path, most=100_000)
    for number in range(30):
        cache.get(f"{number:04x}", _bring(bytes(9_000)))
        place = tmp_path / "files" / f"{number:04x}"[:2] / f"{number:04x}"
        os.utime(place, (number, number))
    assert sum(path.stat().st_size for path in (tmp_path / "files").glob("*/*")) <= 100_000
    assert "001d" in _stored(tmp_path) and "0000" not in _stored(tmp_path)


class Disk:
    """A disk of `size` bytes where others leave `left`, and what the cache in `folder` takes of those."""

    def __init__(self, folder: Path, *, size: int, left: int) -> None:
        self.folder, self.size, self.left = folder, size, left

    def __call__(self, _: Path) -> tuple[int, int, int]:
        files = {path.stat().st_ino: path.stat().st_size for path in self.folder.rglob("*") if path.is_file()}
        free = self.left - sum(files.values())
        return self.size, self.size - free, free


@pytest.mark.parametrize(
    ("size", "left", "each", "brought"),
    [
        pytest.param(4 * 10**12, 350 * 10**9, 60 * 10**9, 5, id="much is left"),
        pytest.param(10**6, 60_000, 1_000, 5, id="little is left, and the cache takes little of that"),
        pytest.param(10**6, 8_000, 1_000, 15, id="half of what is left does not hold them"),
    ],
)
def test_a_disk_that_others_have_filled_does_not_empty_the_cache(
    tmp_path: Path, size: int, left: int, each: int, brought: int
) -> None:
    cache = FileCache(tmp_path, most=10**12, usage=Disk(tmp_path, size=size, left=left))
    seen: list[Path] = []

    def bring(path: Path) -> None:
        path.touch()
        os.truncate(path, each)  # sparse
        seen.append(path)

    for number in [0, 1, 2, 3, 4] * 3:
        cache.get(f"{number:04x}", bring)
        cache.release(f"{number:04x}")
    assert len(seen) == brought and 2 <= len(_stored(tmp_path)) <= 5


def test_what_is_held_is_not_removed_for_room_that_this_would_not_give(tmp_path: Path) -> None:
    cache = FileCache(tmp_path, usage=Disk(tmp_path, size=10**6, left=8_000))
    for number in range(8):
        cache.get(f"{number:04x}", _bring(bytes(1_000)))
        if number:
            cache.release(f"{number:04x}")
    assert "0000" in _stored(tmp_path) and "0001" not in _stored(tmp_path)


def test_who_has_a_file_keeps_it_while_others_fill_the_cache(tmp_path: Path) -> None:
    cache = FileCache(tmp_path, most=20_000)
    mine = cache.get("aaaa", _bring(b"m" * 9_000))
    other = FileCache(tmp_path, most=20_000)
    for number in range(10):
        other.get(f"{number:04x}", _bring(bytes(9_000)))
    assert "aaaa" not in _stored(tmp_path)
    assert mine.read_bytes() == b"m" * 9_000


def test_a_process_that_is_killed_holds_nothing_for_long(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from pfgdata.files import FileCache\n"
        "FileCache(Path(sys.argv[1])).get('dead', lambda path: path.write_bytes(b'x') and None)\n"
        "os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, tmp_path], check=False)
    assert len(list((tmp_path / "held").iterdir())) == 1
    FileCache(tmp_path).get("beef", _bring(b"y"))
    assert [one.name for one in (tmp_path / "held").glob("*/*")] == ["beef"]


def test_what_was_opened_is_not_held_against_the_bound(tmp_path: Path) -> None:
    cache = FileCache(tmp_path, most=50_000, lingers=0.0)
    for number in range(30):
        digest = f"{number:04x}"
        with cache.get(digest, _bring(bytes(9_000))).open("rb") as data:
            cache.opened(digest)
            time.sleep(0.001)
            assert len(data.read()) == 9_000
    inodes = {path.stat().st_ino for path in tmp_path.rglob("*") if path.is_file() and path.stat().st_size}
    assert len(inodes) * 9_000 <= 60_000


def test_what_another_machine_held_long_ago_is_let_go(tmp_path: Path) -> None:
    for name, age in (("node-7-123", 40), ("node-8-123", 20)):
        held = tmp_path / "held" / name
        held.mkdir(parents=True)
        (held / "ab").write_bytes(b"features")
        then = time.time() - age * 86_400
        os.utime(held, (then, then))
    FileCache(tmp_path).get("cd", _bring(b"x"))
    assert not (tmp_path / "held" / "node-7-123").exists()
    assert (tmp_path / "held" / "node-8-123" / "ab").exists()


def test_a_file_that_is_not_what_it_should_be_is_brought_again(tmp_path: Path) -> None:
    cache = FileCache(tmp_path)
    cache.get("ab", _bring(b"rotten"))
    cache.forget("ab")
    assert cache.get("ab", _bring(b"good")).read_bytes() == b"good"


def test_a_bound_that_is_no_number_is_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PFG_CACHE_GB", "much")
    with pytest.raises(ConfigError, match="PFG_CACHE_GB=much"):
        FileCache(tmp_path)
