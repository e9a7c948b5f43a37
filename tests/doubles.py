"""Small real stand-ins: a cheap tagger and its vocabulary, eyes on progress, disks far, full and failing."""

from __future__ import annotations

import errno
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pfgdata.files import Disk, FileCache, ObjectDisk, ObjectPlace
from pfgdata.inference import Precision
from pfgdata.records import NoProgress, TaggerIdentity
from pfgdata.urls import UrlPath
from pfgdata.vocabulary import CHARACTER, GENERAL, RATING, Vocabulary

RATINGS = ("general", "sensitive", "questionable", "explicit")
GENERAL_TAGS = ("1girl", "solo", "smile", "long_hair", "glasses", "red_background", ">_<", "it's")
CHARACTERS = ("hatsune_miku", "special_week", "tokai_teio_(umamusume)")


def tiny_vocabulary() -> Vocabulary:
    """Four ratings, eight general tags, three characters."""
    names = RATINGS + GENERAL_TAGS + CHARACTERS
    categories = [RATING] * 4 + [GENERAL] * len(GENERAL_TAGS) + [CHARACTER] * len(CHARACTERS)
    return Vocabulary(
        names=names,
        categories=np.array(categories, np.uint8),
        counts=np.arange(len(names), 0, -1, dtype=np.int64),
    )


class CheapTagger:
    """A tagger whose feature is the 16 x 16 thumbnail and whose scores follow from it, image by image."""

    def __init__(self, *, name: str = "cheap", preprocess: str = "kohya") -> None:
        self.identity = TaggerIdentity(
            name=name,
            revision=None,
            weights_sha256="0" * 64,
            feature_node="thumbnail",
            preprocess=preprocess,
            decode="1",
        )
        self.vocabulary = tiny_vocabulary()
        self.feature_dim = 768
        self.image_size = 64
        self.provider = "numpy"
        self.parallel = 1
        self.batch_size: int | None = 8
        self.precision: Precision = "float32"
        self.batches: list[int] = []
        self._head = np.random.default_rng(7).normal(0, 0.3, (768, len(self.vocabulary.names)))

    def predict(
        self, images: npt.NDArray[np.uint8]
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Scores [B, V] in 0..1 and features [B, 768] of uint8 RGB [B, 64, 64, 3]."""
        self.batches.append(len(images))
        small = images.reshape(len(images), 16, 4, 16, 4, 3).astype(np.float32).mean(axis=(2, 4))
        features = (small.reshape(len(images), 768) / 255).astype(np.float32)
        logits = (features - features.mean(axis=1, keepdims=True)) @ self._head
        return (1 / (1 + np.exp(-logits))).astype(np.float32), features


class Watched(NoProgress):
    """A Progress that keeps what was said, and how far each task had come when it ended."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.ended: list[str] = []  # "load: 2/2 parts"
        self.running: list[tuple[str, int | None, str]] = []
        self._done: list[int] = []

    def start(self, task: str, *, total: int | None, unit: str = "images", brief: bool = False) -> None:
        self.running.append((task, total, unit))
        self._done.append(0)

    def advance(self, count: int = 1, **figures: float) -> None:
        self._done[-1] += count

    def say(self, message: str) -> None:
        self.said.append(message)

    def finish(self) -> None:
        task, total, unit = self.running.pop()
        self.ended.append(f"{task}: {self._done.pop()}/{total} {unit}")


class FarDisk(Disk):
    """A disk whose paths lead nowhere on this machine: it keeps their files below `place`.

    What is to be opened is copied into `cache` first. `asked` counts what is read, by method.
    """

    def __init__(self, place: Path, cache: Path) -> None:
        self.place, self.cache = place, cache
        self.asked: Counter[str] = Counter()

    def names(self, folder: Path) -> list[str]:
        self.asked["names"] += 1
        return super().names(self._there(folder))

    def is_file(self, path: Path) -> bool:
        self.asked["is_file"] += 1
        return super().is_file(self._there(path))

    def is_folder(self, path: Path) -> bool:
        self.asked["is_folder"] += 1
        return super().is_folder(self._there(path))

    def size(self, path: Path) -> int:
        self.asked["size"] += 1
        return super().size(self._there(path))

    def read(self, path: Path) -> bytes:
        self.asked["read"] += 1
        return super().read(self._there(path))

    def local(self, path: Path) -> Path:
        copy = self.cache / path.relative_to(path.anchor)
        if not copy.exists() and self._there(path).exists():
            self.asked["copied"] += 1
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self._there(path), copy)
        return copy

    def digest(self, path: Path) -> str:
        return super().digest(self._there(path))

    @contextmanager
    def exclusive(
        self,
        path: Path,
        *,
        what: str,
        wait: bool = False,
        say: Callable[[str], None] = lambda _: None,
        stop: Callable[[], bool] = lambda: False,
    ) -> Iterator[None]:
        with super().exclusive(self._there(path), what=what, wait=wait, say=say, stop=stop):
            yield

    def temporary(self, parent: Path) -> Path:
        return super().temporary(self._there(parent))

    def make_folder(self, path: Path) -> None:
        super().make_folder(self._there(path))

    def link(self, source: Path, target: Path, *, copy: bool = False) -> None:
        super().link(self._there(source), target, copy=copy)

    def modified(self, path: Path) -> float:
        return super().modified(self._there(path))

    def replace_file(self, path: Path, data: bytes) -> None:
        super().replace_file(self._there(path), data)

    def commit_folder(self, fresh: Path, final: Path) -> None:
        super().commit_folder(fresh, self._there(final))

    def remove_folder(self, path: Path) -> None:
        super().remove_folder(self._there(path))

    def set_aside(self, path: Path, target: Path) -> None:
        super().set_aside(self._there(path), self._there(target))

    def sweep(self, parent: Path) -> None:
        super().sweep(self._there(parent))

    def _there(self, path: Path) -> Path:
        return path if path.is_relative_to(self.place) else self.place / path.relative_to(path.anchor)


def bucket_in_memory(url: str = "s3://bucket/feats") -> Callable[[Path], ObjectDisk]:
    """A bucket that lives as long as this: what gives a machine's disk there, by the folder of its cache."""
    from obstore.store import MemoryStore

    place = ObjectPlace(url, MemoryStore(), "feats")
    return lambda cache: ObjectDisk(UrlPath(url), place=place, cache=FileCache(cache))


class FullDisk(Disk):
    """The real disk, on which nothing more can be written; files can be removed."""

    def replace_file(self, path: Path, data: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))


class FailingDisk(Disk):
    """The real disk until `left` of its steps are done; then each one fails, as where a process ends."""

    def __init__(self, left: int) -> None:
        self.left = left

    def sync(self, path: Path) -> None:
        self._step()
        super().sync(path)

    def rename(self, source: Path, target: Path) -> None:
        self._step()
        super().rename(source, target)

    def unlink(self, path: Path) -> None:
        self._step()
        super().unlink(path)

    def _step(self) -> None:
        if self.left == 0:
            raise KeyboardInterrupt
        self.left -= 1
