"""URLs of object places as paths of their own kind: `Path` makes s3:/x of s3://x."""

from __future__ import annotations

import os
import re
from pathlib import PosixPath

__all__ = ["SCHEMES", "STORES", "UrlPath", "is_url", "url_parts"]

STORES = ("s3", "gs", "az")
SCHEMES = (*STORES, "http", "https")
_URL = re.compile(r"([a-z][a-z0-9+.-]*)://?([^/]+)(?:/(.*))?", re.DOTALL)


def is_url(text: str | os.PathLike[str]) -> bool:
    """Whether `text` names an object place and no folder; s3:/x, which pathlib makes of it, too."""
    return url_parts(text) is not None


def url_parts(text: str | os.PathLike[str]) -> tuple[str, str, str] | None:
    """Scheme, bucket (or host) and the rest of a URL of an object place; None where it is none."""
    found = _URL.fullmatch(os.fspath(text))
    return (found[1], found[2], found[3] or "") if found and found[1] in SCHEMES else None


class UrlPath(PosixPath):
    """A path below a URL: joined and shown as any, absolute, and nothing on this machine."""

    def __str__(self) -> str:
        text = super().__str__()
        scheme, colon, rest = text.partition(":/")
        return f"{scheme}://{rest}" if colon and scheme in SCHEMES else text

    def __fspath__(self) -> str:
        return str(self)

    def is_absolute(self) -> bool:
        """Whether it begins with its scheme."""
        return str(self) != super().__str__()

    def absolute(self) -> UrlPath:
        """Itself."""
        return self

    def resolve(self, strict: bool = False) -> UrlPath:
        """Itself: there are no links."""
        return self
