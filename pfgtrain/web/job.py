"""What the page is asked to draw with: flags of the command. Nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path

from pfgdata.errors import ConfigError
from pfgdata.paths import user_path
from pfgtrain.config import named_parts
from pfgtrain.generate import GenerateJob, ModelJob

__all__ = ["WebJob"]


@dataclass(frozen=True, kw_only=True)
class WebJob(ModelJob):
    """The model that draws. Raises ConfigError for an adapter without a base."""

    adapter: str | None = None
    """Published weights, .pt or .safetensors, in place of a run."""

    def __post_init__(self) -> None:
        if self.adapter and not self.base:
            raise ConfigError("an adapter needs a base, the model it was trained on; name both")

    def drawing(self) -> GenerateJob:
        """The job of `generate` with this model, its paths absolute: its command works in any folder."""
        words = {one.name: getattr(self, one.name) for one in fields(WebJob)}
        return replace(
            GenerateJob(**words),
            adapter=_anywhere(self.adapter),
            base=_anywhere(self.base),
            base_config=_anywhere(self.base_config),
            tagger=_anywhere(self.tagger),
            extractor=_each_anywhere(self.extractor),
        )


def _each_anywhere(text: str | None) -> str | None:
    """The models of `LABEL=MODEL,...` so too."""
    pairs = [part.partition("=") for part in named_parts(text)] if text else []
    return ",".join(f"{label}{equals}{_anywhere(name)}" for label, equals, name in pairs) or None


def _anywhere(name: str | None) -> str | None:
    """A model's name, absolute where it is a path here."""
    if name is None or name == "demo":
        return name
    path = user_path(name)
    return str(path.absolute()) if path.exists() else str(Path(name))
