"""Which model is asked for, and what of it: flags of the commands and keys of a recipe. Nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Literal, TypeVar

from pfgdata.errors import ConfigError
from pfgtrain.generate.options import GenerateFields, GenerateOptions, PictureFields

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    from pfgtrain.checkpoint import Sampling

__all__ = ["PICTURE_FLAGS", "CheckpointJob", "GenerateJob", "ModelJob", "PictureJob"]

PICTURE_FLAGS = {  # of fields of a PictureJob, where the flag has not the field's name
    "images_per_guide": "-n",
    "guidance_scale": "--guidance",
    "negative_prompt": "--negative",
    "num_inference_steps": "--steps",
}

Options = TypeVar("Options", bound="DataclassInstance")


@dataclass(frozen=True, kw_only=True)
class CheckpointJob:
    """Which weights of a run, and how its adapters come by what they read."""

    checkpoint: str = "latest"
    """latest, best, or a name, step-00000500."""
    no_ema: bool = False
    """Not the moving average."""
    extractor: str | None = None
    """Models of feature sets, LABEL=MODEL,...; default: the run's."""
    feature_scale: str | None = None
    """Multiplies the tokens of single adapters, dino=0.5,...; default: 1 each."""
    allow_missing: bool = False
    """Leave out a feature set that a guide has no vector of."""


@dataclass(frozen=True, kw_only=True)
class ModelJob(CheckpointJob):
    """A checkpoint of a run, and what stands in for what the run has on record."""

    base: str | None = None
    """The base; default: the run's."""
    base_config: str | None = None
    """A folder with the configs a single file lacks; default: the hub's."""
    prediction_type: Literal["epsilon", "v_prediction"] | None = None
    """What the base predicts; default: the run's, or its own."""
    tagger: str | None = None
    """The tagger; default: the run's."""
    device: str | None = None
    """cpu, cuda, cuda:N; default: a GPU if any."""


@dataclass(frozen=True, kw_only=True)
class PictureJob(PictureFields, ModelJob):
    """Pictures of guides by a model, of which a run may have on record how they are best drawn."""

    guidance_rescale: float | None = None
    """Share of guidance's contrast given back, 0 to 1; default: the run's, or 0."""
    pfg_scale: float | None = None
    """Multiplies the tokens; default: the run's, or 1."""

    def options(self, kind: type[Options], kept: Sampling | None = None) -> Options:
        """The options of that kind that are asked for; what `kept` has, where not, as there."""
        given = {one.name: getattr(self, one.name) for one in fields(kind)}
        for name in ("guidance_scale", "guidance_rescale", "pfg_scale"):
            if given[name] is None:
                del given[name]
                if kept is not None:
                    given[name] = getattr(kept, name)
        return kind(**given)


@dataclass(frozen=True, kw_only=True)
class GenerateJob(GenerateFields, PictureJob):
    """All that `generate` is asked beside its run and guides. Raises ConfigError for what cannot be."""

    guidance_scale: float | None = None
    """1 or less: none; default: the run's, or 7.5."""
    adapter: str | None = None
    """Published weights, .pt or .safetensors; default: the run's."""

    def __post_init__(self) -> None:
        if self.adapter and not self.base:
            raise ConfigError("an adapter needs a base, the model it was trained on; name both")
        self.options(GenerateOptions)
