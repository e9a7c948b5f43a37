"""The guides of a session, kept by their content: `guides/<content id>/<name>` in its folder.

A guide is judged as `generate` judges it, by the same reading of its file, and stays there when the session
has ended: the commands that the page tells name it. Its name is a picture's setting and is kept too.
"""

from __future__ import annotations

import re
import secrets
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pfgdata.corpus import read_image
from pfgdata.errors import ConfigError, ImageError, RunError
from pfgdata.images import thumbnail_jpeg
from pfgdata.records import content_id
from pfgtrain.web.bounds import Bounds

__all__ = ["Guide", "Shelf", "plain_name"]

_SIDE = 320  # pixels of a guide on the page
_NAME_BYTES = 120  # well below the 255 of common file systems, with a digest before it
_UNFIT = re.compile(r'[\x00-\x1f\x7f-\x9f/\\:*?"<>|\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]+')


@dataclass(slots=True, kw_only=True)
class Guide:
    """One guide: its file, how it looks small, and what the tagger saw once it has looked."""

    id: str  # content id, hex
    name: str
    path: Path
    width: int
    height: int
    thumbnail: bytes = field(repr=False)  # JPEG
    seen: dict[str, Any] | None = None
    problem: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """What the page shows of it."""
        names = ("id", "name", "width", "height", "seen", "problem")
        return {name: getattr(self, name) for name in names}


class Shelf:
    """Guides in the order they came. Threads may ask at once; one image is decoded at a time."""

    def __init__(self, folder: Path, *, bounds: Bounds) -> None:
        self._folder = folder
        self._bounds = bounds
        self._guides: dict[str, Guide] = {}
        self._lock = threading.Lock()
        self._decoding = threading.Lock()

    def __len__(self) -> int:
        return len(self._guides)

    def all(self) -> Sequence[Guide]:
        """All of them, the first first."""
        with self._lock:
            return tuple(self._guides.values())

    def get(self, guide: str) -> Guide | None:
        """The guide of that id."""
        return self._guides.get(guide)

    def unseen(self) -> Guide | None:
        """The first that the tagger has not looked at."""
        waiting = (one for one in self.all() if one.seen is None and one.problem is None)
        return next(waiting, None)

    def remove(self, guide: str) -> bool:
        """Take it off the page; its file stays, for commands name it. False if there was none."""
        with self._lock:
            return self._guides.pop(guide, None) is not None

    def keep(self, data: bytes, name: str) -> Guide:
        """The guide of these bytes, kept once: a known one comes back under the name it has.

        Raises ContentError for what is no image, ConfigError over a bound, RunError for a full disk.
        """
        known = content_id(data).hex()
        if found := self.get(known):
            return found
        self._require_room(len(data))
        fresh = self._folder / f".tmp-{secrets.token_hex(8)}"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            try:
                fresh.write_bytes(data)
                guide = self._placed(fresh, known, plain_name(name))
            finally:
                fresh.unlink(missing_ok=True)
        except OSError as problem:
            why = (problem.strerror or str(problem)).lower()
            raise RunError(f"{self._folder}: cannot be written ({why}); choose another --out") from problem
        with self._lock:
            return self._guides.setdefault(known, guide)

    def _placed(self, fresh: Path, known: str, name: str) -> Guide:
        """The guide in the file `fresh`, moved to where it belongs."""
        try:
            with self._decoding:
                pixels = read_image(fresh).pixels
                small = thumbnail_jpeg(pixels, side=_SIDE)
        except ImageError as problem:
            reason = str(problem).replace(str(fresh), name)
            raise type(problem)(reason) from problem
        path = self._folder / known / name
        earlier = sorted(path.parent.iterdir()) if path.parent.is_dir() else []
        if earlier:  # of a session before: one content, one name
            path = earlier[0]
        else:
            path.parent.mkdir(exist_ok=True)
            fresh.replace(path)
        height, width = pixels.shape[:2]
        return Guide(id=known, name=path.name, path=path, width=width, height=height, thumbnail=small)

    def _require_room(self, size: int) -> None:
        bounds = self._bounds
        if size > bounds.upload:
            raise ConfigError(f"a guide of {size / 2**20:,.0f} MB; {bounds.upload / 2**20:,.0f} at most")
        if len(self) >= bounds.guides:
            raise ConfigError(f"{bounds.guides} guides are here; remove some first")
        there = sum(path.stat().st_size for path in self._folder.glob("*/*") if path.is_file())
        if there + size > bounds.guide_bytes:
            raise ConfigError(
                f"{self._folder} holds {there / 2**30:.1f} GB of guides; delete those that are not needed"
            )


def plain_name(name: str) -> str:
    """A file name out of any text: a path's last part, without signs that systems or readers stumble over."""
    last = re.split(r"[/\\]", name)[-1].encode("utf-8", "ignore").decode()
    clean = _UNFIT.sub("_", last).strip(" .")
    stem, dot, kind = clean.rpartition(".")
    if not dot or len(kind) > 8:
        stem, kind = clean, ""
    stem = stem.encode()[:_NAME_BYTES].decode("utf-8", "ignore").strip(" .") or "guide"
    return f"{stem}.{kind}" if kind else stem
