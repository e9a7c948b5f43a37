"""Files of a dataset on the hub, at one commit: listed and read by three of its endpoints.

The commit is asked for once, so that all a process reads is of one moment. The token is huggingface_hub's.
Where the hub says that there were too many requests, it is waited for as long as it says.
"""

from __future__ import annotations

import email.utils
import re
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, unquote

from pfgdata.corpus.sources import RemoteFile, plain_etag
from pfgdata.errors import AccessError, ConfigError, ContentError, PfgError
from pfgdata.paths import Url

__all__ = ["HubDataset"]

_NAME = re.compile(r"hf://datasets/([^/@]+/[^/@]+)(?:@([^/]+))?(?:/(.*))?", re.DOTALL)
_TRIES = 5  # of what failed for a while; waiting as the hub says is none
_PAUSE = 1.0  # seconds after the first of them; doubled each time
_LONGEST_WAIT = 900.0  # seconds; the hub's windows are five minutes
_BUSY = (500, 502, 503, 504)
_PIECE = 1 << 20
_TIMEOUT = 60.0  # seconds without a byte


class _Name(NamedTuple):
    dataset: str
    revision: str
    folder: str


class _Refused(Exception):
    """An answer that is no file: its status, and what the hub calls the error."""

    def __init__(self, status: int, code: str) -> None:
        super().__init__(f"{status} {code}")
        self.status, self.code = status, code


class HubDataset:
    """The files of hf://datasets/ORG/NAME@rev/folder."""

    slow_to_ask = True

    def __init__(self, url: Url) -> None:
        """Raises ConfigError for what names no dataset."""
        found = _NAME.fullmatch(url.text)
        if found is None:
            raise ConfigError(f"{url}: names no dataset; write hf://datasets/ORG/NAME@REVISION/FOLDER")
        self._url = url
        self._name = _Name(found[1], unquote(found[2] or "main"), found[3] or "")
        self._lock = threading.Lock()
        self._known_commit: str | None = None

    def list(self, folder: bytes) -> Iterator[RemoteFile]:
        """All files below `folder`, a page of the hub's at a time."""
        below = self._in_repository(folder).rstrip("/")
        api = f"{_endpoint()}/api/datasets/{self._name.dataset}/tree/{self._commit}"
        page: str | None = f"{api}/{quote(below)}".rstrip("/") + "?recursive=true&expand=false"
        cut = len(self._in_repository(b"").encode())  # bytes, as what is cut
        while page:
            found, page = self._page(page)
            for one in found:
                if one["type"] == "file":
                    etag = (one.get("lfs") or {}).get("oid") or one["oid"]
                    yield RemoteFile(one["path"].encode()[cut:], one["size"], etag)

    def _page(self, page: str) -> tuple[Sequence[Any], str | None]:
        """A page of a list, and the next one's address; an empty one of a folder that is not there."""
        try:
            with self._asked(page) as answer:
                answer.read()
                return answer.json(), answer.links.get("next", {}).get("url")
        except Exception as problem:
            if isinstance(problem, _Refused) and problem.status == 404:
                return [], None
            raise self._told(problem) from None

    def state(self, path: bytes) -> RemoteFile:
        """The file at `path`, by the head of an answer whose body is not waited for."""
        with self._file(path, {}) as answer:
            return _version(path, answer)

    def read(self, path: bytes, *, max_bytes: int) -> tuple[RemoteFile, bytes]:
        """The whole file."""
        with self._file(path, {}) as answer:
            file = _version(path, answer)
            if file.size > max_bytes:
                raise ContentError(f"{file.size:,} bytes, over the limit of {max_bytes:,}")
            data = b"".join(answer.iter_bytes(_PIECE))
        if len(data) != file.size:
            raise AccessError("broke off while it was read")
        return file, data

    def read_part(self, file: RemoteFile, start: int, size: int) -> bytes:
        """`size` bytes from `start` on."""
        if not size:
            return b""
        with self._file(file.path, {"Range": f"bytes={start}-{start + size - 1}"}) as answer:
            data = answer.read()
        if answer.status_code == 200:  # a server that knows no ranges
            data = data[start : start + size]
        if len(data) != size:
            raise AccessError("broke off while it was read")
        return data

    def fetch(self, file: RemoteFile, target: Path) -> None:
        """Stream all of it; what breaks off goes on from there."""
        with target.open("wb") as out:
            for left in reversed(range(_TRIES)):
                at = out.tell()
                with self._file(file.path, {"Range": f"bytes={at}-"} if at else {}) as answer:
                    if at and answer.status_code == 200:
                        out.seek(0)
                        out.truncate()
                    for piece in self._pieces(answer, last=not left):
                        out.write(piece)
                if out.tell() >= file.size:
                    break
        if target.stat().st_size != file.size:
            raise AccessError("broke off while it was fetched")

    @staticmethod
    def _pieces(answer: Any, *, last: bool) -> Iterator[bytes]:
        try:
            yield from answer.iter_bytes(_PIECE)
        except Exception as problem:  # of httpx, by whichever name the hub's client has it
            if last or not _is_connection(problem):
                raise

    def _in_repository(self, path: bytes) -> str:
        try:
            text = path.decode()
        except UnicodeDecodeError:
            raise AccessError("a name that is not UTF-8, which the hub has none of") from None
        return f"{self._name.folder}/{text}" if self._name.folder else text

    @contextmanager
    def _file(self, path: bytes, headers: dict[str, str]) -> Iterator[Any]:
        """The answer that holds a file, or part of it. Raises AccessError."""
        name = quote(self._in_repository(path))
        try:
            commit = self._commit
        except PfgError as problem:
            raise AccessError(str(problem)) from None
        address = f"{_endpoint()}/datasets/{self._name.dataset}/resolve/{commit}/{name}"
        try:
            with self._asked(address, headers) as answer:
                yield answer
        except _Refused as problem:
            if problem.status == 404:
                raise AccessError("gone, or never there") from None
            raise AccessError(_line(problem)) from None
        except Exception as problem:
            if not _is_connection(problem):
                raise
            raise AccessError("the connection to the hub broke off") from None

    @property
    def _commit(self) -> str:
        """The commit that the revision names. Raises ConfigError where there is none to be had."""
        with self._lock:
            if self._known_commit is None:
                quoted = quote(self._name.revision, safe="")
                api = f"{_endpoint()}/api/datasets/{self._name.dataset}/revision/{quoted}"
                try:
                    with self._asked(api) as answer:
                        answer.read()
                        self._known_commit = str(answer.json()["sha"])
                except Exception as problem:
                    raise self._told(problem) from None
            return self._known_commit

    def _told(self, problem: Exception) -> Exception:
        """What went wrong with the dataset as a whole, in a line; an error of ours as it is."""
        dataset = f"{self._url}: "
        if _is_offline(problem):
            return ConfigError(f"{dataset}the hub is not asked, as HF_HUB_OFFLINE is set; unset it")
        if _is_connection(problem):
            return ConfigError(
                f"{dataset}the hub cannot be reached; check the connection, and run the same again"
            )
        if not isinstance(problem, _Refused):
            return problem
        if problem.code == "RevisionNotFound":
            return ConfigError(
                f"{dataset}the dataset has no revision {self._name.revision}; see its page for those it has"
            )
        if problem.code == "GatedRepo" or problem.status == 403:
            return ConfigError(
                f"{dataset}is gated; accept its terms on its page, then hf auth login, or set HF_TOKEN"
            )
        if problem.code == "RepoNotFound" or problem.status in (401, 404):
            return ConfigError(
                f"{dataset}the hub has no such dataset, or it is private; check the name, or hf auth login,"
                " or set HF_TOKEN"
            )
        return ConfigError(f"{dataset}{_line(problem)}; run the same again later")

    @contextmanager
    def _asked(self, address: str, headers: dict[str, str] | None = None) -> Iterator[Any]:
        """The answer to a GET, its body unread. Raises _Refused, and the client's own for a cut line."""
        answer = _answered(address, headers or {})
        try:
            yield answer
        finally:
            answer.close()


