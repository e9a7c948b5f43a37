"""A WD14 tagger in onnxruntime: scores and features of batches, in whatever form its graph wants its input.

A graph tells its layout, size, dtype and batch, not its channel order: BGR, as every SmilingWolf model since
2022 takes and all four preprocessing recipes give. The image is turned here, so callers only know RGB.

Shapes: B images, S side of the square, V tags, F feature width.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from pfgdata.errors import ConfigError, GraphError, ModelNotFoundError
from pfgdata.hub import resolve, weights_sha256
from pfgdata.images import DECODE_VERSION, RECIPES
from pfgdata.records import TaggerIdentity
from pfgdata.taggers.catalog import repository
from pfgdata.taggers.devices import Device, open_session, session_errors
from pfgdata.taggers.graph import TaggerGraph, read_graph, verify
from pfgdata.vocabulary import Vocabulary

__all__ = ["OnnxTagger"]

Images = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]

IMAGE_SIZE = 448  # of every published WD14 tagger; used where a graph leaves its height and width open
_DTYPES: dict[str, type[np.float32] | type[np.float16]] = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
}
_PROBE_SEED = 18  # any; fixed so that a model is accepted or refused every time


@dataclass(frozen=True, slots=True, kw_only=True)
class _Input:
    """What a graph wants: its input's name, layout, side, dtype, and batch size if it has only one."""

    name: str
    channels_first: bool
    size: int
    dtype: type[np.float32] | type[np.float16]
    batch_size: int | None

    def prepare(self, images: Images) -> npt.NDArray[Any]:
        """BGR 0..255 in the graph's layout and dtype."""
        bgr = images[..., ::-1]
        return np.ascontiguousarray(bgr.transpose(0, 3, 1, 2) if self.channels_first else bgr, self.dtype)


