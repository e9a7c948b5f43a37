"""LDM keys: what diffusers reads back from them is every tensor of the model, bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
from diffusers.loaders.single_file_utils import (
    convert_ldm_unet_checkpoint,
    create_unet_diffusers_config_from_ldm,
    create_vae_diffusers_config_from_ldm,
    fetch_original_config,
)
from safetensors.torch import save_file

from pfgdata.errors import ModelError
from pfgtrain.base import family_named
from pfgtrain.export.ldm import text_encoder_to_ldm, unet_to_ldm, vae_to_ldm
from pfgtrain.export.ldm_config import ldm_config, yaml_text
from tests.pfgtrain.export.small_model import build_whole_base, text_encoder, whole_vae

SHARED: dict[str, Any] = {
    "in_channels": 4,
    "out_channels": 4,
    "block_out_channels": [320, 640, 1280, 1280],
    "down_block_types": ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"],
    "up_block_types": ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3,
    "layers_per_block": 2,
}
UNETS: dict[str, dict[str, Any]] = {  # unet/config.json of the two published bases, what shapes them
    "sd1": {**SHARED, "sample_size": 64, "cross_attention_dim": 768, "attention_head_dim": 8},
    "sd2": {
        **SHARED,
        "sample_size": 96,
        "cross_attention_dim": 1024,
        "attention_head_dim": [5, 10, 20, 20],
        "use_linear_projection": True,
    },
}
VAE: dict[str, Any] = {
    "in_channels": 3,
    "out_channels": 3,
    "latent_channels": 4,
    "block_out_channels": [128, 256, 512, 512],
    "layers_per_block": 2,
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
}


def assert_equal(one: Any, other: Any) -> None:
    ours, theirs = one.state_dict(), other.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


@pytest.fixture(scope="module", params=[False, True], ids=["sd1", "sd2"])
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_whole_base(tmp_path_factory.mktemp("base") / "whole", linear=request.param)


def test_a_whole_pipeline_comes_back_from_one_file_bit_for_bit(base: Path, tmp_path: Path) -> None:
    pipeline = StableDiffusionPipeline.from_pretrained(base)
    is_sd2 = pipeline.unet.config.use_linear_projection
    state = {
        **unet_to_ldm(pipeline.unet.state_dict(), config=pipeline.unet.config),
        **vae_to_ldm(pipeline.vae.state_dict(), config=pipeline.vae.config),
        **text_encoder_to_ldm(
            pipeline.text_encoder.state_dict(),
            layout="openclip" if is_sd2 else "clip",
            prefix=f"cond_stage_model.{'model' if is_sd2 else 'transformer'}.",
        ),
    }
    save_file(state, tmp_path / "all.safetensors")
    back = StableDiffusionPipeline.from_single_file(
        str(tmp_path / "all.safetensors"), config=str(base), local_files_only=True
    )
    for part in ("unet", "vae", "text_encoder"):
        assert_equal(getattr(pipeline, part), getattr(back, part))


def test_the_unet_and_the_vae_come_back_alone_too(base: Path, tmp_path: Path) -> None:
    unet = UNet2DConditionModel.from_pretrained(base / "unet")
    vae = AutoencoderKL.from_pretrained(base / "vae")
    save_file(unet_to_ldm(unet.state_dict(), config=unet.config), tmp_path / "unet.safetensors")
    save_file(vae_to_ldm(vae.state_dict(), config=vae.config), tmp_path / "vae.safetensors")
    options = {"config": str(base), "local_files_only": True}
    unet_file, vae_file = str(tmp_path / "unet.safetensors"), str(tmp_path / "vae.safetensors")
    assert_equal(unet, UNet2DConditionModel.from_single_file(unet_file, subfolder="unet", **options))
    assert_equal(vae, AutoencoderKL.from_single_file(vae_file, subfolder="vae", **options))


@pytest.mark.parametrize("family", ["sd1", "sd2"])
def test_every_one_of_the_686_weights_of_the_real_unets_has_a_place_of_its_own(family: str) -> None:
    with torch.device("meta"):
        unet = UNet2DConditionModel(**UNETS[family])
    state = unet.state_dict()
    mapped = unet_to_ldm(state, config=unet.config)
    assert len(mapped) == len(state) == 686
    back = convert_ldm_unet_checkpoint(dict(mapped), unet.config)
    assert back.keys() == state.keys()
    assert all(back[key] is state[key] for key in state)
    assert "model.diffusion_model.output_blocks.11.0.skip_connection.weight" in mapped  # told by as SD1's
    key = "model.diffusion_model.input_blocks.2.1.transformer_blocks.0.attn2.to_k.weight"  # told by as SD2's
    assert mapped[key].shape[-1] == UNETS[family]["cross_attention_dim"]


def test_the_real_vae_has_248_places() -> None:
    with torch.device("meta"):
        vae = AutoencoderKL(**VAE)
    mapped = vae_to_ldm(vae.state_dict(), config=vae.config)
    assert len(mapped) == len(vae.state_dict()) == 248
    assert mapped["first_stage_model.decoder.mid.attn_1.q.weight"].shape == (512, 512, 1, 1)
    assert mapped["first_stage_model.encoder.down.1.block.0.nin_shortcut.weight"].shape == (256, 128, 1, 1)


def test_heads_of_an_sd2_text_encoder_are_merged_as_openclip_has_them() -> None:
    state = text_encoder(act="gelu").state_dict()
    mapped = text_encoder_to_ldm(state, layout="openclip", prefix="cond_stage_model.model.")
    merged = mapped["cond_stage_model.model.transformer.resblocks.1.attn.in_proj_weight"]
    names = [f"encoder.layers.1.self_attn.{part}_proj.weight" for part in "qkv"]
    assert torch.equal(merged, torch.cat([state[name] for name in names]))


def test_the_keys_of_older_transformers_give_the_same_file() -> None:
    state = text_encoder(act="quick_gelu").state_dict()
    older = {f"text_model.{key}": tensor for key, tensor in state.items()}
    older["text_model.embeddings.position_ids"] = torch.arange(77)[None]
    assert (
        text_encoder_to_ldm(older, layout="clip", prefix="cond_stage_model.transformer.").keys()
        == text_encoder_to_ldm(state, layout="clip", prefix="cond_stage_model.transformer.").keys()
    )


def test_a_weight_without_a_place_is_named() -> None:
    vae, text = whole_vae(), text_encoder(act="gelu", layers=24)
    state = {**vae.state_dict(), "decoder.extra.weight": torch.zeros(1)}
    with pytest.raises(
        ModelError, match=r"no place for decoder\.extra\.weight of the VAE; .* --as diffusers"
    ):
        vae_to_ldm(state, config=vae.config)
    with pytest.raises(ModelError, match=r"layers\.23\..* and 15 more of the text encoder"):
        text_encoder_to_ldm(text.state_dict(), layout="openclip", prefix="cond_stage_model.model.")


def test_a_vae_without_the_convolution_that_ldm_needs_is_refused() -> None:
    vae = whole_vae()
    state = {key: tensor for key, tensor in vae.state_dict().items() if not key.startswith("quant_conv")}
    with pytest.raises(ModelError, match="no quant_conv"):
        vae_to_ldm(state, config=vae.config)


def test_a_unet_of_unequal_blocks_is_refused() -> None:
    with pytest.raises(ModelError, match=r"\[1, 2\] layers"):
        unet_to_ldm({"down_blocks.0.x": torch.zeros(1)}, config={"layers_per_block": [1, 2]})


@pytest.mark.parametrize("family", ["sd1", "sd2"])
def test_the_yaml_beside_a_checkpoint_says_what_the_configs_said(family: Any, tmp_path: Path) -> None:
    unet, text = UNETS[family], family_named(family).ldm.text_config
    assert text is not None
    config = ldm_config(
        unet=unet,
        vae=VAE,
        scheduler={"beta_start": 0.00085, "beta_end": 0.012, "num_train_timesteps": 1000},
        text_encoder=text,
        prediction_type="v_prediction",
        scaling_factor=0.13,
    )
    (tmp_path / "model.yaml").write_text(yaml_text(config))
    read = fetch_original_config(str(tmp_path / "model.yaml"))
    assert read == config
    assert read["model"]["params"]["parameterization"] == "v"
    back = create_unet_diffusers_config_from_ldm(read, {})
    assert {key: back[key] for key in unet if key != "sample_size"} == {
        key: unet[key] for key in unet if key != "sample_size"
    }
    vae = create_vae_diffusers_config_from_ldm(read, {})
    assert {key: vae[key] for key in VAE} == VAE
    assert vae["scaling_factor"] == 0.13