def _answered(address: str, headers: dict[str, str]) -> Any:
    from huggingface_hub import get_session
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

    told = {**build_hf_headers(), "Accept-Encoding": "identity", **headers}
    left, pause, until = _TRIES, _PAUSE, time.monotonic() + _LONGEST_WAIT
    while True:
        client, left, wait = get_session(), left - 1, None
        request = client.build_request("GET", address, headers=told, timeout=_TIMEOUT)
        try:
            answer = client.send(request, stream=True, follow_redirects=True)
        except Exception as problem:
            if not left or not _is_connection(problem) or _is_offline(problem):
                raise
        else:
            status = answer.status_code
            if status < 300:
                return answer
            answer.close()
            wait = _told_to_wait(answer)
            if status == 429 and time.monotonic() + (wait or pause) < until:
                left += 1
            elif status not in _BUSY or not left:
                raise _Refused(status, answer.headers.get("X-Error-Code", ""))
        time.sleep(pause if wait is None else wait)
        pause *= 2


def _endpoint() -> str:
    from huggingface_hub import constants

    return constants.ENDPOINT


def _told_to_wait(answer: Any) -> float | None:
    """The seconds that an answer asks to wait, by either header; None where it does not say."""
    if window := re.search(r"\bt=(\d+)", answer.headers.get("ratelimit", "")):
        return float(window[1]) + 1
    after = answer.headers.get("Retry-After", "")
    if re.fullmatch(r"\d{1,6}(\.\d*)?", after):
        return float(after)
    if date := email.utils.parsedate_to_datetime(after) if "," in after else None:
        return max(0.0, date.timestamp() - time.time())
    return None


def _version(path: bytes, answer: Any) -> RemoteFile:
    """Which version of a file an answer is of; a large one comes from elsewhere, and the hub said which."""
    linked = [one.headers["X-Linked-Etag"] for one in answer.history if "X-Linked-Etag" in one.headers]
    etag = linked[0] if linked else answer.headers.get("ETag", "")
    whole = re.search(r"/(\d+)$", answer.headers.get("Content-Range", ""))
    size = whole[1] if whole else answer.headers.get("Content-Length", 0)
    return RemoteFile(path, int(size), plain_etag(etag))


def _line(problem: _Refused) -> str:
    words = {
        401: "the hub asks for a token (HF_TOKEN)",
        403: "the hub does not allow it",
        429: "too many requests",
    }
    return words.get(problem.status, f"the hub answers {problem.status}")


def _is_connection(problem: BaseException) -> bool:
    """Whether the request did not come through; the hub's client is httpx, by whichever name."""
    kinds = {kind.__name__ for kind in type(problem).__mro__}
    return bool(kinds & {"TransportError", "OSError"}) and not isinstance(problem, PfgError)


def _is_offline(problem: BaseException) -> bool:
    return type(problem).__name__ == "OfflineModeIsEnabled"  # a ConnectionError, and no try will help
