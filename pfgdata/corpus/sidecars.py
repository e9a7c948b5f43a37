"""Captions that lie beside images: which file is whose, and its text.

A danbooru-style tag list, a sentence and a downloader's JSON all become one line of text. A caption is
untrusted like any file: it is read by `read`, so nothing but a plain file inside the corpus is opened.
"""

from __future__ import annotations

import codecs
import itertools
import json
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from pfgdata.corpus.names import is_sidecar
from pfgdata.corpus.reader import member_names, read
from pfgdata.corpus.remote import remote_names
from pfgdata.errors import AccessError, ContentError
from pfgdata.paths import Place, Url
from pfgdata.records import ImageKey

__all__ = [
    "MAX_SIDECAR_BYTES",
    "Sidecars",
    "caption_text",
    "list_sidecars",
    "read_caption",
    "read_json_beside",
    "tags_of_post",
]

MAX_SIDECAR_BYTES = 65_536  # 10,000 words; what is longer is no caption

# A text file is nothing but a caption, JSON may hold one among other things: texts come first. Among those
# the whole name of the image is more specific than its stem, which x.jpg and x.png share.
_TEXTS, _JSON = (b".txt", b".caption"), b".json"
_GROUPS = (
    "character",
    "copyright",
    "artist",
    "species",
    "general",
)  # as captions are written, who comes first
# Words between separators, on average, from which a text is prose: tags have one to three.
_PROSE, _PROSE_WITH_FULL_STOP = 4, 2
_STOPS = (".", "!", "?", "。", "！", "？")
_PAUSES = (*_STOPS, ",", ";", ":")
_DOS_END = "\x1a"  # DOS, and CP/M before it, end a text with it, or fill up with it
# Elements and entities that sites store: an artist's words are HTML, a caption for a training is not.
_HTML = re.compile(
    r"<(p|br|a|b|i|u|em|strong|span|div|img|ul|ol|li|h\d)\b[^<>]*>|&(#\d+|[a-z]+);", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Sidecars:
    """The sidecars of one folder (or archive), by what they belong to: (name or stem, extension) -> name."""

    names: dict[tuple[bytes, bytes], bytes]
    bases: frozenset[bytes]  # names and stems of the other files
    problem: str | None = None  # why an archive may have more

    def of(self, image: bytes) -> bytes | None:
        """The name of the file that holds the caption of the image called `image`, or None.

        For x.jpg the first there is of x.jpg.txt, x.jpg.caption, x.txt, x.caption, x.jpg.json, x.json.
        """
        bases = (image, image.rpartition(b".")[0])
        texts = ((base, extension) for base in bases for extension in _TEXTS)
        wanted = (*texts, *((base, _JSON) for base in bases))
        return next((self.names[path] for path in wanted if path in self.names), None)

    def json_of(self, image: bytes) -> bytes | None:
        """The name of the JSON file beside the image called `image` (x.jpg.json before x.json), or None."""
        bases = (image, image.rpartition(b".")[0])
        return next((self.names[base, _JSON] for base in bases if (base, _JSON) in self.names), None)

    @property
    def orphans(self) -> list[bytes]:
        """Names that could be of a sidecar where no other file has that name or stem, sorted."""
        return sorted(name for (base, _), name in self.names.items() if base not in self.bases)


def list_sidecars(location: Place, folder: bytes, *, follow_links: bool = False) -> Sidecars:
    """The sidecars in `folder` ("" or ending in /), or in an archive, of the corpus root at `location`.

    One listing of a folder, no stat. Raises AccessError where it cannot be listed, ContentError where an
    archive is broken.
    """
    if folder and not folder.endswith(b"/"):
        names, problem = member_names(location, folder, follow_links=follow_links)
        return replace(_sidecars_among(names), problem=problem)
    if isinstance(location, Url):
        return _sidecars_among(remote_names(location, folder))
    try:
        with os.scandir(os.fsencode(location) + b"/" + folder) as entries:
            return _sidecars_among(entry.name for entry in entries if not entry.is_dir(follow_symlinks=False))
    except OSError as problem:
        raise AccessError((problem.strerror or type(problem).__name__).lower()) from problem


def _sidecars_among(names: Iterable[bytes]) -> Sidecars:
    """The sidecars among the names of a folder's files; extensions in any case, hidden files left out."""
    found: dict[tuple[bytes, bytes], bytes] = {}
    bases: set[bytes] = set()
    for name in sorted(names):  # x.TXT before x.txt, which stays
        base, dot, extension = name.rpartition(b".")
        if is_sidecar(name):
            found[base, dot + extension.lower()] = name
        else:
            bases |= {name, base}
    return Sidecars(found, frozenset(bases))


def read_caption(location: Place, key: ImageKey, *, follow_links: bool = False) -> str:
    """The caption in the sidecar `key` (a file, or a member) of the corpus root at `location`.

    Raises AccessError where it cannot be read this time, ContentError where it holds no caption.
    """
    name = key.path if key.member is None else key.member
    data = read(location, key, max_bytes=MAX_SIDECAR_BYTES, follow_links=follow_links).data
    return caption_text(data, is_json=name.lower().endswith(_JSON))


def read_json_beside(location: Place, key: ImageKey, *, follow_links: bool = False) -> Any:
    """The value of the JSON sidecar `key`. Raises AccessError, or ContentError where it is no JSON."""
    data = read(location, key, max_bytes=MAX_SIDECAR_BYTES, follow_links=follow_links).data
    return _json_in(_decoded(data))


def tags_of_post(value: dict[str, Any], *groups: str) -> list[str] | None:
    """The tags of a downloader's JSON object, once each and who before what; only of `groups`, if given.

    None where it has none, or does not say which are of the groups.
    """
    for prefix in ("tag_string_", "tags_"):  # Danbooru; gallery-dl for several boorus
        found = {group: value[prefix + group] for group in _GROUPS if prefix + group in value}
        if found:
            return _once(_grouped(found, groups or _GROUPS))
    tags = value.get("tag_string", value.get("tags"))
    if isinstance(tags, dict):  # e621 has groups in `tags`
        return _once(_grouped(tags, groups or _GROUPS))
    return None if tags is None or groups else _once(_tags(tags))


def caption_text(data: bytes, *, is_json: bool) -> str:
    r"""The caption in a sidecar's bytes, one line; "" where it is empty.

    Tags, separated by commas or lines, come out separated by ", ": stripped, underscores kept, `\(` and `\)`
    as brackets, empty and repeated ones dropped. Prose (four words and more between separators on average,
    two where a line ends in a full stop) keeps its commas; lines of tags among it are set off by ", ". NUL
    bytes and the end mark of DOS are dropped. Raises ContentError for what is not UTF-8 (UTF-16 needs its
    mark) and for JSON that is broken or has neither tags nor a caption.
    """
    text = _decoded(data)
    return _of_json(text) if is_json else _of_text(text)


def _decoded(data: bytes) -> str:
    marks = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
    encoding = "utf-16" if data.startswith(marks) else "utf-8-sig"
    try:
        return _without_marks(data.decode(encoding))
    except UnicodeDecodeError:
        raise ContentError("a caption that is not UTF-8; save it as UTF-8") from None


def _without_marks(text: str) -> str:
    return text.replace("\0", "").rstrip(_DOS_END + " \t\r\n")


def _of_text(text: str) -> str:
    lines = [line for line in map(str.strip, text.splitlines()) if line]
    sentences = any(line.endswith(".") for line in lines)
    if not _is_prose(lines, _PROSE_WITH_FULL_STOP if sentences else _PROSE):
        return _joined(_parts(lines))
    text = ""
    for is_tags, group in itertools.groupby(_kinds(lines), key=lambda pair: pair[0]):
        found = [line for _, line in group]
        piece = _joined(_parts(found)) if is_tags else _plain_brackets(" ".join(" ".join(found).split()))
        between = " " if text.endswith(_PAUSES) else ", "
        text += between + piece if text and piece else piece
    return text


def _parts(lines: Iterable[str]) -> list[str]:
    return [part for line in lines for part in map(str.strip, line.split(",")) if part]


def _is_prose(lines: Iterable[str], words: int) -> bool:
    """Whether there are so many words or more between separators, on average."""
    parts = _parts(lines)
    return sum(len(part.split()) for part in parts) >= words * max(1, len(parts))


def _kinds(lines: list[str]) -> Iterator[tuple[bool, str]]:
    """The lines of a text that is prose in all, and of each whether it is one of tags.

    A line of short parts may also be of a sentence that is written over several: in a text with full stops,
    where the line before did not end, or where it begins as a sentence does and the next one does not.
    """
    stops = any(line.endswith(_STOPS) for line in lines)
    goes_on = False
    for line, after in itertools.zip_longest(lines, lines[1:], fillvalue=""):
        broken = after[:1].islower() and line[:1].isupper() and _is_prose([after], _PROSE)
        is_tags = not (line.endswith(_STOPS) or _is_prose([line], _PROSE) or (stops and (goes_on or broken)))
        goes_on = not is_tags and not line.endswith(_STOPS)
        yield is_tags, line


def _joined(tags: Iterable[str]) -> str:
    return ", ".join(_once(tags))


def _once(tags: Iterable[str]) -> list[str]:
    plain = (_plain_brackets(" ".join(tag.split())) for tag in tags)
    return list(dict.fromkeys(tag for tag in plain if tag))


def _plain_brackets(text: str) -> str:
    r"""Brackets without the backslash that prompts need, but for one in a face: `\(^o^)/` has but one.

    What escapes brackets escapes them all: `:\)` is a face too.
    """
    bare = re.search(r"(?<!\\)[()]", text) is not None
    if "\\" not in text or (bare and text.count(r"\(") != text.count(r"\)")):
        return text
    return re.sub(r"\\([()])", r"\1", text)


def _of_json(text: str) -> str:
    caption = _caption_in(_json_in(text))
    if caption is None:
        raise ContentError("JSON without tags and caption")
    return _without_marks(caption).encode(errors="ignore").decode()  # half a surrogate pair is no text


def _json_in(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as problem:
        raise ContentError(f"broken JSON: {problem}") from None


def _caption_in(value: Any) -> str | None:
    """The caption of a JSON value: a text, tags, or an object with `caption`, `tag_string` or `tags`."""
    if isinstance(value, str):
        return _of_text(value)
    if isinstance(value, list):
        return _joined(_tags(value))
    if not isinstance(value, dict):
        return None
    caption = value.get("caption")
    tags = _tags_in(value)
    if isinstance(caption, str) and caption.strip() and not (tags and _is_artists(caption, value)):
        return _of_text(caption)
    return ("" if caption == "" else None) if tags is None else tags


def _is_artists(caption: str, value: dict[str, Any]) -> bool:
    """Whether a caption is what the artist wrote beside the picture, and not of what is in it.

    HTML is, and what gallery-dl has of a site; so is a caption beside tags as sites have them, as objects.
    """
    tags = value.get("tags")
    as_objects = isinstance(tags, list) and any(isinstance(tag, dict) for tag in tags)
    return as_objects or "subcategory" in value or _HTML.search(caption) is not None


def _tags_in(value: dict[str, Any]) -> str | None:
    """The tags of a JSON object as a caption; None where it has none."""
    tags = tags_of_post(value)
    return None if tags is None else ", ".join(tags)


def _grouped(tags: dict[str, Any], groups: Iterable[str]) -> list[str]:
    """The tags of `groups`; not those of the file (`meta`: highres, commentary)."""
    return [tag for group in groups for tag in _tags(tags.get(group))]


def _tags(value: Any) -> list[str]:
    """Tags of a list, or of a string: by commas and lines if it has any, else by spaces as boorus do."""
    if isinstance(value, str):
        lines = value.strip().splitlines()
        return _parts(lines) if len(lines) > 1 or "," in value else value.split()
    if not isinstance(value, list):
        return []
    named = (tag.get("name") if isinstance(tag, dict) else tag for tag in value)
    return [tag for tag in named if isinstance(tag, str)]
