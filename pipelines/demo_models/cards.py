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

    python -m pipelines.demo_models {stage} {option}--corpus CORPUS --out ~/pfg-demo-models
    python -m pipelines.demo_models export {stage} {option}--corpus CORPUS --out ~/pfg-demo-models

The recipe is `pipelines/demo_models/{recipe}.toml`, seed {seed:.0f}; a killed training goes on where it was.
This file was written at step {steps:.0f} of {of_steps:.0f}: {pictures_seen:,.0f} pictures in
{cpu_minutes:.0f} CPU minutes, {dtype}, on one thread of a shared 2-core machine.
{history}"""
_FROM_NOTHING = {"recipe": "recipe", "option": "", "dtype": "float32", "history": ""}
_TEXT = _FROM_NOTHING | {
    "option": "--bpe bpe_simple_vocab_16e6.txt.gz ",
    "history": "\nThe .gz is open_clip_torch's, CLIP's merges.\n",
}
_DECODER = {
    "recipe": "decoder",
    "option": "--recipe pipelines/demo_models/decoder.toml ",
    "dtype": "bfloat16",
    "history": """
It began as the VAE of `recipe.toml` (seed 3, 64,000 pictures, 172 CPU minutes, 2026-11-24), whose encoder it
has to the bit: only the decoder learnt on (2026-11-29), with half a weight on what the demo tagger's first
maps see. `start = "demo"` in its recipe meant that VAE.
""",
}

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

diffusers' AutoencoderKL at factor 8: {size:.0f} px drawings to latents 16x16x{channels:.0f},
{parameters:,.0f} parameters, float16. Latents are normalised per channel (folded into the quant
convolutions): so `scaling_factor` is 1. The log variance is a constant, that of a noise of 0.02; the decoder
was trained with noise up to 0.25, so that a UNet's small errors do not become a mosaic.

## Numbers

Measured on this file, on {held_pictures:.0f} portraits of characters it was not trained on.

| what | value |
|---|---|
| PSNR, mean over pictures / of the mean error | {psnr:.2f} dB / {psnr_of_mean_error:.2f} dB |
| PSNR with noise of a tenth of a deviation on the latents | {psnr_noisy:.2f} dB |
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


BASE = """# Demo base

A complete diffusers Stable Diffusion folder, small enough for a laptop's processor: 128 px, latents
16x16x{channels:.0f}, context 96 wide, v-prediction with zero terminal SNR. Its parts have cards of
their own: `vae/`, `text_encoder/`. The UNet has {parameters:,.0f} parameters (float16) and reads a context
in its two lower levels.

## Numbers

Trained on tags as text, without PFG tokens: {pictures_seen:,.0f} pictures, batch {batch:.0f}, on
{trained_count:,.0f} portraits; moving average kept. Loss on fixed rows {probe_start:.3f} -> on images held
out {validation_loss:.3f} (v-prediction, min-SNR weights).

It draws heads in five styles from words such as "blonde hair, glasses, smile", nothing else.

"""

RUN = """# Demo run

The whole UNet of the demo base and a PFGLinear of {num_tokens:.0f} tokens ({adapter:,.0f} parameters),
trained on the feature of each picture and one prompt, "{prompt}":

    pfgtrain generate demo guide.png
    pfgtrain evaluate demo --guides pipelines/demo/guides

## Numbers

{pictures_seen:,.0f} pictures, batch {batch:.0f}, on {trained_count:,.0f} portraits of characters that are
neither guides nor in the demo corpus; moving average kept. Measured on this file, on {guides:.0f} guides of
unseen characters (5 styles x 10), {images_per_guide:.0f} pictures each, guidance {guidance_scale:g} (chosen
on {tuned_on:.0f} other guides); top-1 with the 95 % interval over guides:

{table}

The tagger conditions the pictures, so its figures flatter them; the judge never did.

"""

AGAIN_UNET = """## How to make it again

    python -m pipelines.demo_models start --corpus CORPUS --out ~/pfg-demo-models
    python -m pipelines pipelines/demo_models/{recipe}.toml --images CORPUS/portraits --out ~/pfg-demo-models
    python -m pipelines.demo_models export {stage} --corpus CORPUS --out ~/pfg-demo-models

which is a plain `pfgtrain fit`; seeds are in the recipes, and a killed fit goes on where it was.
{history}
"""

BASE_HISTORY = """
This file: 2,200 steps of that recipe on latents of the VAE as it was at its step 7,200, then 900 steps at
6e-4 on those of the VAE that is here, on one thread of a shared 2-core machine (2026-11-24). The number above
is that of the 900.
"""
RUN_HISTORY = """
This file: about 1,900 steps of that recipe on latents of the VAE as it was at its step 7,200, then 2,600
steps at 8e-4 on those of the VAE that is here, on one thread of a shared 2-core machine (2026-11-24);
then 1,278 steps at 8e-4 and 5,000 while that fell to nothing (2026-11-29); then, OUT being the folder, its
store that of demo_run.toml, and the run so far in pfgdata/assets (2026-11-29):

    python -m pipelines.demo_corpus crowd --out CORPUS
    pfgdata ingest CORPUS/crowd --store OUT/feats --tagger demo
    pfgdata latents OUT/feats --base demo
    torchrun --nproc_per_node 2 -m pfgtrain fit --shards OUT/feats --out OUT/runs/demo_run
        --config pipelines/demo_models/demo_crowd.toml --init pfgdata/assets/demo_run

About 60,800 of its first pictures, on the earlier latents, are not in the number above.
"""


def classifier_card(kind: str, numbers: Mapping[str, float], tags: int) -> str:
    """The card of the tagger or the judge."""
    title, what, size = TITLES[kind]
    body = CLASSIFIER.format(title=title, what=what, input_size=size, tags=tags, **numbers)
    return body + DATA + "\n" + AGAIN.format(stage=kind, **_FROM_NOTHING, **numbers)


def vae_card(numbers: Mapping[str, float], *, decoder_alone: bool) -> str:
    """The card of the VAE; whether only its decoder learnt, from the shipped one on."""
    how = _DECODER if decoder_alone else _FROM_NOTHING
    return VAE.format(**numbers) + DATA + "\n" + AGAIN.format(stage="vae", **how, **numbers)


def text_card(numbers: Mapping[str, float]) -> str:
    """The card of text encoder and tokenizer."""
    return TEXT.format(**numbers) + DATA + "\n" + AGAIN.format(stage="text", **_TEXT, **numbers)


def base_card(numbers: Mapping[str, float]) -> str:
    """The card of the base as a whole."""
    again = AGAIN_UNET.format(recipe="demo_stage1", stage="base", history=BASE_HISTORY)
    return BASE.format(**numbers) + DATA + "\n" + again


def run_card(numbers: Mapping[str, float], *, prompt: str, table: str, went_on: bool) -> str:
    """The card of the run; `table` is of its evaluation; whether it went on from the one before it."""
    history = RUN_HISTORY if went_on else ""
    again = AGAIN_UNET.format(recipe="demo_run", stage="run", history=history)
    return RUN.format(prompt=prompt, table=table, **numbers) + DATA + "\n" + again
