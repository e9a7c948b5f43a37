"""What a fit says before its first step."""

from __future__ import annotations

from pfgdata.records import Progress
from pfgtrain.base import Base
from pfgtrain.checkpoint import CheckpointState
from pfgtrain.config import FitConfig
from pfgtrain.fit.plan import FitPlan

__all__ = ["announce", "where_it_goes_on"]

_MOST_TOKENS = 20  # where the slider of A1111's extension stops


def where_it_goes_on(start: CheckpointState | None, config: FitConfig) -> str:
    """The line of a resumed run: the step it goes on at, or that it has to begin again."""
    if start:
        return f"goes on at step {start.step + 1:,}"
    return f"no checkpoint yet (one every {config.checkpointing_steps:,} steps): begins at step 1"


def announce(
    plan: FitPlan, trainable: dict[str, int], base: Base, config: FitConfig, progress: Progress
) -> None:
    """Say what a user should know before the first step: what is left out, and what a step is."""
    if base.untrained:
        progress.say(f"base {base.name} is untrained (weights from a fixed seed): pictures will mean nothing")
    if config.num_tokens and config.num_tokens > _MOST_TOKENS:
        progress.say(f"{config.num_tokens} tokens: A1111's extension takes at most {_MOST_TOKENS}")
    if plan.without_latent:
        progress.say(f"{plan.without_latent:,} of {plan.distinct:,} selected images have no latent: left out")
    if plan.missing_captions:
        progress.say(f"{plan.missing_captions:,} of {plan.images:,} images have an empty caption")
    if config.features:
        progress.say(f"features and tokens of each adapter: {config.features}")
    for label, count in plan.missing_vectors.items():
        progress.say(
            f"{count:,} of {plan.images:,} images have no vector in {label}: the pad stands for its tokens"
        )
    if config.validation_split and not plan.held_out:
        progress.say("no image is held out, for there are too few: no validation, and no best checkpoint")
    parts = " + ".join(f"{name} {count:,}" for name, count in trainable.items())
    held = f" ({plan.held_out:,} more held out)" if plan.held_out else ""
    progress.say(
        f"{plan.images:,} images{held}, buckets: {len(plan.buckets)}; a step: {plan.effective_batch} images ="
        f" batch {config.train_batch_size} x processes {plan.processes} x accumulation"
        f" {config.gradient_accumulation_steps}; steps: {plan.steps:,} = {plan.epochs:.3g} epochs; parameters"
        f" that learn: {parts}"
    )
