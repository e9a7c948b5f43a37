"""A model's name to a local folder, its revision and the hash of its weights; nothing else looks a model up.

A name is `demo` (travels in pfgdata/assets), a folder or file here, or a hub id `org/name`. The cache is
asked before the network: a model fetched once needs none again, nor changes its revision by itself.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pfgdata.errors import ModelNotFoundError

__all__ = ["DEMO", "Resolved", "resolve", "weights_sha256"]

DEMO = "demo"
_ASSETS = Path(__file__).parent / "assets"
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)
_WEIGHTS = ("unet/diffusion_pytorch_model", "vae/diffusion_pytorch_model", "text_encoder/model")
_TOKENIZER = ("tokenizer_config.json", "special_tokens_map.json", "vocab.json", "merges.txt")
_PATTERNS = {  # what of a repository is fetched: no float16 twins, no single-file checkpoints
    "tagger": ("model.onnx", "model.onnx?data", "selected_tags.csv"),
    "base": (
        "model_index.json",
        "scheduler/scheduler_config.json",
        *(f"tokenizer/{file}" for file in _TOKENIZER),
        "tokenizer/*",  # and what else is there: tokenizer.json
        *(f"{part}/config.json" for part in ("unet", "vae", "text_encoder")),
        *(f"{weights}.safetensors" for weights in _WEIGHTS),
    ),
}
_BY_HAND = {
    "tagger": "put model.onnx and selected_tags.csv in a folder and pass --tagger FOLDER",
    "base": "put its diffusers folder here and pass --base FOLDER",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolved:
    """Where a model stands: `file` only if the name was a single file (`folder` holds it)."""

    name: str  # finds it again from any directory: as given, a path made absolute
    folder: Path
    revision: str | None = None  # the hub's commit
    file: Path | None = None


def resolve(
    name: str,
    *,
    what: str,
    patterns: Sequence[str] | None = None,
    revision: str | None = None,
    cache: Path | None = None,
    offline: bool = False,
) -> Resolved:
    """Find the model called `name`; `what` is `tagger` or `base`.

    A name that is a folder here is that folder, also if it looks like a hub id. Of a hub id the files that
    match `patterns` are fetched (those of `what` by default), at `revision` (branch, tag, commit; main by
    default), into `cache` (Hugging Face's own by default); weights that are not there as safetensors, in
    their older form. `offline` forbids the network. Raises ModelNotFoundError.
    """
    if name == DEMO:
        return Resolved(name=name, folder=_ASSETS / f"demo_{what}")
    path = Path(name or "(no name)").expanduser()
    if path.is_dir():
        return Resolved(name=str(path.absolute()), folder=path.absolute())
    if path.is_file():
        return Resolved(name=str(path.absolute()), folder=path.absolute().parent, file=path.absolute())
    if not _HUB_ID.fullmatch(name) or name.startswith("."):
        raise _not_found(name, what, f"no such folder ({path.absolute()}), and no hub id (org/name)")
    wanted = tuple(patterns or _PATTERNS[what])
    place = _Hub(name, what=what, revision=revision, cache=cache, offline=offline)
    folder = place.fetch(wanted)
    older = tuple(_older_form(pattern) for pattern in wanted if not _held(folder, pattern))
    if any(older):
        folder = place.fetch((*wanted, *filter(None, older)))
    return Resolved(name=name, folder=folder, revision=folder.name)  # snapshots are named by their commit


def weights_sha256(path: Path) -> str:
    """sha256 of a weights file, hex: the number hubs show for it."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class _Hub:
    """One repository on the hub, at one revision."""

    def __init__(
        self, name: str, *, what: str, revision: str | None, cache: Path | None, offline: bool
    ) -> None:
        self._name, self._what, self._revision = name, what, revision
        self._cache, self._offline = cache, offline

    def fetch(self, patterns: tuple[str, ...]) -> Path:
        """The snapshot folder with the files of `patterns`, as far as the repository has them."""
        from huggingface_hub import errors as hub

        cached = self._cached(patterns)
        if cached and (self._offline or all(_held(cached, pattern) for pattern in patterns)):
            return cached
        try:
            return self._snapshot(patterns, offline=self._offline)
        except hub.RepositoryNotFoundError:
            reason = "the hub has no such model, or it is private or gated"
        except hub.RevisionNotFoundError:
            reason = f"the hub has no revision {self._revision} of it"
        except (hub.LocalEntryNotFoundError, hub.HTTPError, OSError):  # type: ignore[attr-defined]
            if cached:  # a repository may well lack some of the files
                return cached
            reason = "no such folder here, not in the cache, and the hub cannot be reached"
        raise _not_found(self._name, self._what, reason)

    def _cached(self, patterns: tuple[str, ...]) -> Path | None:
        from huggingface_hub.errors import LocalEntryNotFoundError

        try:
            return self._snapshot(patterns, offline=True)
        except LocalEntryNotFoundError:
            return None

    def _snapshot(self, patterns: tuple[str, ...], *, offline: bool) -> Path:
        from huggingface_hub import snapshot_download

        return Path(
            snapshot_download(
                self._name,
                revision=self._revision,
                cache_dir=self._cache,
                allow_patterns=list(patterns),
                local_files_only=offline,
            )
        )


def _held(folder: Path, pattern: str) -> bool:
    """Whether the file is there, as named or in its older form; of wildcards nothing is known."""
    forms = [pattern, _older_form(pattern)]
    return "*" in pattern or "?" in pattern or any(form and (folder / form).exists() for form in forms)


def _older_form(weights: str) -> str | None:
    """Where a base from before safetensors keeps the same weights; None for other files."""
    if not weights.endswith(".safetensors"):
        return None
    stem = weights.removesuffix(".safetensors")
    return f"{stem.replace('text_encoder/model', 'text_encoder/pytorch_model')}.bin"


def _not_found(name: str, what: str, reason: str) -> ModelNotFoundError:
    return ModelNotFoundError(f"{what} {name}: {reason}; {_BY_HAND[what]}, or try --{what} demo")
