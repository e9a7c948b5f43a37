"""The demo base's CLIP text encoder, trained contrastively: tags as text against the picture's feature.

Only coarse tags are words (`black_hair` is "black hair"); they come in random order, some left out, as
captions do. A second loss names the tags again from the text's last state, so that none of them is dropped
on the way.
Shapes: B texts, T tokens, D text width, F = 768 features, V coarse tags, P width of the common space.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipelines.demo_models.data import Row
from pipelines.demo_models.loop import LoopRecipe, epoch_indices
from pipelines.demo_models.nets import FEATURE_DIM
from pipelines.demo_models.tokenizer import POSITIONS, cut_merges, load_tokenizer, write_tokenizer

PREFIX = "illustration of avatar"  # the demo's common prompt; half of the texts begin with it
KEEP = 0.8  # share of a picture's tags that its text keeps
WORDS = (
    "illustration of umamusume avatar portrait character person anime girl boy woman man drawing picture a"
    " the with and wearing head shoulders photo style best worst low high quality blurry"
)  # beside the tags' own


@dataclass(frozen=True, slots=True, kw_only=True)
class TextRecipe:
    """The encoder's shape and its loop."""

    width: int  # D; no block width of the UNet, so that PFG's hook form finds its layers by it
    layers: int
    heads: int
    common: int  # P
    frequent_merges: int
    loop: LoopRecipe

    def config(self, num_tokens: int) -> dict[str, Any]:
        """Arguments of transformers' CLIPTextConfig, which are also the exported config.json."""
        return {
            "architectures": ["CLIPTextModel"],
            "model_type": "clip_text_model",
            "dtype": "float32",  # what it computes in; without it transformers takes the file's float16
            "hidden_size": self.width,
            "intermediate_size": 4 * self.width,
            "projection_dim": self.width,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "max_position_embeddings": POSITIONS,
            "hidden_act": "quick_gelu",
            "vocab_size": num_tokens,
            "bos_token_id": num_tokens - 2,
            "eos_token_id": num_tokens - 1,
            "pad_token_id": num_tokens - 1,
        }


class Pairing(nn.Module):
    """Encoder and the parts that only training needs: both projections, the tag reader, the temperature."""

    def __init__(self, recipe: TextRecipe, *, num_tokens: int, num_tags: int) -> None:
        super().__init__()
        from transformers import CLIPTextConfig, CLIPTextModel

        torch.manual_seed(recipe.loop.seed)
        self.end = num_tokens - 1
        self.clip = CLIPTextModel(CLIPTextConfig(**recipe.config(num_tokens)))
        self.of_text = nn.Linear(recipe.width, recipe.common)
        self.of_picture = nn.Linear(FEATURE_DIM, recipe.common)
        self.reader = nn.Linear(recipe.width, num_tags)
        self.log_scale = nn.Parameter(torch.tensor(2.0))

    def read(self, ids_BT: Tensor) -> Tensor:
        """The last state [B, D] of each text: at its first end token, behind the final layer norm."""
        states_BTD = self.clip(input_ids=ids_BT).last_hidden_state
        last_B = (ids_BT == self.end).int().argmax(1)
        picked: Tensor = states_BTD[torch.arange(len(ids_BT), device=ids_BT.device), last_B]
        return picked

    def likeness(self, states_BD: Tensor, features_BF: Tensor) -> Tensor:
        """Scaled cosine [B, B] of every text with every picture."""
        text, picture = self.of_text(states_BD), self.of_picture(features_BF)
        return self.log_scale.exp() * F.normalize(text, dim=1) @ F.normalize(picture, dim=1).T


class TextTask:
    """Pairs of text and feature of training portraits; measured on one view of each unseen character."""

    beside = None

    def __init__(
        self,
        rows: Sequence[Row],
        features_NF: np.ndarray,
        *,
        recipe: TextRecipe,
        tokenizer: Path,
        bpe: Path,
        device: torch.device,
    ) -> None:
        self.recipe = recipe
        self.device = device
        self.rows = rows
        self.learn = np.array([n for n, row in enumerate(rows) if row.role == "train"])
        self.held = np.array([n for n, row in enumerate(rows) if row.role == "validation"][::4])
        mean, std = features_NF[self.learn].mean(0), features_NF[self.learn].std(0) + 1e-3
        self.features = torch.from_numpy((features_NF - mean) / std).float()
        self.tags = sorted({tag for row in rows for tag in row.coarse})
        self.column = {tag: number for number, tag in enumerate(self.tags)}
        words = {word for tag in [*self.tags, WORDS.replace(" ", "_")] for word in tag.split("_")}
        merges = cut_merges(bpe, sorted(words), frequent=recipe.frequent_merges)
        self.num_tokens = write_tokenizer(tokenizer, merges)
        self.tokenizer = load_tokenizer(tokenizer)
        self.model: nn.Module = Pairing(recipe, num_tokens=self.num_tokens, num_tags=len(self.tags)).to(
            device
        )

    def loss(self, step: int) -> Tensor:
        """Symmetric contrastive loss, and the cross entropy of naming the text's tags."""
        model, loop = self.model, self.recipe.loop
        assert isinstance(model, Pairing)
        weights = np.ones(len(self.learn), np.int64)
        chosen = self.learn[epoch_indices(step, batch_size=loop.batch_size, weights=weights, seed=loop.seed)]
        dice = np.random.default_rng([loop.seed, 1, step])
        said = [_some(self.rows[n].coarse, dice) for n in chosen]
        states = model.read(self.ids([sentence(tags, prefix=dice.random() < 0.5) for tags in said]))
        likeness = model.likeness(states, self.features[chosen].to(self.device))
        truth = torch.arange(len(chosen), device=self.device)
        pairing = (F.cross_entropy(likeness, truth) + F.cross_entropy(likeness.T, truth)) / 2
        named = F.binary_cross_entropy_with_logits(model.reader(states), self._named(said), reduction="sum")
        return pairing + named / len(chosen)

    def measure(self, model: nn.Module) -> dict[str, float]:
        """How often the text of all tags finds its picture among those of unseen characters."""
        assert isinstance(model, Pairing)
        states = model.read(self.ids([sentence(self.rows[n].coarse, prefix=True) for n in self.held]))
        likeness = model.likeness(states, self.features[self.held].to(self.device))
        rank = (likeness > likeness.diagonal()[:, None]).sum(1)
        return {
            "top1": float((rank == 0).float().mean()),
            "top5": float((rank < 5).float().mean()),
            "among": len(self.held),
        }

    def ids(self, texts: list[str]) -> Tensor:
        """Token ids [B, T], padded with the end to the longest, at most 77."""
        found = self.tokenizer(texts, padding="longest", truncation=True, max_length=POSITIONS)
        return torch.tensor(found["input_ids"], device=self.device)

    def _named(self, said: Sequence[Sequence[str]]) -> Tensor:
        table = np.zeros((len(said), len(self.tags)), np.float32)
        for line, tags in zip(table, said, strict=True):
            line[[self.column[tag] for tag in tags]] = 1
        return torch.from_numpy(table).to(self.device)


def _some(tags: Sequence[str], dice: np.random.Generator) -> list[str]:
    """A random part of the tags in random order."""
    return [tags[at] for at in dice.permutation(len(tags)) if dice.random() < KEEP]


def sentence(tags: Sequence[str], *, prefix: bool) -> str:
    """Tags as a text: words for underscores, commas between, the common prompt first if `prefix`."""
    return ", ".join([*([PREFIX] if prefix else []), *(tag.replace("_", " ") for tag in tags)])
