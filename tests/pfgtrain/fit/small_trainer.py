"""A trainer of a tiny base whose weights stay, so that its optimizer shows the gradient."""

from __future__ import annotations

from dataclasses import replace

from pfgdata.store import LatentSet
from pfgtrain.base import Base
from pfgtrain.config import FeaturePlan, FitConfig
from pfgtrain.fit import Inputs, Trainer, make_accelerator
from tests.doubles import CheapTagger
from tests.pfgtrain.small_store import FEATURE_DIM

__all__ = ["NUMBERS", "STILL", "make_trainer"]

NUMBERS = list(range(30))
STILL = FitConfig(  # the weights stay; AdamW's first moment then shows the gradient
    train_batch_size=4,
    num_tokens=2,
    learning_rate=0.0,
    adapter_learning_rate=0.0,
    max_grad_norm=0.0,
    mixed_precision="no",
)


def make_trainer(
    base: Base, latent_set: LatentSet, config: FitConfig = STILL, *, text_layer: int = 2
) -> Trainer:
    inputs = Inputs(
        base=replace(base, text_layer=text_layer),
        latent_set=latent_set,
        tagger=CheapTagger().identity,
        features=FeaturePlan.of_tagger(feature_dim=FEATURE_DIM, num_tokens=config.num_tokens or 0),
    )
    return Trainer(inputs, config, accelerator=make_accelerator(config), total_steps=10)
