"""The text of each row as an embedding: one for all, encoded once, or each row's own caption, once a step.

Shapes: B rows, T text positions, D context width.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from pfgdata.records import Progress
from pfgtrain.base import Base
from pfgtrain.config import FitConfig
from pfgtrain.fit.trainee import frozen_dtype
from pfgtrain.prompts import encode, encode_prompts

__all__ = ["TextSource"]


class TextSource:
    """Embeddings of texts on the base's device; the text encoder stays, frozen, only for captions."""

    def __init__(self, base: Base, config: FitConfig, *, text_layer: int, progress: Progress) -> None:
        prompts = [config.prompt, ""]
        texts = encode_prompts(base, prompts, text_layer=text_layer, progress=progress).to(base.device)
        self.prompt_1TD, self.empty_1TD = texts[:1], texts[1:]
        self._text_layer = text_layer
        self._tokenizer: Any = None
        self._encoder: Any = None
        if config.caption:
            self._tokenizer = base.load_tokenizer()
            self._encoder = base.load_text_encoder(dtype=frozen_dtype(config)).requires_grad_(False)

    def of(self, texts: list[str] | None) -> Tensor:
        """Embeddings [B, T, D] of a batch's texts, or [1, T, D] where all rows share the prompt."""
        if texts is None:
            return self.prompt_1TD
        embeddings_BTD = encode(
            texts, tokenizer=self._tokenizer, text_encoder=self._encoder, text_layer=self._text_layer
        )
        return embeddings_BTD.float()
