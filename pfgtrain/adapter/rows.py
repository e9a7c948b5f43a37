"""Context rows: a text, then the tokens of its row's features, or the pad where there are none.

A row dropped in training and the unconditional row of generation are made by one function,
`unconditional_rows`.

Shapes: B batch, K tokens, D cross-attention width, T text positions (77), C = T + K.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from pfgtrain.condition import Condition

__all__ = [
    "Uncond",
    "append_tokens",
    "conditional_rows",
    "told_rows",
    "unconditional_pad",
    "unconditional_rows",
]

Uncond = Literal["zeros", "eos"]


def append_tokens(text: Condition, tokens_BKD: Tensor) -> Condition:
    """`text` with the context [B, T + K, D]: text first, always."""
    return replace(text, context=torch.cat([text.context, tokens_BKD], dim=1))


def unconditional_pad(context_BTD: Tensor, *, num_tokens: int, uncond: Uncond) -> Tensor:
    """What stands in the tokens' place on the unconditional side, [B, K, D].

    `zeros` is what today's web UIs do, `eos` (K copies of the last text position) what the article did. Zeros
    are not absence: a zero token still takes its share of the softmax.
    """
    if uncond == "eos":
        return context_BTD[:, -1:].expand(-1, num_tokens, -1)
    return context_BTD.new_zeros(len(context_BTD), num_tokens, context_BTD.shape[2])


def unconditional_rows(text: Condition, *, num_tokens: int, uncond: Uncond) -> Condition:
    """The rows that guidance moves away from, context [B, C, D]: `[negative or empty prompt ; pad]`."""
    return append_tokens(text, unconditional_pad(text.context, num_tokens=num_tokens, uncond=uncond))


def told_rows(text: Condition, tokens_BKD: Tensor, *, keep_BK: Tensor, uncond: Uncond) -> Condition:
    """`text` and its tokens, context [B, C, D]; the pad in the place of each token that is not kept."""
    pad_BKD = unconditional_pad(text.context, num_tokens=tokens_BKD.shape[1], uncond=uncond)
    return append_tokens(text, torch.where(keep_BK[:, :, None], tokens_BKD, pad_BKD))


def conditional_rows(
    text: Condition,
    tokens_BKD: Tensor | None,
    *,
    empty: Condition,
    keep_text_B: Tensor,
    keep_tokens_BK: Tensor,
    uncond: Uncond,
) -> Condition:
    """The rows of a training batch, context [B, C, D]: `[text ; tokens]`, either left out where not kept.

    A text left out is the `empty` one, tokens left out are the pad after the row's own text; without both a
    row equals `unconditional_rows(empty)` bit for bit, for `torch.where` chooses, and sends no gradient to
    its tokens. `text` may have one row for all; without an adapter there are no tokens, C = T.
    """
    texts = text.where(keep_text_B, empty)
    if tokens_BKD is None:
        return texts
    return told_rows(texts, tokens_BKD, keep_BK=keep_tokens_BK, uncond=uncond)
