"""What a family of bases is: its names, its parts, how a single file of it is told and what that file lacks.

What a family does (encode a text, call the UNet, name weights for web UIs) stands in `pfgtrain.base`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["FAMILIES", "LDM_PREFIXES", "SD1", "SD2", "SDXL", "FamilyFacts"]

LDM_PREFIXES: Mapping[str, tuple[str, ...]] = {  # of a single file's tensors, by part
    "unet": ("model.diffusion_model.",),
    "vae": ("first_stage_model.", "vae."),
    "text_encoder": ("cond_stage_model.",),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class FamilyFacts:
    """What is true of every base of a family."""

    name: str  # in run.json
    title: str  # for people, and in the made.json of an unpacked file
    width: int  # of the context, in the original model; a small base of the family has its own
    repository: str  # whose configs diffusers 0.42 takes for a single file
    tokens: tuple[str, ...]  # the tensors of a single file that tell it: its text encoders' tables of tokens
    one_prediction: bool  # False: it came in both kinds, and a file that is silent may be of either
    latent_channels: int = 4
    scaling_factor: float = 0.18215  # of its VAE: what readers of a single file take for granted
    models: tuple[str, ...] = ("unet", "vae", "text_encoder")  # folders with weights and a config.json
    tokenizers: tuple[str, ...] = ("tokenizer",)
    prefixes: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: LDM_PREFIXES)

    @property
    def configs(self) -> tuple[str, ...]:
        """The files that say what a diffusers folder is, beside those of the tokens themselves."""
        return (
            *(f"{model}/config.json" for model in self.models),
            "scheduler/scheduler_config.json",
            *(f"{tokenizer}/tokenizer_config.json" for tokenizer in self.tokenizers),
        )


SD1 = FamilyFacts(
    name="sd1",
    title="SD1",
    width=768,
    repository="stable-diffusion-v1-5/stable-diffusion-v1-5",
    tokens=("cond_stage_model.transformer.text_model.embeddings.token_embedding.weight",),  # CLIP's
    one_prediction=True,
)
SD2 = FamilyFacts(
    name="sd2",
    title="SD2",
    width=1024,
    repository="stabilityai/stable-diffusion-2-1",
    tokens=("cond_stage_model.model.token_embedding.weight",),  # OpenCLIP's
    one_prediction=False,
)
SDXL = FamilyFacts(
    name="sdxl",
    title="SDXL",
    width=2048,
    repository="stabilityai/stable-diffusion-xl-base-1.0",
    tokens=(
        "conditioner.embedders.0.transformer.text_model.embeddings.token_embedding.weight",  # CLIP's
        "conditioner.embedders.1.model.token_embedding.weight",  # OpenCLIP's; a refiner has it alone, as 0
    ),
    one_prediction=True,
    scaling_factor=0.13025,
    models=("unet", "vae", "text_encoder", "text_encoder_2"),
    tokenizers=("tokenizer", "tokenizer_2"),
    prefixes={
        **LDM_PREFIXES,
        "text_encoder": ("conditioner.embedders.0.transformer.",),
        "text_encoder_2": ("conditioner.embedders.1.model.",),
    },
)
FAMILIES = (SD1, SD2)