class OnnxTagger:
    """A loaded tagger. `untrained` says that its weights are random: a demo, whose tags mean nothing."""

    def __init__(
        self,
        *,
        identity: TaggerIdentity,
        vocabulary: Vocabulary,
        graph: TaggerGraph,
        session: Any,
        untrained: bool,
    ) -> None:
        self.identity = identity
        self.vocabulary = vocabulary
        self.feature_dim = int(graph.weight.shape[0])
        self.untrained = untrained
        self.parallel = 1
        self.provider: str = session.get_providers()[0]
        self._session = session
        self._input = _read_input(session)
        self._outputs = [graph.scores, graph.feature]

    @classmethod
    def load(
        cls,
        name: str,
        *,
        recipe: str = "kohya",
        revision: str | None = None,
        device: Device = "auto",
        threads: int | None = None,
        what: Literal["tagger", "judge"] = "tagger",
    ) -> OnnxTagger:
        """Load a tagger by catalog name, hub id, folder, .onnx file, or `demo`, and prove its feature.

        The graph is taken to want BGR 0..255. One that wants normalised RGB, as timm's own NCHW exports do,
        says so nowhere and gives wrong scores here without an error: use the author's own model.onnx.

        `recipe` names the square its images will be; it becomes part of the identity. `threads` is per
        operator, all cores by default. `what` tells apart the two that `demo` names. Raises
        ModelNotFoundError, GraphError, VocabularyError, ModelError (no cuda), ConfigError (no such recipe).
        """
        if recipe not in RECIPES:
            raise ConfigError(f"no recipe {recipe!r}; it is one of {', '.join(RECIPES)}")
        found = resolve(repository(name), what=what, revision=revision)
        path = found.file or found.folder / "model.onnx"
        if not path.exists():
            raise ModelNotFoundError(
                f"{path} is missing; put model.onnx and selected_tags.csv in that folder"
            )
        vocabulary = Vocabulary.read(found.folder / "selected_tags.csv")
        graph = read_graph(path, num_tags=len(vocabulary))
        try:
            session = open_session(graph.model, device=device, threads=threads)
        except session_errors() as problem:
            raise _unusable(path, problem) from problem
        identity = TaggerIdentity(
            name=name if found.revision else found.name,
            revision=found.revision,
            weights_sha256=_sha256(path, graph.external),
            feature_node=graph.feature,
            recipe=recipe,
            decode=DECODE_VERSION,
        )
        untrained = (found.folder / "UNTRAINED").exists()
        tagger = cls(
            identity=identity, vocabulary=vocabulary, graph=graph, session=session, untrained=untrained
        )
        try:
            tagger._prove(graph, path)
        except session_errors() as problem:
            raise _unusable(path, problem) from problem
        return tagger

    @property
    def image_size(self) -> int:
        """S, the side of the square it looks at, in pixels."""
        return self._input.size

    @property
    def batch_size(self) -> int | None:
        """The only number of images the graph takes at once; None if it takes any. `predict` pads to it."""
        return self._input.batch_size

    def predict(self, images: Images, /) -> tuple[Floats, Floats]:
        """Scores [B, V] in 0..1 and features [B, F], float32, of images, uint8 RGB [B, S, S, 3]."""
        size = self.image_size
        if images.dtype != np.uint8 or images.shape[1:] != (size, size, 3):
            raise ValueError(f"images are {images.dtype} {images.shape}, not uint8 [B, {size}, {size}, 3]")
        scores, features = self._run(images)
        return scores.astype(np.float32, copy=False), features.astype(np.float32, copy=False)

    def _run(self, images: Images) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        """Scores and features in the graph's own dtype."""
        step = self.batch_size or max(len(images), 1)
        parts = [self._run_once(images[start : start + step], step) for start in range(0, len(images), step)]
        if not parts:
            return np.zeros((0, len(self.vocabulary)), np.float32), np.zeros(
                (0, self.feature_dim), np.float32
            )
        return parts[0] if len(parts) == 1 else _joined(parts)

    def _run_once(self, images: Images, step: int) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        count = len(images)
        if count < step:
            images = np.concatenate([images, np.zeros((step - count, *images.shape[1:]), np.uint8)])
        scores, features = self._session.run(self._outputs, {self._input.name: self._input.prepare(images)})
        return scores.reshape(step, -1)[:count], features.reshape(step, -1)[:count]

    def _prove(self, graph: TaggerGraph, path: Path) -> None:
        """Check on two unlike pictures that the graph gives V scores and that the feature is their source."""
        rng = np.random.default_rng(_PROBE_SEED)
        noise = rng.integers(0, 256, (self.image_size, self.image_size, 3), dtype=np.uint8)
        ramp = np.broadcast_to(np.linspace(0, 255, self.image_size)[:, None, None], noise.shape).astype(
            np.uint8
        )
        scores, features = self._run(np.stack([noise, ramp]))
        if scores.shape[1] != len(self.vocabulary):
            raise GraphError(
                f"{path} gives {scores.shape[1]} scores, selected_tags.csv names {len(self.vocabulary)} tags;"
                " take both files from the same model"
            )
        verify(graph, scores_BV=scores, features_BF=features, where=path)


def _unusable(path: Path, problem: Exception) -> GraphError:
    return GraphError(f"{path}: onnxruntime cannot use this model ({' '.join(str(problem).split())})")


def _read_input(session: Any) -> _Input:
    """The one image input of a session. Raises GraphError on any other form."""
    inputs = session.get_inputs()
    shape = inputs[0].shape
    described = ", ".join(f"{value.name} {value.type} {value.shape}" for value in inputs)
    dtype = _DTYPES.get(inputs[0].type)
    if len(inputs) != 1 or len(shape) != 4 or dtype is None or 3 not in (shape[1], shape[3]):
        raise GraphError(
            f"the graph's input is {described}; a tagger takes one float image batch, NHWC or NCHW"
        )
    channels_first = shape[3] != 3
    sides = {side for side in (shape[2:] if channels_first else shape[1:3]) if isinstance(side, int)}
    if len(sides) > 1:
        raise GraphError(f"the graph's input is {described}; a tagger takes square images")
    return _Input(
        name=inputs[0].name,
        channels_first=channels_first,
        size=sides.pop() if sides else IMAGE_SIZE,
        dtype=dtype,
        batch_size=shape[0] if isinstance(shape[0], int) else None,
    )


def _joined(
    parts: list[tuple[npt.NDArray[Any], npt.NDArray[Any]]],
) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    return np.concatenate([scores for scores, _ in parts]), np.concatenate(
        [features for _, features in parts]
    )


def _sha256(path: Path, external: tuple[Path, ...]) -> str:
    """sha256 of the model file; with weights in other files, of the list of all their sha256."""
    if not external:
        return weights_sha256(path)
    return hashlib.sha256("".join(weights_sha256(file) for file in (path, *external)).encode()).hexdigest()
