"""Files in a bucket, or behind a web server, as a source of a corpus."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pfgdata.corpus.sources import RemoteFile, plain_etag
from pfgdata.errors import AccessError, ContentError, PlaceError
from pfgdata.files import ObjectInfo, ObjectPlace
from pfgdata.paths import Url

__all__ = ["Bucket"]

_PIECE = 16 << 20  # bytes of an archive a request
_OTHER = "another version lies there by now"


class Bucket:
    """The files of s3://, gs:// or az://BUCKET/FOLDER; of http:// and https:// all but their list."""

    slow_to_ask = False

    def __init__(self, url: Url) -> None:
        """Raises ConfigError where the client of buckets is not installed."""
        self._place = ObjectPlace.at(url.text)

    def list(self, folder: bytes) -> Iterator[RemoteFile]:
        """All files below `folder`, 1,000 a request."""
        for one in self._place.list(folder.decode().rstrip("/")):
            yield _file(one)

    def state(self, path: bytes) -> RemoteFile:
        """The file at `path`, by its head."""
        with self._one(path):
            return _file(self._place.info(_key(path)))

    def read(self, path: bytes, *, max_bytes: int) -> tuple[RemoteFile, bytes]:
        """The whole file, in one request."""
        with self._one(path):
            info, data = self._place.read_version(_key(path), most=max_bytes)
        if data is None:
            raise ContentError(f"{info.size:,} bytes, over the limit of {max_bytes:,}")
        return _file(info), data

    def read_part(self, file: RemoteFile, start: int, size: int) -> bytes:
        """`size` bytes from `start` on, in one request."""
        if not size:
            return b""
        with self._one(file.path):
            info, data = self._place.read_version(_key(file.path), start=start, stop=start + size)
        if _file(info).etag != file.etag:
            raise AccessError(_OTHER)
        if data is None or len(data) != size:
            raise AccessError("broke off while it was read")
        return data

    def fetch(self, file: RemoteFile, target: Path) -> None:
        """Write all of it, 16 MB a request: an archive of many gigabytes takes longer than one may."""
        with target.open("wb") as out:
            for start in range(0, file.size, _PIECE):
                out.write(self.read_part(file, start, min(_PIECE, file.size - start)))

    @contextmanager
    def _one(self, path: bytes) -> Iterator[None]:
        """What goes wrong with a single file is an AccessError."""
        try:
            yield
        except FileNotFoundError:
            raise AccessError("gone, or never there") from None
        except PlaceError as problem:
            where = f"{self._place.url}/{path.decode(errors='replace')}: "
            raise AccessError(str(problem).removeprefix(where)) from None


def _key(path: bytes) -> str:
    try:
        return path.decode()
    except UnicodeDecodeError:
        raise AccessError("a name that is not UTF-8, which no bucket has") from None


def _file(info: ObjectInfo) -> RemoteFile:
    etag = info.etag or f"{info.size} {info.modified.timestamp()}"  # some web servers have none
    return RemoteFile(info.key.encode(), info.size, plain_etag(etag))
