"""Texts to embeddings: always all positions of the text encoder (77), final layer norm applied, float32.

How many layers a text passes is the encoder's own `num_hidden_layers`: SD2's files hold 23 of 24, so there is
no clip-skip to apply here.

Shapes: n texts, T positions (77), D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from pfgdata.records import NoProgress, Progress

__all__ = ["HasText", "encode", "encode_prompts"]


class HasText(Protocol):
    """What can load a tokenizer and a text encoder: a `pfgtrain.base.Base`."""

    def load_tokenizer(self) -> Any:
        """A CLIPTokenizer."""

    def load_text_encoder(self) -> Any:
        """A CLIPTextModel, float32."""


def encode_prompts(base: HasText, texts: Sequence[str], *, progress: Progress | None = None) -> Tensor:
    """Embeddings [n, T, D] of `texts`, float32 on the CPU; the text encoder is loaded and freed here.

    Each text is encoded by itself, so that a run's prompt is the same, bit for bit, in fit and in generate.
    """
    tokenizer, text_encoder = base.load_tokenizer(), base.load_text_encoder()
    rows = [
        encode([text], tokenizer=tokenizer, text_encoder=text_encoder, progress=progress) for text in texts
    ]
    return torch.cat(rows)


@torch.no_grad()
def encode(
    texts: Sequence[str], *, tokenizer: Any, text_encoder: Any, progress: Progress | None = None
) -> Tensor:
    """Embeddings [n, T, D] of `texts`, float32 on the CPU, as StableDiffusionPipeline makes them.

    A text longer than the encoder's positions is cut, and `progress` is told what was left out.
    """
    positions = text_encoder.config.max_position_embeddings  # 77 for every Stable Diffusion
    for text in texts:
        _tell_what_is_cut(text, tokenizer=tokenizer, positions=positions, progress=progress or NoProgress())
    inputs = tokenizer(
        list(texts), padding="max_length", max_length=positions, truncation=True, return_tensors="pt"
    )
    uses_mask = getattr(text_encoder.config, "use_attention_mask", False)
    mask = inputs.attention_mask.to(text_encoder.device) if uses_mask else None
    return text_encoder(inputs.input_ids.to(text_encoder.device), attention_mask=mask)[0].float().cpu()


def _tell_what_is_cut(text: str, *, tokenizer: Any, positions: int, progress: Progress) -> None:
    """Say which end of `text` the encoder never sees."""
    ids = tokenizer(text, verbose=False).input_ids
    if len(ids) > positions:
        lost = tokenizer.decode(ids[positions - 1 : -1])  # the last position is the end token's
        progress.say(f"a prompt holds {len(ids) - 2} tokens, {positions - 2} are read; left out: {lost!r}")
