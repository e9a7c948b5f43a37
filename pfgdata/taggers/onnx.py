"""A tagger in onnxruntime: scores and features of batches, in whatever form its graph wants its input.

A graph tells its layout, size, dtype and batch, not its channel order nor its range: its convention does
(`stated`, docs/taggers.md). The graph itself is made to turn what it takes (`surgery`), so callers only know
RGB, and images go to the device as bytes.

Shapes: B images, S side of the square, V tags, F feature width.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pfgdata.conventions import PREPROCESSINGS, Convention
from pfgdata.errors import GraphError, ModelError, ModelNotFoundError
from pfgdata.hub import Resolved, resolve, weights_sha256
from pfgdata.images import DECODE_VERSION
from pfgdata.inference import (
    Device,
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
from pfgdata.taggers.compared import Comparison
from pfgdata.taggers.graph import TaggerGraph, graph_facts, read_graph, same_scores, verify
from pfgdata.taggers.labels import read_labels
from pfgdata.taggers.stated import Stated, stated
from pfgdata.vocabulary import Vocabulary

__all__ = ["OnnxTagger"]

Floats = npt.NDArray[np.float32]
_FUSED_ON = ("cpu", "cuda")  # TensorRT fuses by itself, and knows none of onnxruntime's own operators
_PROBE_SEED = 18  # any; fixed so that a model is accepted or refused every time


@dataclass(frozen=True, slots=True, kw_only=True)
class _Told:
    """What a user may be told of a tagger beside what it is."""

    stated: Stated
    untrained: bool
    unused_gpu: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Way:
    """How a model is to be opened."""

    homes: Sequence[Device]
    precision: Precision
    threads: int | None
    told: _Told

    def read(self, opened: _Opened, vocabulary: Vocabulary, *, fused: bool) -> TaggerGraph:
        """The graph, its operators fused or as the file has them."""
        graph = read_graph(
            opened.model,
            num_tags=len(vocabulary),
            convention=self.told.stated.convention,
            precision=self.precision,
            fused=fused,
        )
        opened.model.proto.Clear()  # as large as the model; what runs is in the graph's bytes
        return graph

    def run(self, graph: TaggerGraph, homes: Sequence[Device]) -> Runner:
        """The sessions of a graph."""
        return Runner.open(
            graph.model,
            homes,
            image=graph.image,
            outputs=[graph.scores, graph.feature],
            threads=self.threads,
            half=graph.half,
        )


class OnnxTagger:
    """A loaded tagger; `predict` may be called by several threads, with profit by `parallel` of them.

    `stated` is its convention and who says so. `untrained` says that its weights are random: a demo, whose
    tags mean nothing. `unused_gpu` says why the GPU of this machine is not used, where `auto` took the CPU
    although there is one. `fused` is what of its graph runs as one operator.
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
        self.fused = graph.fused
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
        """The tagger of an opened model, with its feature proved, and its graph fused if that is the same."""
        if how.convention.output == "feature":
            raise ModelError(
                f"{opened.found.name}: by its convention ({how.source}) it is an extractor, which gives no"
                " tags; pfgdata features takes it"
            )
        path, machine = opened.model.path, look()
        homes = devices_of(device, machine)
        told = _Told(
            stated=how,
            untrained=(opened.found.folder / "UNTRAINED").exists(),
            unused_gpu=unused_gpu(machine) if device == "auto" else None,
        )
        way = _Way(homes=homes, precision=precision, threads=threads, told=told)
        try:
            if homes[0].kind in _FUSED_ON:
                with suppress(GraphError, *session_errors()):  # of the file as it is they come again
                    tagger, scores, model = cls._proved(opened, way, fused=True)
                    if not tagger.fused:
                        return tagger
                    before = Comparison(model, homes[0], machine)
                    del model  # hundreds of MB
                    same = before.known()
                    if same is None:
                        same = tagger._gives(scores, _again(opened), way)
                        before.note(same=same)
                    if same:
                        return tagger
                opened = _again(opened)
            return cls._proved(opened, way, fused=False)[0]
        except session_errors() as problem:
            raise unusable(path, problem) from problem

    @classmethod
    def _proved(cls, opened: _Opened, way: _Way, *, fused: bool) -> tuple[OnnxTagger, Floats, bytes]:
        """The tagger, its feature proved on each device, the probes' scores on the first, and its graph."""
        found, path, convention = opened.found, opened.model.path, way.told.stated.convention
        vocabulary = read_labels(found.folder, convention)
        graph = way.read(opened, vocabulary, fused=fused)
        identity = TaggerIdentity(
            name=found.name,
            revision=found.revision,
            weights_sha256=weights_sha256(path, *graph.external),
            feature_node=graph.feature,
            preprocess=convention.text,
            decode=DECODE_VERSION,
        )
        runner = way.run(graph, way.homes)
        tagger = cls(identity=identity, vocabulary=vocabulary, graph=graph, runner=runner, told=way.told)
        return tagger, tagger._prove(graph, path), graph.model

    def _gives(self, scores: Floats, opened: _Opened, way: _Way) -> bool:
        """Whether `scores`, of the probes, are those of the graph as the file has it, on the first device."""
        graph = way.read(opened, self.vocabulary, fused=False)
        exact, _ = next(way.run(graph, way.homes[:1]).predict_on_each(_probes(self.image_size)))
        return same_scores(scores, exact, half=graph.half)

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

    def _prove(self, graph: TaggerGraph, path: Path) -> Floats:
        """Check on each device that the feature is what the V scores come from; those of the probes."""
        of_first = None
        for scores, features in self._runner.predict_on_each(_probes(self.image_size)):
            if scores.shape[1] != len(self.vocabulary):
                raise GraphError(
                    f"{path} gives {scores.shape[1]} scores, {self.stated.convention.labels.file} names"
                    f" {len(self.vocabulary)} tags; take both files from the same model"
                )
            verify(graph, scores_BV=scores, features_BF=features, where=path)
            of_first = scores if of_first is None else of_first
        assert of_first is not None  # there is a device
        return of_first


def _probes(side: int) -> Images:
    """Two unlike pictures."""
    noise = np.random.default_rng(_PROBE_SEED).integers(0, 256, (side, side, 3), dtype=np.uint8)
    ramp = np.broadcast_to(np.linspace(0, 255, side)[:, None, None], noise.shape).astype(np.uint8)
    return np.stack([noise, ramp])


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


def _again(opened: _Opened) -> _Opened:
    """The same model as its file has it: surgery changes what was parsed."""
    return replace(opened, model=open_model(opened.model.path))


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
