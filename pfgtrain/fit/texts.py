"""The text of each row as a condition: one for all, encoded once, or each row's own caption, once a step."""

from __future__ import annotations

import torch

from pfgdata.records import Progress
from pfgtrain.base import Base, TextModels, encode_prompts
from pfgtrain.condition import Condition
from pfgtrain.config import FitConfig
from pfgtrain.fit.training_model import frozen_dtype

__all__ = ["TextSource"]


class TextSource:
    """Conditions of texts on the base's device; the text models stay, frozen, only for captions."""

    def __init__(self, base: Base, config: FitConfig, *, progress: Progress) -> None:
        prompts = [config.prompt, ""]
        texts = encode_prompts(base, prompts, text_layer=base.text_layer, progress=progress)
        self.prompt, self.empty = texts.to(base.device).split()  # a row each
        self._text_layer = base.text_layer
        self._models: TextModels | None = None
        if config.caption:
            self._models = base.load_text(dtype=frozen_dtype(config))

    def of(self, texts: list[str] | None) -> Condition:
        """A row for each of a batch's texts, float32, or one where all rows share the prompt."""
        if texts is None:
            return self.prompt
        assert self._models is not None, "captions are read where the config names them"
        return self._models.encode(texts, layer=self._text_layer).to(dtype=torch.float32)
