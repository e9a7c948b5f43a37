"""From checkpoints to the folders that travel in pfgdata/assets: weights in float16, and cards with numbers.

Every number in a card is measured on the written file, through the product's own decode, square, tagger and
VAE, on characters nothing here was trained on: not on the network in memory.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pfgdata.images import decode, square
from pfgdata.taggers import OnnxTagger
from pipelines.demo_models import cards, scores
from pipelines.demo_models.data import Row
from pipelines.demo_models.files import fresh, write_json, write_weights
from pipelines.demo_models.loop import Trainer
from pipelines.demo_models.nets import JudgeNet, TaggerNet
from pipelines.demo_models.onnx_graph import classifier_onnx
from pipelines.demo_models.tagger import LEAST_POSITIVES, ClassifierTask
from pipelines.demo_models.text import Pairing, TextTask
from pipelines.demo_models.vae import SIZE, UNET_NOISE, Codec, VaeTask, noise_like, psnr

CHARACTER_THRESHOLD = 0.85  # of queries, by default
MOMENTS_OF = 512  # training pictures whose latents give mean and deviation: 131,072 places


def export_classifier(trainer: Trainer, rows: Sequence[Row], folder: Path) -> dict[str, float]:
    """Write model.onnx, selected_tags.csv, average_precision.json and README.md; the numbers of the card."""
    task = trainer.task
    assert isinstance(task, ClassifierTask)
    net = averaged(trainer)
    assert isinstance(net, TaggerNet | JudgeNet)
    folder.mkdir(parents=True, exist_ok=True)
    data = classifier_onnx(net, input_size=task.recipe.input_size, name=f"demo_{task.recipe.net}")
    (folder / "model.onnx").write_bytes(data)
    (folder / "selected_tags.csv").write_text(task.tags.csv(), encoding="utf-8")
    numbers, by_tag = measure_classifier(folder, rows, task)
    write_json(folder / "average_precision.json", by_tag)
    numbers["parameters"] = sum(
        p.numel() for name, p in net.named_parameters() if not name.startswith("head.")
    )
    numbers |= _training(trainer)
    card = cards.classifier_card(task.recipe.net, numbers, len(task.tags))
    (folder / "README.md").write_text(card, encoding="utf-8")
    return numbers


def measure_classifier(
    folder: Path, rows: Sequence[Row], task: ClassifierTask
) -> tuple[dict[str, float], dict[str, float]]:
    """Numbers of the file in `folder` on held-out characters, and average precision by coarse tag."""
    tagger = OnnxTagger.load(str(folder), preprocess="kohya", threads=torch.get_num_threads())
    held = [row for row in rows if row.role == "validation"]
    demo = [row for row in rows if row.corpus == "demo"]
    scores_NV, features_NF, rate = look(tagger, held)
    truth = task.tags.targets(held).astype(bool)
    names = task.tags.names
    found = scores.tag_precisions(scores_NV, truth, least=LEAST_POSITIVES)
    coarse = {names[v]: value for v, value in found.items() if names[v] in task.tags.coarse}
    demo_scores, _, _ = look(tagger, demo)
    first = names.index(min(row.character for row in demo))  # characters are the last columns
    best = demo_scores[:, first:].argmax(1) + first
    right = np.array([names[v] == row.character for v, row in zip(best, demo, strict=True)])
    sure = demo_scores[np.arange(len(demo)), best] >= CHARACTER_THRESHOLD
    wrongly = (scores_NV[:, first:] >= CHARACTER_THRESHOLD).any(1)
    portraits = np.array([row.corpus == "portraits" for row in held])
    people = [row.character for row in held if row.corpus == "portraits"]
    numbers = {
        "map_coarse": float(np.mean(list(coarse.values()))),
        "coarse_tags": len(coarse),
        "map_all": float(np.mean(list(found.values()))),
        "all_tags": len(found),
        "held_pictures": len(held),
        "demo_found": float((right & sure).mean()),
        "strangers_named": float(wrongly.mean()),
        "same_character": scores.retrieval(features_NF[portraits], people),
        "images_per_second": rate,
    }
    for corpus in sorted({row.corpus for row in held}):
        of = np.array([row.corpus == corpus for row in held])
        part = scores.tag_precisions(scores_NV[of], truth[of], least=LEAST_POSITIVES)
        numbers[f"map_coarse_{corpus}"] = float(
            np.mean([value for v, value in part.items() if names[v] in task.tags.coarse])
        )
    return numbers, {name: round(value, 4) for name, value in sorted(coarse.items())}


def look(tagger: OnnxTagger, rows: Sequence[Row], *, batch: int = 32) -> tuple[Any, Any, float]:
    """Scores [N, V], features [N, F] of the rows' files, and pictures a CPU second, decoding not counted."""
    seen: list[tuple[Any, Any]] = []
    spent = 0.0
    for start in range(0, len(rows), batch):
        files = [row.file.read_bytes() for row in rows[start : start + batch]]
        squares = [square(decode(data).array, preprocess="kohya", size=tagger.image_size) for data in files]
        began = time.process_time()
        seen.append(tagger.predict(np.stack(squares)))
        spent += time.process_time() - began
    return np.concatenate([a for a, _ in seen]), np.concatenate([b for _, b in seen]), len(rows) / spent


