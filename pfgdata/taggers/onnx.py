"""A WD14 tagger in onnxruntime: scores and features of batches, in whatever form its graph wants its input.

A graph tells its layout, size, dtype and batch, not its channel order: BGR, as every SmilingWolf model since
2022 takes and all four preprocessings give. The graph itself is made to turn it (`surgery`), so
callers only know RGB, and images go to the device as bytes.

Shapes: B images, S side of the square, V tags, F feature width.
"""

from __future__ import annotations

import hashlib
import queue
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pfgdata.errors import ConfigError, GraphError, ModelError, ModelNotFoundError
from pfgdata.hub import Resolved, resolve, weights_sha256
from pfgdata.images import DECODE_VERSION, PREPROCESSINGS
from pfgdata.records import TaggerIdentity
from pfgdata.taggers.batches import BatchLimit, Images, Result, run_in_parts
from pfgdata.taggers.catalog import Precision, repository
from pfgdata.taggers.devices import (
    Place,
    is_out_of_memory,
    one_line,
    open_session,
    places,
    session_errors,
    unused_gpu,
)
from pfgdata.taggers.graph import TaggerGraph, read_graph, verify
from pfgdata.taggers.lanes import Lane, lanes_of
from pfgdata.taggers.machine import look
from pfgdata.vocabulary import Vocabulary

__all__ = ["OnnxTagger"]

Floats = npt.NDArray[np.float32]
_PROBE_SEED = 18  # any; fixed so that a model is accepted or refused every time


class OnnxTagger:
    """A loaded tagger; `predict` may be called by several threads, with profit by `parallel` of them.

    `untrained` says that its weights are random: a demo, whose tags mean nothing. `unused_gpu` says why the
    GPU of this machine is not used, where `auto` took the CPU although there is one.
    """

    def __init__(
        self,
        *,
        identity: TaggerIdentity,
        vocabulary: Vocabulary,
        graph: TaggerGraph,
        sessions: Sequence[tuple[Place, Any]],
        untrained: bool,
        unused_gpu: str | None,
    ) -> None:
        self.identity = identity
        self.vocabulary = vocabulary
        self.feature_dim = int(graph.weight.shape[0])
        self.untrained = untrained
        self.unused_gpu = unused_gpu
        self.precision: Precision = "float16" if graph.half else "float32"
        self.devices = tuple(str(place) for place, _ in sessions)
        self.provider: str = sessions[0][1].get_providers()[0]
        self._image = graph.image
        self._limit = BatchLimit(graph.image.batch_size, fixed=graph.image.batch_size is not None)
        outputs = [graph.scores, graph.feature]
        ways = [
            lanes_of(session, place, image=graph.image.name, outputs=outputs) for place, session in sessions
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
        preprocess: str = "kohya",
        revision: str | None = None,
        device: str = "auto",
        precision: Precision = "float32",
        threads: int | None = None,
    ) -> OnnxTagger:
        """Load a tagger by catalog name, hub id, folder, .onnx file, or `demo`, and prove its feature.

        The graph is taken to want BGR 0..255. One that wants normalised RGB, as timm's own NCHW exports do,
        says so nowhere and gives wrong scores here without an error: use the author's own model.onnx.

        `preprocess` names the square its images will be, a part of the identity. `device` is auto, cpu, cuda
        or tensorrt (every GPU), cuda:1, cuda:0,2. `threads` is per operator, all cores by default. Raises
        ModelNotFoundError, GraphError, VocabularyError, ModelError (no such device), ConfigError (no such
        preprocessing or name of a device).
        """
        if preprocess not in PREPROCESSINGS:
            raise ConfigError(f"no preprocessing {preprocess!r}; it is one of {', '.join(PREPROCESSINGS)}")
        return cls._open(
            _found(name, what="tagger", revision=revision),
            preprocess=preprocess,
            device=device,
            precision=precision,
            threads=threads,
        )

    @classmethod
    def load_judge(cls, name: str, *, device: str = "auto") -> OnnxTagger:
        """Load a tagger that only looks at pictures, as `load` does; `demo` is another one here."""
        return cls._open(_found(name, what="judge"), device=device)

    @classmethod
    def _open(
        cls,
        found: Resolved,
        *,
        preprocess: str = "kohya",
        device: str,
        precision: Precision = "float32",
        threads: int | None = None,
    ) -> OnnxTagger:
        """The tagger of a folder or file, with its feature proved."""
        path = found.file or found.folder / "model.onnx"
        if not path.exists():
            raise ModelNotFoundError(
                f"{path} is missing; put model.onnx and selected_tags.csv in that folder"
            )
        vocabulary = Vocabulary.read(found.folder / "selected_tags.csv")
        machine = look()
        homes = places(device, machine)
        graph = read_graph(path, num_tags=len(vocabulary), precision=precision)
        sessions = _sessions(graph, homes, threads=threads, path=path)
        identity = TaggerIdentity(
            name=found.name,
            revision=found.revision,
            weights_sha256=_sha256(path, graph.external),
            feature_node=graph.feature,
            preprocess=preprocess,
            decode=DECODE_VERSION,
        )
        tagger = cls(
            identity=identity,
            vocabulary=vocabulary,
            graph=graph,
            sessions=sessions,
            untrained=(found.folder / "UNTRAINED").exists(),
            unused_gpu=unused_gpu(machine) if device == "auto" else None,
        )
        try:
            tagger._prove(graph, path)
        except session_errors() as problem:
            raise _unusable(path, problem) from problem
        return tagger

    @property
    def image_size(self) -> int:
        """S, the side of the square it looks at, in pixels."""
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
                    f"{path} gives {scores.shape[1]} scores, selected_tags.csv names {len(self.vocabulary)}"
                    " tags; take both files from the same model"
                )
            verify(graph, scores_BV=scores, features_BF=features, where=path)


def _found(name: str, *, what: str, revision: str | None = None) -> Resolved:
    """Where the model stands; one of the catalog under its name there."""
    found = resolve(repository(name), what=what, revision=revision)
    return replace(found, name=name) if found.revision else found


def _sessions(
    graph: TaggerGraph, homes: Sequence[Place], *, threads: int | None, path: Path
) -> list[tuple[Place, Any]]:
    try:
        return [
            (place, open_session(graph.model, place=place, threads=threads, half=graph.half))
            for place in homes
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
