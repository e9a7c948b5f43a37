"""Objects in a bucket, or behind a web server: a thin client over obstore, whose errors are one line.

Credentials come from the provider's own chain alone (its environment variables, files and roles). A request
that failed for a while (5xx, throttling, a cut connection) is tried again with growing pauses.
"""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

from blake3 import blake3

from pfgdata.errors import ConfigError, PlaceError
from pfgdata.files.aws_profile import profile_settings
from pfgdata.files.place_errors import TakenError, explained_place, missing_extra
from pfgdata.urls import url_parts

if TYPE_CHECKING:
    from obstore.store import ObjectStore

__all__ = ["ObjectInfo", "ObjectPlace"]

_PART = 8 << 20  # bytes at a time of what is streamed to a file
_TRIES = 4  # of a body that breaks off: the client itself tries again only what has not begun to come
_PAUSE = 0.5  # seconds before the second try; doubled each time
_SETTINGS = ("AWS_", "GOOGLE_", "AZURE_", "HOME")  # how variables begin that decide where and who

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """One object: its key below the place, bytes, the server's mark of its version, when it was written."""

    key: str
    size: int
    etag: str
    modified: datetime


@dataclass(frozen=True, slots=True)
class ObjectPlace:
    """What lies below one URL. Keys are relative to it, `/` between their parts. Safe for threads."""

    url: str  # as it is shown: without a slash at its end
    store: ObjectStore = field(repr=False)
    prefix: str = ""

    @classmethod
    def at(cls, url: str | os.PathLike[str]) -> ObjectPlace:
        """The place at s3://, gs:// or az://BUCKET/PREFIX; http:// and https:// for reading.

        Nothing is asked of the server. Raises ConfigError for what is no such URL, or where obstore lacks.
        """
        scheme, bucket, prefix = _parsed(os.fspath(url))
        shown = f"{scheme}://{bucket}" + (f"/{prefix}" if prefix else "")
        settings = tuple(sorted(one for one in os.environ.items() if one[0].startswith(_SETTINGS)))
        return cls(shown, _client(f"{scheme}://{bucket}", settings), prefix)

    def below(self, key: str) -> ObjectPlace:
        """The place one or several names further down."""
        return ObjectPlace(f"{self.url}/{key}", self.store, self._full(key))

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """Every object below the folder `prefix`, in the order of their keys. One request for 1,000."""
        import obstore

        last, tries, pause = None, _TRIES, _PAUSE
        while True:
            try:
                with explained_place(self._shown(prefix), what="listing"):
                    for chunk in obstore.list(self.store, self._full(prefix) or None, offset=last):
                        found = [self._info(one) for one in chunk]
                        last = chunk[-1]["path"] if chunk else last
                        tries = _TRIES
                        yield from found
                return
            except PlaceError as problem:
                tries -= 1
                if not (tries and problem.passes):
                    raise
                time.sleep(pause)
                pause *= 2

    def children(self, prefix: str = "") -> tuple[Sequence[str], Sequence[ObjectInfo]]:
        """What lies directly in the folder `prefix`: names of its folders, and its objects."""
        import obstore

        below = self._full(prefix) or None
        found = self._tried(prefix, lambda: obstore.list_with_delimiter(self.store, below), what="listing")
        folders = [one.rstrip("/").rsplit("/", 1)[-1] for one in found["common_prefixes"]]
        return folders, [self._info(one) for one in found["objects"]]

    def info(self, key: str) -> ObjectInfo:
        """Size and etag of an object. Raises FileNotFoundError where there is none."""
        import obstore

        return self._info(self._tried(key, lambda: obstore.head(self.store, self._full(key))))

    def read(self, key: str) -> bytes:
        """The bytes of a small object. Raises FileNotFoundError where there is none."""
        return self.read_known(key)[0]

    def read_known(self, key: str) -> tuple[bytes, ObjectInfo]:
        """The bytes of a small object, and of which version they are."""
        import obstore

        def read() -> tuple[bytes, ObjectInfo]:
            found = obstore.get(self.store, self._full(key))
            return found.bytes().to_bytes(), self._info(found.meta)

        return self._tried(key, read)

    def read_version(
        self, key: str, *, start: int = 0, stop: int | None = None, most: int | None = None
    ) -> tuple[ObjectInfo, bytes | None]:
        """Which version of an object lies there, and its bytes `start` to `stop` in the same request.

        None in place of the bytes, unread, where the object has over `most`.
        """
        import obstore

        options: Any = {} if stop is None else {"range": (start, stop)}

        def read() -> tuple[ObjectInfo, bytes | None]:
            found = obstore.get(self.store, self._full(key), options=options)
            info = self._info(found.meta)
            return info, None if most is not None and info.size > most else found.bytes().to_bytes()

        return self._tried(key, read)

    def there(self, key: str) -> tuple[bytes, ObjectInfo] | None:
        """As `read_known`; None where there is no such object."""
        try:
            return self.read_known(key)
        except FileNotFoundError:
            return None

    def read_ranges(self, key: str, spans: Sequence[tuple[int, int]]) -> Sequence[bytes]:
        """Several ranges (start, stop) of one object, asked for side by side; near ones in one request."""
        import obstore

        starts, ends = [start for start, _ in spans], [stop for _, stop in spans]
        place, name = self.store, self._full(key)

        def read() -> Sequence[bytes]:
            return [one.to_bytes() for one in obstore.get_ranges(place, name, starts=starts, ends=ends)]

        return self._tried(key, read) if spans else []

    def fetch(self, key: str, file: Path) -> str:
        """Stream an object into the new file `file`; the BLAKE3 of its bytes."""

        def fetch() -> str:
            with file.open("wb") as out:
                return self._streamed(key, out)

        return self._tried(key, fetch)

    def digest(self, key: str) -> str:
        """The BLAKE3 of an object's bytes, as they are there now."""
        return self._tried(key, lambda: self._streamed(key, None))

    def put(
        self, key: str, data: bytes | Path, *, if_none_match: bool = False, if_match: str | None = None
    ) -> str:
        """Write an object, all of it or nothing, from bytes or a file; its etag.

        With `if_none_match` only where there is none, with `if_match` only over the version of that etag:
        else TakenError, whatever the server calls it (409, 412). Bytes that are there already, as where the
        answer of a first try was lost, count as written: let what is raced for hold something of its own.
        """
        import obstore

        mark = "version" if self._counts else "e_tag"
        mode: Any = "create" if if_none_match else {mark: if_match} if if_match else "overwrite"
        name = self._full(key)

        def write() -> str:
            return self._mark(obstore.put(self.store, name, data, mode=mode))

        for left in reversed(range(_TRIES)):
            try:
                return self._tried(key, write, what="writing")
            except TakenError:
                there = self.there(key)
                if there is None and if_none_match and left:  # 409: two at once, and neither was let in
                    continue
                if there is None or there[0] != data:
                    raise
                return there[1].etag
        raise AssertionError("unreachable")

    def delete(self, *keys: str) -> None:
        """Delete objects; what is not there is no error."""
        import obstore

        if keys:
            names = [self._full(key) for key in keys]
            self._tried(keys[0], lambda: obstore.delete(self.store, names), what="deleting")

    def copy(self, key: str, target: str) -> None:
        """Copy an object within the place, by its server."""
        import obstore

        self._tried(
            target, lambda: obstore.copy(self.store, self._full(key), self._full(target)), what="writing"
        )

    def _streamed(self, key: str, out: BinaryIO | None) -> str:
        """The BLAKE3 of an object's bytes, written to `out` on their way."""
        import obstore

        digest = blake3()
        for part in obstore.get(self.store, self._full(key)).stream(min_chunk_size=_PART):
            digest.update(part)
            if out is not None:
                out.write(part)
        return digest.hexdigest()

    def _tried(self, key: str, do: Callable[[], T], *, what: str = "reading") -> T:
        """What `do` gives; tried again where the connection was cut or the server too busy."""
        pause = _PAUSE
        for left in reversed(range(_TRIES)):
            try:
                with explained_place(self._shown(key), what=what):
                    return do()
            except PlaceError as problem:
                if not (left and problem.passes):
                    raise
                time.sleep(pause)
                pause *= 2
        raise AssertionError("unreachable")

    def _shown(self, key: str) -> str:
        return f"{self.url}/{key}" if key else self.url

    def _full(self, key: str) -> str:
        return "/".join(part for part in (self.prefix, key) if part)

    def _info(self, found: Any) -> ObjectInfo:
        key = found["path"].removeprefix(f"{self.prefix}/" if self.prefix else "")
        return ObjectInfo(key, found["size"], self._mark(found), found["last_modified"])

    @property
    def _counts(self) -> bool:
        """Whether conditions go by the server's count of versions, as at Google, instead of by etag."""
        return self.url.startswith("gs://")

    def _mark(self, found: Any) -> str:
        return (found["version"] if self._counts else found["e_tag"]) or ""


