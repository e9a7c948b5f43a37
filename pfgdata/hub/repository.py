"""Files of one repository on the hub, by way of Hugging Face's cache: a model fetched once needs no network.

A hub that does not answer is given up after HF_HUB_ETAG_TIMEOUT seconds (10): huggingface_hub 2.4 itself
would wait for ever, its client has no timeout.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

from pfgdata.hub.families import FAMILIES

__all__ = ["PATTERNS", "NotFetched", "Repository", "held", "weights_sha256"]

_INDEX = ".index.json"  # of weights in several files
_FORMS = 4  # of the same weights, as `_forms` lists them
_MODELS = tuple(dict.fromkeys(model for family in FAMILIES for model in family.models))
_TOKENIZERS = tuple(dict.fromkeys(folder for family in FAMILIES for folder in family.tokenizers))
_WEIGHTS = tuple(
    f"{model}/{'model' if model.startswith('text_encoder') else 'diffusion_pytorch_model'}"
    for model in _MODELS
)
_TEXT_WEIGHTS = re.compile(r"^(text_encoder\w*/|)model$")
_TOKENIZER = ("tokenizer_config.json", "special_tokens_map.json", "vocab.json", "merges.txt")
_CONFIG = (
    "model_index.json",
    "scheduler/scheduler_config.json",
    *(f"{folder}/{file}" for folder in _TOKENIZERS for file in _TOKENIZER),
    *(f"{folder}/*" for folder in _TOKENIZERS),  # and what else is there: tokenizer.json
    *(f"{model}/config.json" for model in _MODELS),
)
_LABELS = (
    "selected_tags.csv",
    "tags-selected.csv",
    "tag_mapping.json",
    "config.json",
)  # one of them is enough
_TAGGER = (
    *("model.onnx", "model.onnx?data", _LABELS[0]),
    # Of wildcards nothing is known: what few repositories have is not asked for again and again.
    *("preprocess.json*", "categories.json*", "config.json*", "convention.*"),
)
_BESIDE = ("config.json*", "preprocessor_config.json*", "preprocess.json*", "convention.*")
PATTERNS = {  # what of a repository is fetched: no float16 twins, no single-file checkpoints
    "tagger": _TAGGER,
    "judge": _TAGGER,
    "config": _CONFIG,  # of a base whose weights are in a single file
    "base": (*_CONFIG, *(f"{weights}.safetensors" for weights in _WEIGHTS)),
    "vae": ("vae/config.json", "vae/diffusion_pytorch_model.safetensors", "unet/config.json"),  # its geometry
    "extractor": (*_BESIDE, "model.safetensors"),
    "graph": (*_BESIDE, "model.onnx", "model.onnx?data"),  # of an extractor that is one
    "run": ("run.json", "checkpoints/*"),  # as `pfgtrain export --as run` writes it
}


class NotFetched(Exception):  # never reaches a user: who asked says what to do
    """The files are not here and did not come; the text is why."""


class Repository:
    """One repository on the hub, at one revision (branch, tag, commit; main by default)."""

    def __init__(self, name: str, *, revision: str | None, cache: Path | None) -> None:
        self._name = name
        self._revision = revision
        self._cache = cache

    def fetch(self, patterns: tuple[str, ...]) -> Path:
        """The snapshot folder, named by its commit, with what there is of `patterns`. Raises NotFetched.

        Weights that are not there as one file of safetensors come in their older form, or in shards.
        """
        folder = self._fetch(patterns)
        for form in range(1, _FORMS):
            lacking = [pattern for pattern in patterns if not held(folder, pattern)]
            others = [name for pattern in lacking for name in _forms(pattern)[form : form + 1]]
            if others:
                shards = [shard for name in others for shard in _shards(name)]
                folder = self._fetch((*patterns, *others, *shards))
        return folder

    def _fetch(self, patterns: tuple[str, ...]) -> Path:
        from huggingface_hub import errors as hub

        cached = None
        try:
            cached = self._cached(patterns)
            if cached and all(held(cached, pattern) for pattern in patterns):
                return cached
            self._knock()
            return self._snapshot(patterns, offline=False)
        except hub.HFValidationError:  # of an id, such as a--b/c, a/b.git, -a/b, over 96 characters
            reason = "and the hub can have none of that name"
        except hub.RepositoryNotFoundError:
            reason = "the hub has no such model, or it is private or gated"
        except hub.RevisionNotFoundError:
            reason = f"the hub has no revision {self._revision} of it"
        except (hub.LocalEntryNotFoundError, hub.HTTPError, OSError):  # type: ignore[attr-defined]
            if cached:  # a repository may well lack some of the files
                return cached
            reason = "not in the cache, and the hub cannot be reached"
        raise NotFetched(reason)

    def _knock(self) -> None:
        """Raise what huggingface_hub does where the hub lacks the repository or does not answer in time."""
        from huggingface_hub import HfApi
        from huggingface_hub.constants import HF_HUB_ETAG_TIMEOUT

        HfApi().model_info(self._name, revision=self._revision, timeout=HF_HUB_ETAG_TIMEOUT)

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


def held(folder: Path, pattern: str) -> bool:
    """Whether the file is there, as named or in another form, whole; of wildcards nothing is known.

    What is of a part that the model's index does not name is not asked for.
    """
    if "*" in pattern or "?" in pattern or any(_whole(folder / form) for form in _forms(pattern)):
        return True
    return _lacks_part(folder, pattern.partition("/")[0])


def _lacks_part(folder: Path, part: str) -> bool:
    """Whether the model in `folder` has no `part`, by its index: an SD1 has no second text encoder."""
    if part not in (*_MODELS, *_TOKENIZERS):
        return False
    try:
        return not any(json.loads((folder / "model_index.json").read_bytes()).get(part) or ())  # or two nulls
    except (OSError, ValueError, RecursionError, TypeError, AttributeError):
        return False


def _forms(weights: str) -> list[str]:
    """The names under which a base keeps the same weights, best first: a file, an older one, their shards.

    Of a tagger's tags the files that may hold them, of any other file its name alone.
    """
    folder, slash, name = weights.rpartition("/")
    if name == _LABELS[0]:
        return [f"{folder}{slash}{label}" for label in _LABELS]
    if not weights.endswith(".safetensors"):
        return [weights]
    stem = weights.removesuffix(".safetensors")
    older = _TEXT_WEIGHTS.sub(r"\1pytorch_model", stem) + ".bin"
    return [weights, older, f"{weights}{_INDEX}", f"{older}{_INDEX}"]


def _shards(index: str) -> list[str]:
    """The pattern of the files that an index of shards names."""
    stem, dot, kind = index.removesuffix(_INDEX).rpartition(".")
    return [f"{stem}-*-of-*{dot}{kind}"] if index.endswith(_INDEX) else []


def _whole(path: Path) -> bool:
    """Whether the file is there, and of an index each file that it names."""
    if not path.name.endswith(_INDEX) or not path.is_file():
        return path.is_file()
    try:
        names = set(json.loads(path.read_bytes())["weight_map"].values())
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
        return False
    return all((path.parent / str(name)).is_file() for name in names)


def weights_sha256(path: Path, *others: Path) -> str:
    """sha256 of a weights file, hex: the number hubs show for it; of several that of the list of theirs."""
    if others:
        listed = "".join(weights_sha256(file) for file in (path, *others))
        return hashlib.sha256(listed.encode()).hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
