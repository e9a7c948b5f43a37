"""The life of a store in a bucket, lived by a child that dies or falls asleep at a step of its own."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections import Counter
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from threading import Lock

from blake3 import blake3

from pfgdata.errors import NoStoreError, StoreLockedError
from pfgdata.files import CrashPoint, FileCache, ObjectDisk, ObjectPlace, ObjectPoint
from pfgdata.store import Store, verify
from pfgdata.urls import UrlPath
from tests.pfgdata.crash.life import Corpora, acknowledged, live, see

WAIT = 120.0  # seconds; a life takes some
LOST = 7  # exit code of a writer whom another has overtaken


@dataclass(frozen=True, slots=True, kw_only=True)
class Fate:
    """What a child meets: at occurrence `nth` of `point` the `signal`; None: what the parent sends."""

    point: CrashPoint | ObjectPoint | None = None
    nth: int = 1
    signal: int = signal.SIGKILL


class BucketLog(ObjectDisk):
    """A store's bucket; it counts the points, keeps in `log` what is acknowledged, and meets its `fate`."""

    def __init__(self, url: str, log: Path, *, fate: Fate | None = None, lease_seconds: float = 60.0) -> None:
        cache = FileCache(log.with_suffix(".cache"))
        super().__init__(UrlPath(url), cache=cache, lease_seconds=lease_seconds)
        self.counts: Counter[str] = Counter()
        self._log_file, self._fate, self._lock = log, fate or Fate(), Lock()

    def reach(self, point: CrashPoint) -> None:
        self._meet(point)

    def passed(self, point: ObjectPoint) -> None:
        self._meet(point)

    def _meet(self, point: str) -> None:
        with self._lock:  # uploads have threads
            self.counts[point] += 1
            if point == self._fate.point and self.counts[point] == self._fate.nth:
                os.kill(os.getpid(), self._fate.signal)

    def commit_folder(self, fresh: Path, final: Path) -> None:
        digest = blake3((fresh / "shard.json").read_bytes()).hexdigest()
        super().commit_folder(fresh, final)
        self._write(f"+ {final} {digest}\n")

    def remove_folder(self, path: Path) -> None:
        self._write(f"- {path} -\n")
        super().remove_folder(path)

    def _write(self, line: str) -> None:
        with self._log_file.open("ab", buffering=0) as log:
            log.write(line.encode())


def begun(fate: Fate, corpora: Corpora, url: str, log: Path) -> ForkServerProcess:
    """A child that lives the life."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.pfgdata.crash.bucket_life"])
    ours, theirs = context.Pipe()
    process = context.Process(target=child, args=(theirs, fate, corpora, url, log, dict(os.environ)))
    process.start()
    theirs.close()
    assert ours.recv() == "begun"
    ours.close()
    return process


def ended(process: ForkServerProcess, *, after: float | None = None) -> int:
    """The child's exit code; it is killed `after` that many seconds."""
    if after is not None:
        time.sleep(after)
        if process.is_alive() and process.pid is not None:
            os.kill(process.pid, signal.SIGKILL)
    process.join(WAIT)
    assert process.exitcode is not None, "the child does not end"
    return process.exitcode


def child(
    begun: Connection, fate: Fate, corpora: Corpora, url: str, log: Path, environment: dict[str, str]
) -> None:
    """What the child does; the server that it is forked from has an older environment."""
    os.environ.update(environment)
    disk = BucketLog(url, log, fate=fate)
    begun.send("begun")
    try:
        live(corpora, UrlPath(url), disk)
    except StoreLockedError:
        os._exit(LOST)


def require_sound(url: str, log: Path) -> None:
    """What was acknowledged is there as it was written, and no reader sees anything twice."""
    place, present = ObjectPlace.at(url), acknowledged(log)
    for shard, digest in present.items():
        key = UrlPath(shard).relative_to(UrlPath(url)).as_posix()
        assert blake3(place.read(f"{key}/shard.json")).hexdigest() == digest
    try:
        store = Store.open(UrlPath(url))
    except NoStoreError:
        assert not present, "shards without a store"
        return
    assert verify(UrlPath(url), deep=True) == []
    see(store)