def _parsed(url: str) -> tuple[str, str, str]:
    found = url_parts(url)
    if found is None:
        raise ConfigError(f"{url}: is no place of objects; write s3://BUCKET/NAME, gs://... or az://...")
    scheme, bucket, prefix = found
    parts = [part for part in prefix.split("/") if part]
    if "@" in bucket:
        raise ConfigError(
            f"{scheme}://...@{bucket.rpartition('@')[2]}: credentials do not belong in a URL; leave them to "
            "the provider's own settings"
        )
    if any(part in (".", "..") for part in parts):
        raise ConfigError(f"{url}: . and .. mean nothing in a bucket; write the place itself")
    return scheme, bucket, "/".join(parts)


@functools.cache  # connections are shared
def _client(root: str, settings: tuple[tuple[str, str], ...]) -> ObjectStore:
    """The client of a bucket under those environment variables."""
    try:
        from obstore.store import HTTPStore, S3Store, from_url
    except ImportError:
        raise missing_extra(root) from None

    environment = dict(settings)
    options: Any = {"connect_timeout": "5s", "timeout": "10min"}  # the latter for a whole object
    retry: Any = {"max_retries": 8, "retry_timeout": timedelta(seconds=60)}
    scheme = root.partition("://")[0]
    with explained_place(root, what="opening"):
        if scheme in ("http", "https"):
            options["allow_http"] = scheme == "http"
            return HTTPStore.from_url(root, client_options=options, retry_config=retry)
        if scheme == "s3":
            profile: Any = profile_settings(environment)
            named = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
            endpoint = next(filter(None, map(environment.get, named)), profile.get("endpoint", ""))
            options["allow_http"] = endpoint.startswith("http://")
            if endpoint:
                profile["endpoint"] = endpoint
            return S3Store.from_url(root, client_options=options, retry_config=retry, **profile)
        return from_url(root, client_options=options, retry_config=retry)
