"""What a family of bases is: its names, its parts, how a single file of it is told and what that file lacks.

What a family does (encode a text, call the UNet, name weights for web UIs) stands in `pfgtrain.base`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["FAMILIES", "LDM_PREFIXES", "SD1", "SD2", "SDXL", "FamilyFacts", "family_titles"]

LDM_PREFIXES: Mapping[str, tuple[str, ...]] = {  # of a single file's tensors, by part, in every family
    "unet": ("model.diffusion_model.",),
    "vae": ("first_stage_model.", "vae."),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class FamilyFacts:
    """What is true of every base of a family."""

    name: str  # in run.json
    title: str  # for people, and in the made.json of an unpacked file
    width: int  # of the context, in the original model; a small base of the family has its own
    repository: str  # whose configs diffusers 0.42 takes for a single file
    tokens: tuple[str, ...]  # a single file's tables of tokens, one a text encoder; the first is its alone
    one_prediction: bool  # False: it came in both kinds, and a file that is silent may be of either
    projects: tuple[str, ...] = ()  # the text encoders that make a vector of all the words too
    labels: bool = False  # whether the UNet of a single file has LDM's `label_emb`, for what it is told more
    latent_channels: int = 4
    scaling_factor: float = 0.18215  # of its VAE: what readers of a single file take for granted
    models: tuple[str, ...] = ("unet", "vae", "text_encoder")  # folders with weights and a config.json
    tokenizers: tuple[str, ...] = ("tokenizer",)
    prefixes: Mapping[str, tuple[str, ...]]

    @property
    def text_encoders(self) -> tuple[str, ...]:
        """The folders of its text encoders, the first first."""
        return tuple(model for model in self.models if model.startswith("text_encoder"))

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
    prefixes={**LDM_PREFIXES, "text_encoder": ("cond_stage_model.transformer.",)},
    one_prediction=True,
)
SD2 = FamilyFacts(
    name="sd2",
    title="SD2",
    width=1024,
    repository="stabilityai/stable-diffusion-2-1",
    tokens=("cond_stage_model.model.token_embedding.weight",),  # OpenCLIP's
    prefixes={**LDM_PREFIXES, "text_encoder": ("cond_stage_model.model.",)},
    one_prediction=False,
)
SDXL = FamilyFacts(
    name="sdxl",
    title="SDXL",
    width=2048,
    repository="stabilityai/stable-diffusion-xl-base-1.0",
    tokens=(
        "conditioner.embedders.0.transformer.text_model.embeddings.token_embedding.weight",
        "conditioner.embedders.1.model.token_embedding.weight",
    ),
    one_prediction=True,  # a file of the other kind says so by a tensor `v_pred`
    labels=True,
    projects=("text_encoder_2",),
    scaling_factor=0.13025,
    models=("unet", "vae", "text_encoder", "text_encoder_2"),
    tokenizers=("tokenizer", "tokenizer_2"),
    prefixes={
        **LDM_PREFIXES,
        "text_encoder": ("conditioner.embedders.0.transformer.",),
        "text_encoder_2": ("conditioner.embedders.1.model.",),
    },
)
FAMILIES = (SD1, SD2, SDXL)


def family_titles() -> str:
    """The families as a sentence names them: SD1, SD2 or SDXL."""
    *others, last = (family.title for family in FAMILIES)
    return f"{', '.join(others)} or {last}"
