"""Who writes to a store in a bucket: a small object that its writer renews, a courtesy to people.

It keeps two from beginning at once and says who writes. Safety does not rest on it: see commit_log.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from threading import Event, Thread
from typing import Any

from pfgdata.errors import PlaceError, StoreError, StoreLockedError
from pfgdata.files.lock import runs
from pfgdata.files.place_errors import TakenError
from pfgdata.files.places import ObjectInfo, ObjectPlace

__all__ = ["LEASE_SECONDS", "Lease", "require_conditions"]

LEASE_SECONDS = 60.0  # after which a writer that does not renew its lease is taken for dead
_RENEWALS = 4  # in that time
_KEEPS_CONDITIONS: set[str] = set()  # URLs whose server was found to
_ASK_AGAIN = 1.0  # seconds between two tries of one who waits: each is a request


class Lease:
    """The lease at `key`, held between `held`'s begin and end; `lost` once another has taken it over."""

    def __init__(self, place: ObjectPlace, key: str, *, seconds: float = LEASE_SECONDS) -> None:
        self._place, self._key, self._seconds = place, key, seconds
        self._etag = ""
        self._renewed = 0
        self._token = uuid.uuid4().hex
        self.lost = False

    @contextmanager
    def held(
        self, *, what: str, wait: bool, say: Callable[[str], None], stop: Callable[[], bool]
    ) -> Iterator[None]:
        """Hold the lease, and renew it in a thread. Raises as `Disk.exclusive` does."""
        self._take(what=what, wait=wait, say=say, stop=stop)
        ended = Event()
        thread = Thread(target=self._renew, args=(ended,), name="lease", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
            with contextlib.suppress(TakenError, PlaceError):
                if not self.lost:
                    self._place.put(self._key, b"", if_match=self._etag)

    def _take(self, *, what: str, wait: bool, say: Callable[[str], None], stop: Callable[[], bool]) -> None:
        said = False
        while True:
            there = self._place.there(self._key)
            owner = self._owner(there)
            if owner is None:
                with contextlib.suppress(TakenError):
                    self._put(there[1].etag if there else None)
                    return
                continue
            if not wait:
                raise StoreLockedError(
                    f"{what} is being written by {owner}; let it end or stop it, then try again (where it "
                    f"has died, in {self._seconds:.0f} s)"
                )
            if not said:
                say(f"{what}: waiting for {owner}, which is writing it")
                said = True
            if stop():
                raise KeyboardInterrupt
            time.sleep(min(_ASK_AGAIN, self._seconds / _RENEWALS))

    def _renew(self, ended: Event) -> None:
        while not ended.wait(self._seconds / _RENEWALS):
            try:
                self._put(self._etag)
            except TakenError:
                if not self._is_still_ours():
                    self.lost = True
                    return
            except PlaceError:  # it may answer the next time; if not, others take over
                continue

    def _is_still_ours(self) -> bool:
        """Whether what was refused comes behind a renewal of ours whose answer was lost."""
        with contextlib.suppress(PlaceError, ValueError):
            there = self._place.there(self._key)
            if there and json.loads(there[0] or b"{}").get("token") == self._token:
                self._etag = there[1].etag
                return True
        return False

    def _put(self, over: str | None) -> None:
        self._renewed += 1
        value = {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "token": self._token,
            "renewed": self._renewed,
        }
        data = json.dumps(value).encode()
        self._etag = self._place.put(self._key, data, if_none_match=over is None, if_match=over)

    def _owner(self, there: tuple[bytes, ObjectInfo] | None) -> str | None:
        """Who holds the lease; None where it is free, or its holder is known or taken to be dead."""
        if there is None or not there[0]:
            return None
        age = (datetime.now(UTC) - there[1].modified).total_seconds()
        if age > self._seconds:
            return None
        try:
            value: dict[str, Any] = json.loads(there[0])
            pid, host = int(value["pid"]), str(value["host"])
        except (ValueError, KeyError, TypeError):
            return "another process"
        if host == socket.gethostname() and not runs(pid):
            return None
        return f"process {pid} on {host}"


def require_conditions(place: ObjectPlace) -> None:
    """Raise StoreError where the server lets a second writer write over a first; asked once a process."""
    if place.url in _KEEPS_CONDITIONS:
        return
    key = f".pfg-probe-{uuid.uuid4().hex}"
    etag = place.put(key, b"1", if_none_match=True)
    try:
        for data, condition in ((b"2", {"if_none_match": True}), (b"3", {"if_match": etag})):
            if condition.get("if_match"):
                place.put(key, b"4")  # now it is another version
            with contextlib.suppress(TakenError):
                place.put(key, data, **condition)
                raise StoreError(
                    f"{place.url}: its server ignores conditions (If-None-Match, If-Match), so two writers "
                    "could harm each other; use one that keeps them (S3, Google, Azure, MinIO, SeaweedFS)"
                )
    finally:
        place.delete(key)
    _KEEPS_CONDITIONS.add(place.url)
