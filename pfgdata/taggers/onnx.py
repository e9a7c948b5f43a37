"""A tagger in onnxruntime: scores and features of batches, in whatever form its graph wants its input.

A graph tells its layout, size, dtype and batch, not its channel order nor its range: its convention does
(`stated`, docs/taggers.md). The graph itself is made to turn what it takes (`surgery`), so callers only know
RGB, and images go to the device as bytes.

Shapes: B images, S side of the square, V tags, F feature width.
"""

from __future__ import annotations

import hashlib
import queue
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pfgdata.conventions import PREPROCESSINGS, Convention
from pfgdata.errors import GraphError, ModelError, ModelNotFoundError
from pfgdata.hub import Resolved, resolve, weights_sha256
from pfgdata.images import DECODE_VERSION
from pfgdata.records import TaggerIdentity
from pfgdata.taggers.batches import BatchLimit, Images, Result, run_in_parts
from pfgdata.taggers.catalog import CATALOG, Precision, repository
from pfgdata.taggers.devices import (
    Device,
    devices_of,
    is_out_of_memory,
    one_line,
    open_session,
    session_errors,
    unused_gpu,
)
from pfgdata.taggers.graph import OpenedModel, TaggerGraph, graph_facts, open_model, read_graph, verify
from pfgdata.taggers.labels import read_labels
from pfgdata.taggers.lanes import Lane, lanes_of
from pfgdata.taggers.machine import look
from pfgdata.taggers.stated import Stated, stated
from pfgdata.vocabulary import Vocabulary

__all__ = ["OnnxTagger"]

Floats = npt.NDArray[np.float32]
_PROBE_SEED = 18  # any; fixed so that a model is accepted or refused every time


@dataclass(frozen=True, slots=True, kw_only=True)
class _Told:
    """What a user may be told of a tagger beside what it is."""

    stated: Stated
    untrained: bool
    unused_gpu: str | None


