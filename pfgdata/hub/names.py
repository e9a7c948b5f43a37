"""The one place that reads a model's name: `demo`, a folder or a file here, or a hub id `org/name`.

A tagger's may name a folder of its repository, org/name//folder. `demo` travels in pfgdata/assets. The cache
is asked before the network: a model fetched once needs none again, nor changes its revision by itself. A base
that is a single file is unpacked once, into pfg's cache.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pfgdata.errors import ModelError, ModelNotFoundError
from pfgdata.hub.repository import PATTERNS, NotFetched, Repository
from pfgdata.hub.single_file import unpacked
from pfgdata.paths import user_path
from pfgdata.records import NoProgress, Progress, nearest

__all__ = ["DEMO", "Resolved", "repository_of", "resolve"]

DEMO = "demo"
_ASSETS = Path(__file__).parent.parent / "assets"
_HUB_ID = re.compile(r"([\w.-]+/[\w.-]+)(?://((?:[\w.-]+/)*[\w.-]+))?", re.ASCII)
_IN_FOLDERS = ("tagger", "judge", "extractor")
_BY_HAND = {
    "tagger": "put model.onnx and selected_tags.csv in a folder and pass --tagger FOLDER",
    "judge": "put model.onnx and selected_tags.csv in a folder and pass --judge FOLDER",
    "extractor": "put its config.json, preprocessor_config.json and model.safetensors, or its model.onnx,"
    " in a folder and pass --extractor FOLDER",
    "base": "put its diffusers folder here and pass --base FOLDER",
    "run": "name the folder of a run",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolved:
    """Where a model stands: `file` only if the name was a single file.

    `folder` of a tagger's file is where it lies, of a base's the diffusers folder it was unpacked into.
    """

    name: str  # finds it again from any directory: as given, a path made absolute
    folder: Path
    revision: str | None = None  # the hub's commit
    file: Path | None = None


def repository_of(name: str, catalog: Mapping[str, str], *, what: str) -> str:
    """The name under which the hub knows `name`, of a `catalog` of names and repositories, else its own.

    Raises ModelNotFoundError if it only looks like one of the catalog's.
    """
    if name in catalog:
        return catalog[name]
    similar = nearest(name, list(catalog))
    if similar and "/" not in name:
        raise ModelNotFoundError(f"no {what} {name!r} in the catalog; nearest: {', '.join(similar)}")
    return name


def resolve(
    name: str,
    *,
    what: str,
    revision: str | None = None,
    config: Path | None = None,
    cache: Path | None = None,
    progress: Progress | None = None,
) -> Resolved:
    """Find the model called `name`: `what` is tagger, judge (a second one), extractor, graph (one in ONNX),
    base, vae (a base's) or run.

    A name that is a folder here is that folder, also if it looks like a hub id. Of a hub id what
    `what` needs is fetched, at `revision` (branch, tag, commit; main by default), into `cache` (Hugging
    Face's own by default; HF_HUB_OFFLINE forbids the network); weights that are not there as safetensors, in
    their older form. A base that is a single file is unpacked by the configs of `config`, a diffusers folder
    of its family (fetched by default). Raises ModelNotFoundError, and ModelError for a file that is no base.
    """
    patterns = PATTERNS[what]
    what = {"vae": "base", "graph": "extractor"}.get(what, what)  # which is how it is named
    path = user_path(name or "(no name)")
    if name != DEMO and path.is_file():
        path = path.absolute()
        if what != "base":
            return Resolved(name=str(path), folder=path.parent, file=path)
        folder = unpacked(path, config=config, cache=cache, progress=progress or NoProgress())
        return Resolved(name=str(path), folder=folder, file=path)
    if config is not None:
        raise ModelError(f"--base-config is for a base that is a single file; {name} has configs of its own")
    if name == DEMO and what == "extractor":
        raise _not_found(name, what, "none travels with pfg")
    if name == DEMO:
        return Resolved(name=name, folder=_ASSETS / f"demo_{what}")
    if path.is_dir():
        return Resolved(name=str(path.absolute()), folder=path.absolute())
    found = _HUB_ID.fullmatch(name)
    inside = (found and found[2]) or ""
    if not found or name.startswith(".") or (inside and what not in _IN_FOLDERS) or ".." in inside.split("/"):
        raise _not_found(name, what, f"no such folder ({path.absolute()}), and no hub id (org/name)")
    wanted = tuple(f"{inside}/{pattern}" for pattern in patterns) if inside else patterns
    try:
        folder = Repository(found[1], revision=revision, cache=cache).fetch(wanted)
    except NotFetched as reason:
        raise _not_found(name, what, f"no such folder here, {reason}") from reason
    return Resolved(name=name, folder=folder / inside, revision=folder.name)  # snapshots are named by commit


def _not_found(name: str, what: str, reason: str) -> ModelNotFoundError:
    flag = "" if what == "run" else f"--{what} "
    other = "" if what == "extractor" else f", or try {flag}demo"
    return ModelNotFoundError(f"{what} {name}: {reason}; {_BY_HAND[what]}{other}")
