"""A tagger in onnxruntime: scores and features of batches, in whatever form its graph wants its input.

A graph tells its layout, size, dtype and batch, not its channel order nor its range: its convention does
(`stated`, docs/taggers.md). The graph itself is made to turn what it takes (`surgery`), so callers only know
RGB, and images go to the device as bytes.

Shapes: B images, S side of the square, V tags, F feature width.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pfgdata.conventions import PREPROCESSINGS, Convention
from pfgdata.errors import GraphError, ModelError, ModelNotFoundError
from pfgdata.hub import Resolved, resolve, weights_sha256
from pfgdata.images import DECODE_VERSION
from pfgdata.inference import (
    Images,
    OpenedModel,
    Precision,
    Runner,
    devices_of,
    look,
    open_model,
    session_errors,
    unusable,
    unused_gpu,
)
from pfgdata.records import TaggerIdentity
from pfgdata.taggers.catalog import CATALOG, repository
from pfgdata.taggers.graph import TaggerGraph, graph_facts, read_graph, verify
from pfgdata.taggers.labels import read_labels
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
        runner: Runner,
        told: _Told,
    ) -> None:
        self.identity = identity
        self.vocabulary = vocabulary
        self.feature_dim = int(graph.weight.shape[0])
        self.stated, self.untrained, self.unused_gpu = told.stated, told.untrained, told.unused_gpu
        self.precision: Precision = "float16" if graph.half else "float32"
        self.devices, self.provider, self.parallel = runner.devices, runner.provider, runner.parallel
        self._runner = runner

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
        if how.convention.output == "feature":
            raise ModelError(
                f"{found.name}: by its convention ({how.source}) it is an extractor, which gives no tags;"
                " pfgdata features takes it"
            )
        vocabulary = read_labels(found.folder, how.convention)
        machine = look()
        homes = devices_of(device, machine)
        graph = read_graph(
            opened.model, num_tags=len(vocabulary), convention=how.convention, precision=precision
        )
        identity = TaggerIdentity(
            name=found.name,
            revision=found.revision,
            weights_sha256=weights_sha256(path, *graph.external),
            feature_node=graph.feature,
            preprocess=how.convention.text,
            decode=DECODE_VERSION,
        )
        told = _Told(
            stated=how,
            untrained=(found.folder / "UNTRAINED").exists(),
            unused_gpu=unused_gpu(machine) if device == "auto" else None,
        )
        try:
            runner = Runner.open(
                graph.model,
                homes,
                image=graph.image,
                outputs=[graph.scores, graph.feature],
                threads=threads,
                half=graph.half,
            )
            tagger = cls(identity=identity, vocabulary=vocabulary, graph=graph, runner=runner, told=told)
            tagger._prove(graph, path)
        except session_errors() as problem:
            raise unusable(path, problem) from problem
        return tagger

    @property
    def image_size(self) -> int:
        """S, the side of the square it looks at, in pixels."""
        return self._runner.image_size

    @property
    def batch_size(self) -> int | None:
        """The only number of images the graph takes at once; None if it takes any. `predict` pads to it."""
        return self._runner.batch_size

    def predict(self, images: Images, /) -> tuple[Floats, Floats]:
        """Scores [B, V] in 0..1 and features [B, F], float32, of images, uint8 RGB [B, S, S, 3].

        Where the device has no memory for B images at once, they and all later ones go in smaller batches.
        Raises ModelError where it has none for one image, or fails.
        """
        if not len(images):
            nothing = np.zeros((0, len(self.vocabulary)), np.float32)
            return nothing, np.zeros((0, self.feature_dim), np.float32)
        scores, features = self._runner.predict(images)
        return scores.astype(np.float32, copy=False), features.astype(np.float32, copy=False)

    def _prove(self, graph: TaggerGraph, path: Path) -> None:
        """Check on two unlike pictures, on each device, that the feature is what its V scores come from."""
        rng = np.random.default_rng(_PROBE_SEED)
        noise = rng.integers(0, 256, (self.image_size, self.image_size, 3), dtype=np.uint8)
        ramp = np.broadcast_to(np.linspace(0, 255, self.image_size)[:, None, None], noise.shape).astype(
            np.uint8
        )
        for scores, features in self._runner.predict_on_each(np.stack([noise, ramp])):
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