class OnnxTagger:
    """A loaded tagger; `predict` may be called by several threads, with profit by `parallel` of them.

    `stated` is its convention and who says so. `untrained` says that its weights are random: a demo, whose
    tags mean nothing. `unused_gpu` says why the GPU of this machine is not used, where `auto` took the CPU
    although there is one.
    """

    def __init__(
        self,
        *,
        identity: TaggerIdentity,
        vocabulary: Vocabulary,
        graph: TaggerGraph,
        sessions: Sequence[tuple[Device, Any]],
        told: _Told,
    ) -> None:
        self.identity = identity
        self.vocabulary = vocabulary
        self.feature_dim = int(graph.weight.shape[0])
        self.stated, self.untrained, self.unused_gpu = told.stated, told.untrained, told.unused_gpu
        self.precision: Precision = "float16" if graph.half else "float32"
        self.devices = tuple(str(device) for device, _ in sessions)
        self.provider: str = sessions[0][1].get_providers()[0]
        self._image = graph.image
        self._limit = BatchLimit(graph.image.batch_size, fixed=graph.image.batch_size is not None)
        outputs = [graph.scores, graph.feature]
        ways = [
            lanes_of(session, device, image=graph.image.name, outputs=outputs) for device, session in sessions
        ]
        self.parallel = sum(map(len, ways))
        self._lane_of_each = [way[0] for way in ways]
        self._lanes: queue.LifoQueue[Lane] = queue.LifoQueue()  # a lone caller keeps to one lane's buffer
        # Taken from the end: two callers meet on two GPUs, not on one.
        for lane in reversed([lane for one_of_each in zip(*ways, strict=True) for lane in one_of_each]):
            self._lanes.put(lane)

    @classmethod
    def load(
        cls,
        name: str,
        *,
        preprocess: str | Convention | None = None,
        revision: str | None = None,
        device: str = "auto",
        precision: Precision = "float32",
        threads: int | None = None,
    ) -> OnnxTagger:
        """Load a tagger by catalog name, hub id, folder, .onnx file, or `demo`, and prove its feature.

        Its convention is what the catalog says, or the files beside the model. `preprocess` puts a named
        square in it; a Convention, or the text of one on record, is all of it. `device` is auto, cpu,
        cuda or tensorrt (every GPU), cuda:1, cuda:0,2. `threads` is per operator, all cores if None. Raises
        ModelNotFoundError, GraphError, VocabularyError, ModelError (nobody states a convention, no such
        device), ConfigError (no such preprocessing or name of a device).
        """
        if isinstance(preprocess, str):
            Convention.of(preprocess)  # no model is fetched for a wrong name
        opened = _opened(_found(name, what="tagger", revision=revision))
        known = CATALOG[name].convention if name in CATALOG else None
        how = _convention(opened, known, preprocess)
        return cls._load(opened, how, device=device, precision=precision, threads=threads)

    @classmethod
    def load_judge(cls, name: str, *, device: str = "auto") -> OnnxTagger:
        """Load a tagger that only looks at pictures, as `load` does; `demo` is another one here."""
        opened = _opened(_found(name, what="judge"))
        known = CATALOG[name].convention if name in CATALOG else None
        return cls._load(opened, _convention(opened, known, None), device=device)

    @classmethod
    def _load(
        cls,
        opened: _Opened,
        how: Stated,
        *,
        device: str,
        precision: Precision = "float32",
        threads: int | None = None,
    ) -> OnnxTagger:
        """The tagger of an opened model, with its feature proved."""
        found, path = opened.found, opened.model.path
        vocabulary = read_labels(found.folder, how.convention)
        machine = look()
        homes = devices_of(device, machine)
        graph = read_graph(
            opened.model, num_tags=len(vocabulary), convention=how.convention, precision=precision
        )
        sessions = _sessions(graph, homes, threads=threads, path=path)
        identity = TaggerIdentity(
            name=found.name,
            revision=found.revision,
            weights_sha256=_sha256(path, graph.external),
            feature_node=graph.feature,
            preprocess=how.convention.text,
            decode=DECODE_VERSION,
        )
        told = _Told(
            stated=how,
            untrained=(found.folder / "UNTRAINED").exists(),
            unused_gpu=unused_gpu(machine) if device == "auto" else None,
        )
        tagger = cls(identity=identity, vocabulary=vocabulary, graph=graph, sessions=sessions, told=told)
        try:
            tagger._prove(graph, path)
        except session_errors() as problem:
            raise _unusable(path, problem) from problem
        return tagger

    @property
    def image_size(self) -> int:
        """S, the side of the square it looks at, in pixels."""
        assert self._image.size is not None  # `take_bytes` says it
        return self._image.size

    @property
    def batch_size(self) -> int | None:
        """The only number of images the graph takes at once; None if it takes any. `predict` pads to it."""
        return self._image.batch_size

    def predict(self, images: Images, /) -> tuple[Floats, Floats]:
        """Scores [B, V] in 0..1 and features [B, F], float32, of images, uint8 RGB [B, S, S, 3].

        Where the device has no memory for B images at once, they and all later ones go in smaller batches.
        Raises ModelError where it has none for one image, or fails.
        """
        size = self.image_size
        if images.dtype != np.uint8 or images.shape[1:] != (size, size, 3):
            raise ValueError(f"images are {images.dtype} {images.shape}, not uint8 [B, {size}, {size}, 3]")
        try:
            scores, features = self._run(images, self._run_once)
        except session_errors() as problem:
            raise ModelError(
                f"{', '.join(self.devices)} failed while tagging ({one_line(problem)}); see pfgdata doctor"
            ) from problem
        return scores.astype(np.float32, copy=False), features.astype(np.float32, copy=False)

    def _run(self, images: Images, run: Callable[[Images], Result]) -> Result:
        """Scores and features in the graph's own dtype."""
        if not len(images):
            nothing = np.zeros((0, len(self.vocabulary)), np.float32)
            return nothing, np.zeros((0, self.feature_dim), np.float32)
        images = np.ascontiguousarray(images)
        parts = run_in_parts(run, images, limit=self._limit, out_of_memory=is_out_of_memory)
        return parts[0] if len(parts) == 1 else _joined(parts)

    def _run_once(self, images: Images) -> Result:
        """A batch through the lane that is free, or the next one that will be."""
        lane = self._lanes.get()
        try:
            return lane.run(images)
        finally:
            self._lanes.put(lane)

    def _prove(self, graph: TaggerGraph, path: Path) -> None:
        """Check on two unlike pictures, on each device, that the feature is what its V scores come from."""
        rng = np.random.default_rng(_PROBE_SEED)
        noise = rng.integers(0, 256, (self.image_size, self.image_size, 3), dtype=np.uint8)
        ramp = np.broadcast_to(np.linspace(0, 255, self.image_size)[:, None, None], noise.shape).astype(
            np.uint8
        )
        for lane in self._lane_of_each:
            scores, features = self._run(np.stack([noise, ramp]), lane.run)
            if scores.shape[1] != len(self.vocabulary):
                raise GraphError(
                    f"{path} gives {scores.shape[1]} scores, {self.stated.convention.labels.file} names"
                    f" {len(self.vocabulary)} tags; take both files from the same model"
                )
            verify(graph, scores_BV=scores, features_BF=features, where=path)