def export_vae(trainer: Trainer, folder: Path) -> dict[str, float]:
    """Write config.json, float16 weights with normalised latents, and README.md; the numbers of the card."""
    task = trainer.task
    assert isinstance(task, VaeTask)
    codec = averaged(trainer)
    assert isinstance(codec, Codec)
    if not task.recipe.frozen_encoder:  # whose latents are those of what it started from
        with torch.inference_mode():
            normalise_latents(codec, task)
    state = {key: value.half().contiguous().cpu() for key, value in codec.vae.state_dict().items()}
    config = {"_class_name": "AutoencoderKL", "in_channels": 3, "out_channels": 3} | task.recipe.config()
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "config.json", config)
    write_weights(folder / "diffusion_pytorch_model.safetensors", state)
    numbers = measure_vae(folder, task) | _training(trainer)
    numbers["parameters"] = sum(value.numel() for value in state.values())
    (folder / "README.md").write_text(
        cards.vae_card(numbers, decoder_alone=task.recipe.frozen_encoder), encoding="utf-8"
    )
    return numbers


def normalise_latents(codec: Codec, task: VaeTask) -> None:
    """Fold mean and deviation of each latent channel over training pictures into the quant convolutions.

    The log variance becomes that of the least noise the decoder was trained with, the same everywhere.
    """
    seen = task.learn[:: max(1, len(task.learn) // MOMENTS_OF)]
    latents = [codec.encode(task.truth(part)) for part in np.array_split(seen, max(1, len(seen) // 16))]
    mean, std = _moments(torch.cat(latents))
    quant, back = codec.vae.quant_conv, codec.vae.post_quant_conv
    mean_rows = slice(0, codec.channels)
    quant.weight[mean_rows] /= std[:, None, None, None]
    quant.bias[mean_rows] = (quant.bias[mean_rows] - mean) / std
    quant.weight[codec.channels :] = 0.0
    quant.bias[codec.channels :] = 2 * float(np.log(task.recipe.noise))
    back.bias += back.weight[:, :, 0, 0] @ mean
    back.weight *= std[None, :, None, None]


def _moments(latents_BCHW: Tensor) -> tuple[Tensor, Tensor]:
    return latents_BCHW.mean((0, 2, 3)), latents_BCHW.std((0, 2, 3))


def measure_vae(folder: Path, task: VaeTask) -> dict[str, float]:
    """Decibels, colour error (0..255), latent mean and deviation of the written VAE on unseen characters."""
    from diffusers import AutoencoderKL

    vae = AutoencoderKL.from_pretrained(folder, torch_dtype=torch.float32, local_files_only=True).eval()
    dice = torch.Generator().manual_seed(task.recipe.loop.seed)
    decibels, noisy, colours, means, pixels = [], [], [], [], []
    with torch.inference_mode():
        for part in np.array_split(task.held, max(1, len(task.held) // 16)):
            truth = task.truth(part).cpu()
            latents = vae.encode(truth).latent_dist.mean
            drawn = vae.decode(latents).sample.clamp(-1, 1)
            decibels.append(psnr(drawn, truth))
            worse = vae.decode(latents + UNET_NOISE * noise_like(latents, dice)).sample.clamp(-1, 1)
            noisy.append(psnr(worse, truth))
            pixels.append((drawn - truth).pow(2).mean())
            colours.append(torch.nn.functional.avg_pool2d((drawn - truth), 8).abs().mean((1, 2, 3)) * 127.5)
            means.append(latents)
    mean, std = _moments(torch.cat(means))
    return {
        "psnr": float(torch.cat(decibels).mean()),
        "psnr_noisy": float(torch.cat(noisy).mean()),
        "psnr_of_mean_error": float(10 * torch.log10(4 / torch.stack(pixels).mean())),
        "colour_error": float(torch.cat(colours).mean()),
        "latent_mean": float(mean.abs().max()),
        "latent_std": float(std.mean()),
        "held_pictures": len(task.held),
        "size": SIZE,
        "channels": vae.config["latent_channels"],
    }


def export_text(trainer: Trainer, base: Path, *, tokenizer: Path) -> dict[str, float]:
    """Write text_encoder/ (float16, keys as published bases have them) and tokenizer/ into `base`."""
    task = trainer.task
    assert isinstance(task, TextTask)
    model = averaged(trainer)
    assert isinstance(model, Pairing)
    folder = fresh(base / "text_encoder")
    shutil.copytree(tokenizer, fresh(base / "tokenizer"), dirs_exist_ok=True)
    write_json(folder / "config.json", task.recipe.config(task.num_tokens))
    state = {
        f"text_model.{key.removeprefix('text_model.')}": value.half().contiguous().cpu()
        for key, value in model.clip.state_dict().items()
        if value.is_floating_point()
    }
    write_weights(folder / "model.safetensors", state)
    with torch.inference_mode():
        numbers = task.measure(model) | _training(trainer)
    numbers |= {"parameters": sum(value.numel() for value in state.values()), "tokens": task.num_tokens}
    (folder / "README.md").write_text(cards.text_card(numbers), encoding="utf-8")
    return numbers


def averaged(trainer: Trainer) -> torch.nn.Module:
    """The model with the averaged weights, in eval mode."""
    trainer.model.load_state_dict(trainer.ema)
    return trainer.model.eval()


def _training(trainer: Trainer) -> dict[str, float]:
    return {
        "steps": trainer.step,
        "of_steps": trainer.recipe.steps,
        "pictures_seen": trainer.step * trainer.recipe.batch_size,
        "cpu_minutes": trainer.cpu_seconds / 60,
        "seed": trainer.recipe.seed,
    }
