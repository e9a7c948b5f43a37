"""A file that is no whole SD1 or SD2 checkpoint, or whose configs are wrong: one line, by its name."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
import torch

from pfgdata.errors import ModelError, ModelNotFoundError
from pfgdata.hub import resolve
from tests.pfgdata.hub.conftest import saved
from tests.pfgdata.hub.ldm import Tensors, ldm_tensors


def refusal(file: str, config: Path | None) -> str:
    with pytest.raises(ModelError) as caught:
        resolve(file, what="base", config=config)
    text = str(caught.value)
    assert "\n" not in text and file in text
    return text


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"conditioner.embedders.0.model.positional_embedding": 1}, "an SDXL refiner, which only finishes"),
        ({"edm_mean": 4}, "an EDM model (Playground v2.5, CosXL)"),
        ({"edm_vpred.sigma_max": 1}, "an EDM model (Playground v2.5, CosXL)"),
        ({"model.diffusion_model.clip_txt_mapper.weight": 1}, "Stable Cascade"),
        ({"model.diffusion_model.effnet_mapper.0.weight": 1}, "Stable Cascade"),
        ({"net.llm_adapter.blocks.0.cross_attn.q_proj.weight": 1}, "Cosmos (Anima and the like)"),
        ({"net.x_embedder.proj.1.weight": 1}, "Cosmos (Anima and the like)"),
        ({"net.blocks.0.adaln_modulation_self_attn.1.weight": 1}, "Cosmos (Anima and the like)"),
        ({"model.diffusion_model.joint_blocks.0.x_block.attn.qkv.weight": 1}, "a transformer (SD3, Flux"),
        ({"model.diffusion_model.double_blocks.0.img_attn.qkv.weight": 1}, "a transformer (SD3, Flux"),
        ({"lora_unet_down_blocks_0_attentions_0.lora_up.weight": 1}, "a LoRA; name the checkpoint"),
        ({"control_model.input_blocks.0.0.weight": 1}, "a ControlNet"),
        ({"down_blocks.0.resnets.0.conv1.weight": 1}, "one part in diffusers' form; name its whole folder"),
        ({"model.diffusion_model.label_emb.0.0.weight": 1}, "its UNet takes labels"),
        ({"model.diffusion_model.input_blocks.0.0.weight": 9}, "its UNet takes 9 channels (inpainting)"),
        ({"model.diffusion_model.input_blocks.0.0.weight": 5}, "its UNet takes 5 channels (depth)"),
        ({"model.diffusion_model.": None, "cond_stage_model.": None}, "only a VAE"),
        (
            {"model.diffusion_model.": None, "model_ema.diffusion_modelinput_blocks00weight": 4},
            "its UNet is there only as moving averages (EMA); get the file with its weights",
        ),
        ({"first_stage_model.": None}, "it has no VAE"),
        ({"cond_stage_model.": None}, "it has no text encoder"),
        ({"": None}, "no Stable Diffusion checkpoint"),
    ],
)
def test_what_is_no_base_is_refused_by_its_name(
    change: dict[str, int | None], reason: str, tiny: Path, tensors: Tensors, tmp_path: Path, cache: Path
) -> None:
    for start, channels in change.items():
        if channels is None:
            tensors = {name: value for name, value in tensors.items() if not name.startswith(start)}
        else:
            tensors[start] = torch.zeros(1, channels)
    text = refusal(saved(tensors, tmp_path / "m.safetensors"), tiny)
    assert reason in text and text.endswith("; a base is an SD1, SD2 or SDXL checkpoint with all its parts")
    assert not cache.exists()


@pytest.mark.parametrize(
    ("gone", "reason"),
    [
        ("conditioner.embedders.1.", "one of its text encoders is not in it (conditioner.embedders.1.model"),
        ("conditioner.", "it has no text encoder"),
        ("model.diffusion_model.label_emb.", "its UNet takes none of the labels of its family"),
    ],
)
def test_an_sdxl_file_that_lacks_something_is_refused_by_its_name(
    gone: str, reason: str, tiny_xl: Path, tmp_path: Path, cache: Path
) -> None:
    tensors = {name: value for name, value in ldm_tensors(tiny_xl).items() if not name.startswith(gone)}
    assert reason in refusal(saved(tensors, tmp_path / "m.safetensors"), tiny_xl)
    assert not cache.exists()


def test_a_damaged_file_is_one_line(tiny: Path, tensors: Tensors, tmp_path: Path) -> None:
    whole = Path(saved(tensors, tmp_path / "m.safetensors")).read_bytes()
    torch.save(tensors, tmp_path / "m.ckpt")
    pickled = (tmp_path / "m.ckpt").read_bytes()
    cases = {
        "cut.safetensors": whole[:-100],
        "pointer.safetensors": b"version https://git-lfs.github.com/spec/v1\noid sha256:0",
        "empty.safetensors": b"",
        "cut.CKPT": pickled[: len(pickled) // 2],
        "cut.SAFETENSORS": whole[:-100],
        "cut.ckpt": pickled[: len(pickled) // 2],
        "text.ckpt": b"not a checkpoint",
        "empty.ckpt": b"",
    }
    for name, content in cases.items():
        (tmp_path / name).write_bytes(content)
        assert f"no whole .{name.split('.')[1].lower()} file" in refusal(str(tmp_path / name), tiny)
    (tmp_path / "picture.png").write_bytes(b"png")
    assert "neither .safetensors nor .ckpt" in refusal(str(tmp_path / "picture.png"), tiny)


def test_a_pickle_that_would_run_code_is_read_without(tiny: Path, tensors: Tensors, tmp_path: Path) -> None:
    class Code:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(tmp_path / "ran"),)

    torch.save({"state_dict": {}, "callbacks": Code()}, tmp_path / "m.ckpt")
    assert "no Stable Diffusion checkpoint" in refusal(str(tmp_path / "m.ckpt"), tiny)
    torch.save({"state_dict": {**tensors, "code": Code()}, "callbacks": Code()}, tmp_path / "m.CKPT")
    assert resolve(str(tmp_path / "m.CKPT"), what="base", config=tiny).folder.is_dir()
    assert not (tmp_path / "ran").exists()


def test_without_configs_or_network_the_family_and_the_way_out_are_named(
    tiny2: Path, tiny_xl: Path, tensors: Tensors, tmp_path: Path
) -> None:
    first = saved(tensors, tmp_path / "1.safetensors")
    second = saved(ldm_tensors(tiny2, open_clip=True), tmp_path / "2.safetensors")
    third = saved(ldm_tensors(tiny_xl), tmp_path / "3.safetensors")
    for file, family in ((first, "SD1"), (second, "SD2"), (third, "SDXL")):
        with pytest.raises(ModelNotFoundError) as caught:
            resolve(file, what="base", cache=tmp_path / "hub")
        text = str(caught.value)
        assert "\n" not in text and text.startswith(f"{file}: looks like {family}")
        assert "pass --base-config DIR" in text


def test_configs_that_lack_something_or_are_of_another_model_are_named(
    tiny: Path, tiny2: Path, tensors: Tensors, tmp_path: Path, cache: Path
) -> None:
    file = saved(tensors, tmp_path / "m.safetensors")
    shutil.copytree(tiny, tmp_path / "lacking")
    (tmp_path / "lacking/vae/config.json").unlink()
    shutil.rmtree(tmp_path / "lacking/tokenizer")
    with pytest.raises(ModelNotFoundError, match=r"lacks vae/config\.json, tokenizer/tokenizer_config\.json"):
        resolve(file, what="base", config=tmp_path / "lacking")
    assert "its unet does not fit unet/config.json" in refusal(file, tiny2)
    shutil.copytree(tiny, tmp_path / "wide")
    config = json.loads((tiny / "text_encoder/config.json").read_bytes())
    (tmp_path / "wide/text_encoder/config.json").write_text(json.dumps({**config, "hidden_size": 32}))
    assert "its context is 16 wide" in refusal(file, tmp_path / "wide")
    (tmp_path / "wide/text_encoder/config.json").write_text("[" * 100_000)
    with pytest.raises(ModelError, match=r"text_encoder/config\.json: no JSON"):
        resolve(file, what="base", config=tmp_path / "wide")
    assert [path.suffix for path in cache.iterdir()] == [".lock"]


@pytest.mark.parametrize(
    ("part", "name"),
    [
        ("unet", "model.diffusion_model.out.2.bias"),
        ("vae", "first_stage_model.quant_conv.bias"),
        ("text_encoder", "cond_stage_model.transformer.text_model.final_layer_norm.bias"),
    ],
)
def test_weights_that_are_not_in_the_file_are_not_made_up(
    part: str, name: str, tiny: Path, tensors: Tensors, tmp_path: Path
) -> None:
    del tensors[name]
    text = refusal(saved(tensors, tmp_path / "m.safetensors"), tiny)
    assert f"its {part} does not fit" in text and "tensors are not in it" in text


def test_a_unet_with_more_than_the_configs_know_is_not_cut(
    tiny: Path, tensors: Tensors, tmp_path: Path
) -> None:
    tensors["model.diffusion_model.middle_block.3.in_layers.0.weight"] = torch.ones(3)
    file = saved(tensors, tmp_path / "m.safetensors")
    assert "holds more than the config has room for" in refusal(file, tiny)
