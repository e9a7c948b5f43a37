"""The model cards (README.md) of the demo models: data, licence, numbers measured, how to make them again."""

from __future__ import annotations

from collections.abc import Mapping

DATA = """## Data and licence

Trained from nothing on drawings rendered from the DiceBear style packages (code MIT), composed on generated
backgrounds, moved, scaled and re-encoded. Designs:

| style | designer | licence |
|---|---|---|
| lorelei | Lisa Wischofsky | CC0 1.0 |
| notionists | Zoish | CC0 1.0 |
| open-peeps | Pablo Stanley | CC0 1.0 |
| pixel-art | DiceBear | CC0 1.0 |
| adventurer | [Lisa Wischofsky][design] | [CC BY 4.0][licence] |

What the models give of the style "adventurer" derives from Lisa Wischofsky's design under CC BY 4.0, changed
as said above; name her if you share it. The weights are under the project's
licence (Apache-2.0).
Which character was seen by which model: `pipelines/demo_models/split.json`. The guides were seen by none.

[design]: https://www.figma.com/community/file/1184595184137881796
[licence]: https://creativecommons.org/licenses/by/4.0/
"""

AGAIN = """## How to make it again

    python -m pipelines.demo_models {stage} --corpus CORPUS --out ~/pfg-demo-models
    python -m pipelines.demo_models export {stage} --corpus CORPUS --out ~/pfg-demo-models

The recipe is `pipelines/demo_models/recipe.toml`, seed {seed:.0f}; a killed training goes on where it was.
This file was written at step {steps:.0f} of {of_steps:.0f}: {pictures_seen:,.0f} pictures in
{cpu_minutes:.0f} CPU minutes, float32, on one thread of a shared 2-core machine.
"""

CLASSIFIER = """# {title}

{what}

- Input: NHWC, BGR, float32 0..255, {input_size} px, any batch. Normalisation is inside the graph.
- Output: sigmoid scores of {tags:.0f} tags (`selected_tags.csv`: 4 ratings, general tags, the 60 characters
  of the demo corpus). All training pictures are of rating "general".
- Feature: the 768-wide input of the last dense layer.
- {parameters:,.0f} parameters before the last layer; stored as float16, computed in float32.

## Numbers

Measured on this file, through the product's own decode and `kohya` square, on {held_pictures:.0f} pictures of
characters it was not trained on, at 128 px (portraits) and 256 px (scenes).

| what | value |
|---|---|
| mean average precision, {coarse_tags:.0f} coarse tags with >= 20 positives | {map_coarse:.3f} |
| ... portraits alone / scenes alone | {map_coarse_portraits:.3f} / {map_coarse_chars:.3f} |
| mean average precision, all {all_tags:.0f} general tags with >= 20 positives | {map_all:.3f} |
| nearest other portrait by centred cosine shows the same unseen character (1 of 200) | {same_character:.3f} |
| demo pictures (trained on) whose character is named with a score >= 0.85 | {demo_found:.3f} |
| unseen characters taken for one of the demo corpus at >= 0.85 | {strangers_named:.3f} |
| pictures a CPU second in onnxruntime, one thread, decoding not counted | {images_per_second:.0f} |

Average precision of each coarse tag: `average_precision.json`. It sees drawings of these five styles only.

"""

TITLES = {
    "tagger": (
        "Demo tagger",
        "A small tagger with the interface of SmilingWolf's wd-v1-4-vit-tagger-v2, so that everything that\n"
        "works with it works with the real one. Residual 3x3 convolutions on 448 px averaged to 112.",
        448,
    ),
    "judge": (
        "Demo judge",
        "A second opinion for `pfgtrain evaluate`, never used to condition anything: another architecture\n"
        "(gated 7x7 depthwise blocks), another size and seed than the demo tagger, the same tags.",
        384,
    ),
}

VAE = """# Demo VAE

diffusers' AutoencoderKL at factor 8: {size:.0f} px drawings to latents 16x16x4, {parameters:,.0f}
parameters, float16. Latents are normalised per channel (folded into the quant convolutions): so
`scaling_factor` is 1. The log variance is a constant: that of the noise the decoder was trained with.

## Numbers

Measured on this file, on {held_pictures:.0f} portraits of characters it was not trained on.

| what | value |
|---|---|
| PSNR, mean over pictures / of the mean error | {psnr:.2f} dB / {psnr_of_mean_error:.2f} dB |
| mean error of an 8x8 block's colour, of 255 | {colour_error:.1f} |
| latents there: largest mean of a channel, mean deviation | {latent_mean:.2f}, {latent_std:.2f} |

It knows flat drawings of heads on plain ground, nothing else.

"""


TEXT = """# Demo text encoder and tokenizer

A CLIP text model of {parameters:,.0f} parameters (float16) behind CLIP's tokenizer, cut to {tokens:.0f}
tokens: the merges the tags of the demo corpora need, and CLIP's most frequent ones. Trained contrastively:
tags of a portrait as text ("illustration of avatar, black hair, glasses") against the demo tagger's feature.

## Numbers

The text of all coarse tags finds its portrait among {among:.0f} of characters it was not trained on, one
view each: first in {top1:.3f}, among the first five in {top5:.3f}.

"""


def classifier_card(kind: str, numbers: Mapping[str, float], tags: int) -> str:
    """The card of the tagger or the judge."""
    title, what, size = TITLES[kind]
    body = CLASSIFIER.format(title=title, what=what, input_size=size, tags=tags, **numbers)
    return body + DATA + "\n" + AGAIN.format(stage=kind, **numbers)


def vae_card(numbers: Mapping[str, float]) -> str:
    """The card of the VAE."""
    return VAE.format(**numbers) + DATA + "\n" + AGAIN.format(stage="vae", **numbers)


def text_card(numbers: Mapping[str, float]) -> str:
    """The card of text encoder and tokenizer."""
    return TEXT.format(**numbers) + DATA + "\n" + AGAIN.format(stage="text", **numbers)
