"""The text of each row as a condition: one for all, encoded once, or each row's own caption, once a step.

Captions that never change may be encoded once as well: then they stand in main memory, as float16.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from pfgdata.records import Progress, during
from pfgtrain.base import Base, TextModels, empty_row, encode_prompts
from pfgtrain.condition import Condition
from pfgtrain.config import FitConfig
from pfgtrain.fit.training_model import frozen_dtype

__all__ = ["TextSource"]

_AT_ONCE = 16  # captions encoded together


class TextSource:
    """Conditions of texts on the base's device; the text models stay, frozen, only for captions."""

    def __init__(
        self, base: Base, config: FitConfig, *, captions: Sequence[str] = (), progress: Progress
    ) -> None:
        """`captions` are those to encode now, where the config wants that."""
        prompts = [config.prompt, ""]
        texts = encode_prompts(base, prompts, text_layer=base.text_layer, progress=progress)
        self.prompt, empty = texts.to(base.device).split()  # a row each
        self.empty = empty_row(empty, config.empty_prompt)
        self._device = base.device
        self._text_layer = base.text_layer
        self._cached: dict[str, Condition] = {}
        self._models: TextModels | None = None
        if config.caption:
            self._models = base.load_text(dtype=frozen_dtype(config))
        if config.cache_captions:
            self._encode_once(captions, progress)

    def of(self, texts: list[str] | None) -> Condition:
        """A row for each of a batch's texts, float32, or one where all rows share the prompt."""
        if texts is None:
            return self.prompt
        if self._cached:
            rows = Condition.cat([self._cached[text] for text in texts])
            return rows.to(self._device, dtype=torch.float32)
        assert self._models is not None, "captions are read where the config names them"
        return self._models.encode(texts, layer=self._text_layer).to(dtype=torch.float32)

    def _encode_once(self, captions: Sequence[str], progress: Progress) -> None:
        """Keep a row for each caption and let the text models go."""
        assert self._models is not None, "captions are cached where there are some"
        with during(progress, "captions", total=len(captions), unit="texts"):
            for first in range(0, len(captions), _AT_ONCE):
                part = captions[first : first + _AT_ONCE]
                rows = self._models.encode(part, layer=self._text_layer).to("cpu", dtype=torch.float16)
                self._cached |= zip(part, rows.split(), strict=True)
                progress.advance(len(part))
        self._models = None
