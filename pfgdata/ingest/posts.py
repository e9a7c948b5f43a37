"""What a downloader wrote beside images (gallery-dl's JSON of danbooru or gelbooru) to columns of the store.

The store's own images say where to look, as for captions: a listing a folder, an open file a post.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import pyarrow as pa

from pfgdata.corpus import Segment, read_json_beside, tags_of_post
from pfgdata.errors import ImageError, StoreError
from pfgdata.ingest.beside import Folder, folders_of
from pfgdata.records import NoProgress, Progress, during
from pfgdata.store import Store

__all__ = ["SITES", "PostsReport", "attach_posts"]

SITES = ("danbooru", "gelbooru")

Post = Mapping[str, Any]
_RATINGS = {"g": "general", "s": "sensitive", "q": "questionable", "e": "explicit"}  # of danbooru
_LIST, _TEXT, _WHOLE = pa.list_(pa.string()), pa.string(), pa.int64()


@dataclass(slots=True, kw_only=True)
class PostsReport:
    """What was found beside the images looked at: images = posts + without; `columns` and their values."""

    posts: int = 0
    without: int = 0
    columns: dict[str, int] = field(default_factory=dict)
    orphans: list[str] = field(default_factory=list)  # JSON of no image of the folder
    warnings: list[tuple[str, str]] = field(default_factory=list)  # a file or folder, why it gave none

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return asdict(self)


def attach_posts(
    store: Store,
    site: str,
    segments: Sequence[Segment],
    *,
    replace: bool = False,
    progress: Progress | None = None,
) -> PostsReport:
    """Read the posts of `site` (one of SITES) beside the store's images under `segments` into columns.

    They are called `site`_tags, `site`_score and so on; one without any value is not written. Images under
    no segment have no value then. Raises StoreError for a column that is there already unless `replace`, and
    where there is no post at all, StoreLockedError while another process writes.
    """
    names = {f"{site}_{what}": (kind, value) for what, (kind, value) in _VALUES.items()}
    taken = sorted(names.keys() & set(store.columns()))
    if taken and not replace:
        raise StoreError(f"{store.path}: has a column {taken[0]} already; --replace all of {site}'s")
    folders, rows = folders_of(store, segments)
    report, posts = PostsReport(), dict[int, Post]()
    progress = progress or NoProgress()
    with during(progress, "posts", total=sum(len(folder.images) for folder in folders), brief=False):
        for folder in folders:
            posts |= _read_folder(folder, site, report)
            progress.advance(len(folder.images))
    report.posts = len(posts)
    report.without = sum(len(folder.images) for folder in folders) - len(posts)
    if not posts:
        raise StoreError(_no_posts(site, report))
    numbers = sorted(posts)
    keys = rows.take(pa.array(numbers, pa.int64()))
    with store.writer() as writer:
        for name, (kind, value) in names.items():
            values = pa.array([value(posts[number]) for number in numbers], kind)
            if values.null_count < len(values):
                table = keys.append_column("value", values).filter(values.is_valid())
                writer.write_column(name, table, replace=replace)
                report.columns[name] = table.num_rows
            elif name in taken:
                writer.remove_column(name)
    return report


def _no_posts(site: str, report: PostsReport) -> str:
    if report.warnings:
        file, reason = report.warnings[0]
        return f"no {site} post could be read of {report.without:,} images, first: {file}: {reason}"
    return (
        f"no JSON lies beside the {report.without:,} images of the store that are in that folder; "
        "gallery-dl writes it by --write-metadata, as x.jpg.json"
    )


def _read_folder(folder: Folder, site: str, report: PostsReport) -> dict[int, Post]:
    """The posts of a folder's images by their number; each file is read once, whoever share it."""
    try:
        sidecars = folder.sidecars()
    except ImageError as problem:
        report.warnings.append((folder.shown(), str(problem)))
        return {}
    report.orphans += [folder.shown(name) for name in sidecars.orphans if name.lower().endswith(b".json")]
    posts: dict[int, Post] = {}
    for name, images in folder.owners(sidecars.json_of).items():
        if name is None:
            continue
        try:
            value = read_json_beside(
                folder.segment.location, folder.key(name), follow_links=folder.follow_links
            )
        except ImageError as problem:
            report.warnings.append((folder.shown(name), str(problem)))
            continue
        if reason := _not_of(site, value):
            report.warnings.append((folder.shown(name), reason))
        else:
            posts |= dict.fromkeys((number for number, _ in images), value)
    return posts


def _not_of(site: str, value: Any) -> str | None:
    """Why a JSON value is no post of `site`; gallery-dl says whose it is."""
    if not isinstance(value, dict):
        return "is no post: not an object"
    category = value.get("category", site)
    if category != site:
        return f"is a post of {category}"
    return None if tags_of_post(value) is not None else "is no post: without tags"


def _tags(*groups: str) -> Callable[[Post], list[str] | None]:
    def value(post: Post) -> list[str] | None:
        tags = tags_of_post(dict(post), *groups)
        return None if tags is None else [sound for tag in tags if (sound := _sound(tag).strip())]

    return value


def _text(*names: str) -> Callable[[Post], str | None]:
    def value(post: Post) -> str | None:
        found = next((post[name] for name in names if post.get(name)), None)
        return _sound(found) if isinstance(found, str) else None

    return value


def _sound(text: str) -> str:
    """`text` without halves of surrogate pairs, which JSON can hold and no column can keep."""
    return text.encode(errors="ignore").decode()


def _whole(*names: str) -> Callable[[Post], int | None]:
    def value(post: Post) -> int | None:
        found = next((post[name] for name in names if post.get(name) is not None), None)
        try:
            number = int(found) if isinstance(found, int | str) else None
        except ValueError:
            return None
        return number if number is None or abs(number) < 2**63 else None

    return value


def _rating(post: Post) -> str | None:
    found = _text("rating")(post)
    return None if found is None else _RATINGS.get(found.lower(), found.lower())


_VALUES: Mapping[str, tuple[pa.DataType, Callable[[Post], Any]]] = {
    "tags": (_LIST, _tags()),
    "artists": (_LIST, _tags("artist")),
    "characters": (_LIST, _tags("character")),
    "copyrights": (_LIST, _tags("copyright")),
    "score": (_WHOLE, _whole("score")),
    "favorites": (_WHOLE, _whole("fav_count")),
    "rating": (_TEXT, _rating),
    "id": (_WHOLE, _whole("id")),
    "parent_id": (_WHOLE, _whole("parent_id")),
    "source": (_TEXT, _text("source")),
    "md5": (_TEXT, _text("md5")),
    "created_at": (_TEXT, _text("created_at")),
}
