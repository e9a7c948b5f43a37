"""The demo tagger's training, which is the judge's too: another net, size and seed make another classifier.

The first `small_steps` are taken at `small_size` px, at half the cost; coarse things are learnt there as
well.
Shapes: N pictures, V tags, B of a batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipelines.demo_models import augment, data
from pipelines.demo_models.loop import LoopRecipe, epoch_indices
from pipelines.demo_models.nets import JudgeNet, TaggerNet, normalise
from pipelines.demo_models.scores import retrieval, tag_precisions
from pipelines.demo_models.split import Split
from pipelines.demo_models.vocabulary import choose_tags

LEAST_POSITIVES = 20  # held-out pictures a coarse tag needs to count in the mean


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassifierRecipe:
    """A classifier: its net, its input, its vocabulary and its loop."""

    net: Literal["tagger", "judge"]
    widths: tuple[int, ...]
    blocks: tuple[int, ...]
    input_size: int  # px of the square the exported graph takes; 448 as wd-v1-4-vit-tagger-v2
    small_size: int
    small_steps: int
    least_count: int = 20  # training pictures a tag needs to be in the vocabulary
    demo_repeats: int = 4  # how often an epoch shows the demo corpus: its 60 characters are tags
    loop: LoopRecipe

    @property
    def size(self) -> int:
        """Px behind the graph's average pool: what the net is given."""
        return self.input_size // data.POOL

    def build(self, num_tags: int) -> TaggerNet | JudgeNet:
        """The untrained net; the same for the same seed."""
        torch.manual_seed(self.loop.seed)
        kind = TaggerNet if self.net == "tagger" else JudgeNet
        return kind(num_tags, widths=self.widths, blocks=self.blocks)


class ClassifierTask:
    """Multi-label training on rows whose role is 'train' or 'tagger'; measured on 'validation'."""

    beside = None

    def __init__(
        self,
        rows: Sequence[data.Row],
        pictures: data.Pictures,
        *,
        recipe: ClassifierRecipe,
        device: torch.device,
    ) -> None:
        self.recipe = recipe
        self.device = device
        learn = [number for number, row in enumerate(rows) if row.role in ("train", "tagger")]
        held = [number for number, row in enumerate(rows) if row.role == "validation"]
        self.pictures = pictures
        self.learn = np.array(learn)
        self.held = np.array(held)
        self.held_rows = [rows[number] for number in held]
        self.tags = choose_tags([rows[number] for number in learn], least=recipe.least_count)
        self.targets = self.tags.targets(rows)
        self.weights = np.array([recipe.demo_repeats if rows[n].corpus == "demo" else 1 for n in learn])
        self.model: nn.Module = recipe.build(len(self.tags)).to(device)
        self._start_at_base_rates()

    def _start_at_base_rates(self) -> None:
        """Bias each logit to the log odds of its tag, so that the first steps are not spent on that."""
        rate = torch.from_numpy(self.targets[self.learn].mean(0)).clamp(1e-4, 1 - 1e-4).to(self.device)
        head = self.model.head
        assert isinstance(head, nn.Linear)
        with torch.no_grad():
            head.bias.copy_(torch.log(rate / (1 - rate)))

    def loss(self, step: int) -> Tensor:
        """Binary cross entropy, summed over the tags, averaged over the batch, in units of 100 tags."""
        loop = self.recipe.loop
        chosen = self.learn[
            epoch_indices(step, batch_size=loop.batch_size, weights=self.weights, seed=loop.seed)
        ]
        pixels = normalise(torch.from_numpy(self.pictures[chosen]).to(self.device))
        size = self.recipe.small_size if step < self.recipe.small_steps else self.recipe.size
        seen = augment.augment(pixels, size=size, dice=augment.generator(loop.seed, step, self.device))
        truth = torch.from_numpy(self.targets[chosen]).to(self.device).float()
        logits, _ = self.model(seen)
        return F.binary_cross_entropy_with_logits(logits, truth, reduction="sum") / (100 * len(chosen))

    def measure(self, model: nn.Module) -> dict[str, float]:
        """Mean average precision of coarse tags on unseen characters (all, portraits, scenes); retrieval."""
        scores, features = self.look(model, self.held)
        truth = self.targets[self.held].astype(bool)
        return {
            "map_coarse": self._mean(scores, truth),
            **{
                f"map_coarse_{corpus}": self._mean(scores[of], truth[of])
                for corpus, of in self._held_by_corpus().items()
            },
            **{
                f"same_character_{corpus}": retrieval(
                    features[of], [self.held_rows[n].character for n in np.flatnonzero(of)]
                )
                for corpus, of in self._held_by_corpus().items()
            },
        }

    def _held_by_corpus(self) -> dict[str, np.ndarray]:
        corpora = np.array([row.corpus for row in self.held_rows])
        return {str(name): corpora == name for name in np.unique(corpora)}

    def _mean(self, scores: np.ndarray, truth: np.ndarray) -> float:
        found = tag_precisions(scores, truth, least=LEAST_POSITIVES)
        coarse = [value for v, value in found.items() if self.tags.names[v] in self.tags.coarse]
        return float(np.mean(coarse)) if coarse else float("nan")

    def look(self, model: nn.Module, which: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Scores [n, V] and features [n, F] of the pictures numbered `which`, as they are."""
        scores, features = [], []
        for part in np.array_split(which, max(1, len(which) // 64)):
            pixels = normalise(torch.from_numpy(self.pictures[part]).to(self.device))
            logits, feature = model(pixels)
            scores.append(torch.sigmoid(logits).cpu().numpy())
            features.append(feature.float().cpu().numpy())
        return np.concatenate(scores), np.concatenate(features)


def load_task(
    root: Path, out: Path, *, recipe: ClassifierRecipe, split: Split, device: torch.device
) -> ClassifierTask:
    """The task on the corpora below `root`; their squares are cached in `out/cache`."""
    rows = data.training_rows(root, split)
    prepare = partial(data.pooled_square, size=recipe.input_size)
    pictures = data.load_pictures(rows, out / "cache" / f"{recipe.net}-{recipe.size}.npy", prepare=prepare)
    return ClassifierTask(rows, pictures, recipe=recipe, device=device)
