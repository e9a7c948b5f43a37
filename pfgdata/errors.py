"""The one error tree. Every error a user can fix is a `PfgError` whose text says what, where, what to do.

    PfgError
    |-- StoreError                 a store on disk
    |   |-- NoStoreError           there is none at that path
    |   |-- CorruptShardError      a committed shard that does not keep its promise
    |   |-- StoreLockedError       another writer holds the lock
    |   |-- StoreFormatError       written by a newer pfgdata, or no store of ours
    |   `-- IdentityError          another tagger, preprocessing, VAE, base than what is on record
    |-- ModelError                 a tagger, VAE or base
    |   |-- ModelNotFoundError     no such model here, and none could be fetched
    |   |-- GraphError             an ONNX graph we cannot use
    |   `-- VocabularyError        selected_tags.csv and the model disagree, or an unknown tag
    |-- ImageError                 one image; becomes a failure row, never an exit
    |   |-- ContentError           its bytes are no usable image
    |   `-- AccessError            its bytes could not be read this time
    |-- QueryError                 an expression that cannot be answered
    |-- ConfigError                a recipe or option that is not valid
    |-- ClusterError               other machines do not do what is asked
    |-- PlaceError                 a bucket or its server, which refused or did not answer; an OSError too
    `-- RunError                   a training run that cannot start, go on or be used

A cli prints the text on one line and exits with 1 (2 for wrong usage). `assert` is for our own bugs.
"""

from __future__ import annotations

import errno
import os

__all__ = [
    "AccessError",
    "ClusterError",
    "ConfigError",
    "ContentError",
    "CorruptShardError",
    "GraphError",
    "IdentityError",
    "ImageError",
    "ModelError",
    "ModelNotFoundError",
    "NoStoreError",
    "PfgError",
    "PlaceError",
    "QueryError",
    "RunError",
    "StoreError",
    "StoreFormatError",
    "StoreLockedError",
    "VocabularyError",
    "refused_by_system",
]

_REFUSALS = {  # errno -> what is wrong and what to do; it says nothing of the file
    errno.EMFILE: "too many open files; allow more (ulimit -n)",
    errno.ENFILE: "too many open files on this machine; close programs",
    errno.ENOMEM: "out of memory; close programs",
    errno.EIO: "its disk failed; check it (dmesg)",
    errno.EACCES: "permission denied; check the path and its permissions",
    errno.ESTALE: "its disk is no longer the one it was; mount it again",
    errno.ENOTCONN: "the connection to its disk is gone; mount it again",
}


class PfgError(Exception):
    """Base of every error a user can fix."""


class StoreError(PfgError):
    """A store on disk cannot be used as asked."""


class NoStoreError(StoreError):
    """There is no store at the path."""


class CorruptShardError(StoreError):
    """A committed shard does not hold what its shard.json promises."""


class StoreLockedError(StoreError):
    """Another process is writing to the store or latent set."""


class StoreFormatError(StoreError):
    """The folder was written in a format this version does not read."""


class IdentityError(StoreError):
    """A tagger, preprocessing, VAE or base is not the one on record."""


class ModelError(PfgError):
    """A tagger, VAE or base cannot be used."""


class ModelNotFoundError(ModelError):
    """The model is not on this machine and could not be fetched."""


class GraphError(ModelError):
    """An ONNX graph has no form we can use."""


class VocabularyError(ModelError):
    """A vocabulary does not fit its model, or does not know a tag."""


class ImageError(PfgError):
    """One image cannot be used; `kind` is what its failure row says, `file` names it where it is known."""

    kind: str
    file: str | None = None


class ContentError(ImageError):
    """The bytes are no usable image: skipped until the file changes."""

    kind = "content"


class AccessError(ImageError):
    """The bytes could not be read: tried again at the next run."""

    kind = "access"


class QueryError(PfgError):
    """An expression is not valid or not allowed."""


class ConfigError(PfgError):
    """A recipe file or option is not valid."""


class ClusterError(PfgError):
    """The workers of a cluster cannot be had, or do not what is asked."""


class PlaceError(PfgError, OSError):
    """A bucket or its server refused, or did not answer: it says nothing of what lies there.

    `passes`: the same may be tried again in a moment.
    """

    def __init__(self, text: str, *, passes: bool = False) -> None:
        super().__init__(text)
        self.passes = passes
        self.errno = errno.ENETUNREACH  # a number, as the system's own have: the bytes are not to blame


class RunError(PfgError):
    """A training run cannot start, go on, or be used."""


def refused_by_system(problem: BaseException) -> str | None:
    """What the system refused to a reader of a file, and what to do; None if the file itself is to blame.

    Libraries that read files tell it in the text of an error of their own.
    """
    text = str(problem).lower()
    for number, words in _REFUSALS.items():
        if getattr(problem, "errno", None) == number or os.strerror(number).lower() in text:
            return words
    return None
