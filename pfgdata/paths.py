"""What a path or URL means that a user wrote: `~` is read here, once, and no library below reads it again.

pathlib, HDF5 and the system open a folder named `~`; pyarrow and DuckDB take whatever begins so for a place
below a home. So a path that is handed on never begins with it.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from pfgdata.errors import ConfigError
from pfgdata.urls import STORES, UrlPath, is_url

__all__ = [
    "Place",
    "Url",
    "in_the_way",
    "is_text",
    "place_of",
    "plain_path",
    "user_folder",
    "user_path",
    "user_place",
    "user_store",
]

_SCHEMES = ("s3", "gs", "az", "hf", "http", "https")
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://([^/?#]*)([^?#]*)(.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Url:
    """A place of files that is no folder of this machine: s3://bucket/prefix, hf://datasets/ORG/NAME@rev.

    `text` is as it is shown and kept: no slash at its end, and nothing that could be a secret.
    """

    text: str

    def __str__(self) -> str:
        return self.text

    @property
    def scheme(self) -> str:
        """What stands before ://."""
        return self.text.partition("://")[0]

    @classmethod
    def of(cls, text: str) -> Url:
        """The place that a user means by `text`; in that of a web server %20 is a space, as browsers copy it.

        Raises ConfigError for what pfg cannot read from, and for credentials, which the message leaves out.
        """
        found = _URL.fullmatch(text)
        assert found is not None
        scheme, host, path = found[1].lower(), found[2], found[3]
        if scheme in ("http", "https"):  # whose client escapes what it asks for
            path = unquote(path, errors="surrogateescape")
        names = [name for name in path.split("/") if name]
        plain = "/".join([f"{scheme}://{host.rpartition('@')[2]}", *names])
        if "@" in host or found[4]:
            raise ConfigError(
                f"{plain}: leave out what stands before @ and after ?; credentials come from the"
                " provider's own settings (environment, profile, login)"
            )
        if scheme not in _SCHEMES:
            raise ConfigError(
                f"{plain}: pfg reads from a folder, or from {', '.join(_SCHEMES)}; copy it there"
            )
        if not host or not is_text(plain) or "\0" in plain or {".", ".."} & set(names):
            raise ConfigError(f"{plain!r}: is no place; write {scheme}://BUCKET/FOLDER")
        return cls(plain)


Place = Path | Url  # where files are, on this machine or not


def place_of(text: str) -> Place:
    """The place on record as `text`."""
    return Url(text) if _URL.match(text) else Path(text)


def user_place(text: str | os.PathLike[str]) -> Place:
    """The folder, file or URL that a user means by `text`. Raises as `user_path` and `Url.of` do."""
    return Url.of(text) if isinstance(text, str) and _URL.match(text) else user_path(text)


def user_path(text: str | os.PathLike[str], *, start: str | os.PathLike[str] = "") -> Path:
    """The path that a user means by `text`, relative to the folder `start` (by default where they stand).

    `~`, `~/x` and `~user/x` lie below a home, unless something of just that name is in `start`; `./~/x` never
    does. Raises ConfigError for a NUL, which no path can hold.
    """
    text = os.fspath(text)
    if "\0" in text:
        raise ConfigError(f"{text!r} holds a NUL character, which no path can; take it out")
    beside = Path(start, text)
    home = os.path.expanduser(text)  # noqa: PTH111 - pathlib has dropped the ./ of a folder named ~
    return Path(home) if home != text and not os.path.lexists(beside) else plain_path(beside)


def user_folder(text: str | os.PathLike[str]) -> Path:
    """The folder, there or to be made, that a user means by `text`. Raises ConfigError where none can be."""
    if is_url(text) or _URL.match(os.fspath(text)):
        raise ConfigError(
            f"{_without_secret(text)}: only a store can lie in a bucket; name a folder of this machine"
        )
    path = user_path(text)
    if reason := in_the_way(path):
        raise ConfigError(reason)
    return path


def user_store(text: str | os.PathLike[str]) -> Path:
    """The store that a user means: a folder, as `user_folder`, or the URL of a place in a bucket.

    Raises ConfigError as `Url.of` does, and for what no store can lie in.
    """
    if not _URL.match(os.fspath(text)):
        return UrlPath(os.fspath(text).rstrip("/")) if is_url(text) else user_folder(text)
    url = Url.of(os.fspath(text))  # for its checks, of credentials among them
    if url.scheme not in STORES:
        raise ConfigError(
            f"{url}: no store can lie there; name a folder, or {', '.join(f'{one}://' for one in STORES)}"
        )
    return UrlPath(url.text)


def _without_secret(text: str | os.PathLike[str]) -> str:
    """What names a URL, to be shown."""
    return re.sub(r"(?<=/)[^/]*@|[?#].*", "", os.fspath(text), flags=re.DOTALL)


def in_the_way(folder: Path) -> str | None:
    """Why `folder` is none and cannot be made: a file or a dangling link is there, or above it; else None."""
    for path in (folder, *folder.parents):
        try:
            mode = path.stat().st_mode  # asked once: another process may be making it
        except OSError as problem:
            if problem.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                raise
            if path.is_symlink():
                where = path.readlink()
                return f"{path}: is a link to {where}, which is not there; mount it, make it, or name another"
            continue
        return None if stat.S_ISDIR(mode) else f"{path}: is a file; name a folder"
    return None


def is_text(path: str | os.PathLike[str]) -> bool:
    """Whether `path`, or any text, can be UTF-8, as pyarrow, DuckDB, tokenizers and most files want it."""
    try:
        os.fspath(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def plain_path(path: Path) -> Path:
    """`path` itself, made absolute where it begins with `~`: it names a folder here, not a home.

    That of a URL is one, whoever made it.
    """
    if is_url(path):
        return UrlPath(path)
    return path.absolute() if str(path).startswith("~") else path
