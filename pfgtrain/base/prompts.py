"""Texts to conditions: always all positions of the text encoder (77), final layer norm applied, float32.

How many layers a text passes is the encoder's own `num_hidden_layers` (SD2's files hold 23 of 24), or fewer
where a run says so: kohya's and A1111's clip skip n is hidden layer `num_hidden_layers + 1 - n`.

Shapes: n texts, T positions (77), D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from pfgdata.records import NoProgress, Progress, during
from pfgtrain.condition import Condition

__all__ = [
    "ClipText",
    "EmptyPrompt",
    "HasText",
    "TextModels",
    "empty_row",
    "encode",
    "encode_prompts",
    "token_ids",
]

EmptyPrompt = Literal["encoded", "zeros"]


class TextModels(Protocol):
    """The tokenizers and text encoders of a base, loaded and frozen."""

    def encode(self, texts: Sequence[str], *, layer: int | None) -> Condition:
        """A row for each of `texts`, where the models are and in their dtype; `layer` as in `encode`."""

    def lost(self, text: str) -> str | None:
        """What is said of a text that is longer than what is read; None of one that is not."""


class HasText(Protocol):
    """What can load its text models: a `pfgtrain.base.Base`."""

    def load_text(self) -> TextModels:
        """The text models, float32."""


def encode_prompts(
    base: HasText, texts: Sequence[str], *, text_layer: int | None = None, progress: Progress | None = None
) -> Condition:
    """A row for each of `texts`, float32 on the CPU; the text models are loaded and freed here.

    Each text is encoded by itself, so that a run's prompt is the same, bit for bit, in fit and in generate.
    """
    progress = progress or NoProgress()
    rows = []
    with during(progress, "prompts", total=len(texts), unit="texts"):
        models = base.load_text()
        for text in texts:
            if lost := models.lost(text):
                progress.say(lost)
            rows.append(models.encode([text], layer=text_layer))
            progress.advance()
    return Condition.cat(rows).to("cpu", dtype=torch.float32)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipText:
    """The one tokenizer and text encoder of SD1 and SD2."""

    tokenizer: Any
    text_encoder: Any

    def encode(self, texts: Sequence[str], *, layer: int | None) -> Condition:
        """A row for each of `texts`."""
        models = {"tokenizer": self.tokenizer, "text_encoder": self.text_encoder}
        return Condition(context=encode(texts, **models, text_layer=layer))

    def lost(self, text: str) -> str | None:
        """Which end of `text` the encoder never sees."""
        positions = _positions(self.text_encoder)
        ids = self.tokenizer(text, verbose=False).input_ids
        if len(ids) <= positions:
            return None
        lost = self.tokenizer.decode(ids[positions - 1 : -1])  # the last position is the end token's
        return f"a prompt holds {len(ids) - 2} tokens, {positions - 2} are read; left out: {lost!r}"


@torch.no_grad()
def encode(
    texts: Sequence[str], *, tokenizer: Any, text_encoder: Any, text_layer: int | None = None
) -> Tensor:
    """Embeddings [n, T, D] of `texts`, as StableDiffusionPipeline makes them, where the text encoder is.

    `text_layer` is the hidden layer read, counted from 0, the embedded words; None and the number of layers
    are the last. What is longer than the encoder's positions is cut.
    """
    inputs = token_ids(texts, tokenizer=tokenizer, text_encoder=text_encoder)
    device, config = text_encoder.device, text_encoder.config
    mask = inputs.attention_mask.to(device) if getattr(config, "use_attention_mask", False) else None
    ids = inputs.input_ids.to(device)
    if text_layer in (None, config.num_hidden_layers):
        return text_encoder(ids, attention_mask=mask)[0]
    layers = text_encoder(ids, attention_mask=mask, output_hidden_states=True).hidden_states
    return text_encoder.final_layer_norm(layers[text_layer])


def token_ids(texts: Sequence[str], *, tokenizer: Any, text_encoder: Any) -> Any:
    """What `tokenizer` makes of `texts`: `input_ids` and `attention_mask` [n, T], cut and padded."""
    return tokenizer(
        list(texts),
        padding="max_length",
        max_length=_positions(text_encoder),
        truncation=True,
        return_tensors="pt",
    )


def empty_row(encoded: Condition, kind: EmptyPrompt) -> Condition:
    """What an empty text gives on the unconditional side, of what it gives when it is `encoded`."""
    return encoded.zeros() if kind == "zeros" else encoded


def _positions(text_encoder: Any) -> int:
    return int(text_encoder.config.max_position_embeddings)  # 77 for every Stable Diffusion