def _found(name: str, *, what: str, revision: str | None = None) -> Resolved:
    """Where the model stands; one of the catalog under its name there."""
    found = resolve(repository(name), what=what, revision=revision)
    return replace(found, name=name) if found.revision else found


@dataclass(frozen=True, slots=True)
class _Opened:
    found: Resolved
    model: OpenedModel


def _opened(found: Resolved) -> _Opened:
    path = found.file or found.folder / "model.onnx"
    if not path.exists():
        raise ModelNotFoundError(f"{path} is missing; put model.onnx and selected_tags.csv in that folder")
    return _Opened(found, open_model(path))


def _convention(opened: _Opened, known: Convention | None, asked: str | Convention | None) -> Stated:
    """The convention of a model: the one asked for, the catalog's (`known`), or what its files state.

    Where a name is asked for, with that square.
    """
    if asked is not None and asked not in PREPROCESSINGS:
        asked = asked if isinstance(asked, Convention) else Convention.of(asked)
        return Stated(convention=asked, source="as asked for")
    if known is not None:
        own = Stated(convention=known, source="the catalog")
    else:
        own = stated(opened.found.folder, graph_facts(opened.model))
    if asked is None or own.convention.square == (asked,):
        return own
    assert isinstance(asked, str)
    return Stated(convention=own.convention.with_square(asked), source=f"{own.source}, but its square")


def _sessions(
    graph: TaggerGraph, homes: Sequence[Device], *, threads: int | None, path: Path
) -> list[tuple[Device, Any]]:
    try:
        return [
            (device, open_session(graph.model, device=device, threads=threads, half=graph.half))
            for device in homes
        ]
    except session_errors() as problem:
        raise _unusable(path, problem) from problem


def _unusable(path: Path, problem: Exception) -> GraphError:
    return GraphError(f"{path}: onnxruntime cannot use this model ({one_line(problem)})")


def _joined(parts: list[Result]) -> Result:
    return np.concatenate([scores for scores, _ in parts]), np.concatenate(
        [features for _, features in parts]
    )


def _sha256(path: Path, external: tuple[Path, ...]) -> str:
    """sha256 of the model file; with weights in other files, of the list of all their sha256."""
    if not external:
        return weights_sha256(path)
    return hashlib.sha256("".join(weights_sha256(file) for file in (path, *external)).encode()).hexdigest()
