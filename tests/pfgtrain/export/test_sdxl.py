"""SDXL's exports: what ComfyUI, kohya's scripts and diffusers read of a run, and what a round trip keeps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionXLPipeline, UNet2DConditionModel
from safetensors import safe_open
from transformers import CLIPTextConfig, CLIPTextModelWithProjection

from pfgdata.errors import ConfigError
from pfgdata.records import TaggerIdentity
from pfgdata.taggers import DEFAULT_TAGGER
from pfgtrain.base import Base, family_named
from pfgtrain.export import ExportOptions, export
from pfgtrain.export.ldm import text_encoder_to_ldm, unet_to_ldm
from pfgtrain.export.loras import kohya_lora
from pfgtrain.lora import LoraFile
from tests.pfgtrain.export.small_run import TOKENS, live_lora, make_run
from tests.pfgtrain.tiny_sdxl import POOLED, WIDTHS, build_tiny_sdxl

KINDS = {"epsilon": ("epsilon", False), "v": ("v_prediction", False), "v, zero SNR": ("v_prediction", True)}
UNET: dict[str, Any] = {  # unet/config.json of stabilityai/stable-diffusion-xl-base-1.0, what shapes it
    "sample_size": 128,
    "block_out_channels": [320, 640, 1280],
    "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
    "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
    "transformer_layers_per_block": [1, 2, 10],
    "attention_head_dim": [5, 10, 20],
    "cross_attention_dim": 2048,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
    "use_linear_projection": True,
}
PARTS = ("unet", "vae", "text_encoder", "text_encoder_2")


@pytest.fixture(scope="module", params=KINDS)
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Base:
    kind, zero_snr = KINDS[request.param]
    folder = tmp_path_factory.mktemp("xl") / "base"
    return Base.load(str(build_tiny_sdxl(folder, prediction_type=kind, zero_snr=zero_snr)))


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Base:
    return Base.load(str(build_tiny_sdxl(tmp_path_factory.mktemp("xl") / "base")))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PFG_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("form", ["checkpoint", "diffusers"])
def test_a_round_trip_keeps_every_weight_and_how_the_unet_was_trained(
    form: str, base: Base, tmp_path: Path
) -> None:
    run = make_run(tmp_path / "a", base)
    export(run, tmp_path / "out", options=ExportOptions(formats=(form,), dtype="float32"), base=base)
    name = {"checkpoint": "a.safetensors", "diffusers": "a-diffusers"}[form]
    config = base.folder if form == "checkpoint" else None
    back = Base.load(str(tmp_path / "out" / name), config=config)
    assert back.family is base.family
    assert back.prediction_type == base.prediction_type
    assert back.scheduler_config["rescale_betas_zero_snr"] is base.scheduler_config["rescale_betas_zero_snr"]
    assert back.scale == base.scale
    weights = run / "checkpoints" / "step-00000050" / "ema"
    assert_equal(base.load_unet(weights=weights), back.load_unet())
    assert_equal(base.load_vae(), back.load_vae())
    for part in ("text_encoder", "text_encoder_2"):
        assert_equal(base.load_text_encoder(part), back.load_text_encoder(part))


def test_the_markers_stand_in_the_files_that_comfyui_reads(base: Base, tmp_path: Path) -> None:
    run = make_run(tmp_path / "a", base)
    formats = ("checkpoint", "unet")
    report = export(run, tmp_path / "out", options=ExportOptions(formats=formats), base=base)
    is_v, ends_in_noise = (
        base.prediction_type == "v_prediction",
        base.scheduler_config["rescale_betas_zero_snr"],
    )
    assert sorted(path.name for path in report.files) == ["a-unet.safetensors", "a.safetensors"]  # no .yaml
    for path in report.files:
        with safe_open(path, framework="pt") as file:
            found = set(file.keys()) & {"v_pred", "ztsnr"}
            assert file.metadata()["modelspec.architecture"] == "stable-diffusion-xl-v1-base"
        assert found == {*["v_pred"] * is_v, *["ztsnr"] * ends_in_noise}
    said = [note for note in report.notes if "v_pred" in note]
    assert len(said) == is_v


def test_diffusers_reads_the_file_and_the_folder_as_its_own_pipeline(plain: Base, tmp_path: Path) -> None:
    run = make_run(tmp_path / "a", plain)
    formats = ("checkpoint", "diffusers")
    options = ExportOptions(formats=formats, dtype="float32")
    export(run, tmp_path / "out", options=options, base=plain)
    folder = tmp_path / "out" / "a-diffusers"
    one = StableDiffusionXLPipeline.from_pretrained(folder)
    other = StableDiffusionXLPipeline.from_single_file(
        str(tmp_path / "out" / "a.safetensors"), config=str(folder), local_files_only=True
    )
    for part in PARTS:
        assert_equal(getattr(one, part), getattr(other, part))
    index = json.loads((folder / "model_index.json").read_text())
    assert index["text_encoder_2"] == ["transformers", "CLIPTextModelWithProjection"]
    assert index["force_zeros_for_empty_prompt"] is False  # the run was trained on the encoding of ""
    zeros = make_run(tmp_path / "b", plain, empty_prompt="zeros")
    export(zeros, tmp_path / "out", options=ExportOptions(formats=("diffusers",)), base=plain)
    assert json.loads((tmp_path / "out/b-diffusers/model_index.json").read_text())[
        "force_zeros_for_empty_prompt"
    ]


def test_a_vae_of_another_scaling_is_refused_for_a_single_file(plain: Base, tmp_path: Path) -> None:
    run = make_run(tmp_path / "a", plain, scaling_factor=0.2)
    with pytest.raises(ConfigError, match=r"readers of a single SDXL file take 0\.13025 .* --as diffusers"):
        export(run, tmp_path / "out", options=ExportOptions(formats=("checkpoint",)))


def test_the_adapter_is_as_wide_as_both_contexts_and_its_document_says_who_reads_it(
    plain: Base, tmp_path: Path
) -> None:
    tagger = TaggerIdentity(
        name=DEFAULT_TAGGER,
        revision=None,
        weights_sha256="ab" * 32,
        feature_node="x",
        preprocess="webui",
        decode="1",
    )
    run = make_run(tmp_path / "a", plain, tagger=tagger)
    export(run, tmp_path / "out", options=ExportOptions(formats=("adapter",)))
    state = torch.load(tmp_path / "out/a-n3-to-copy/a-n3.pt", weights_only=True)
    assert state["pfg_linear.weight"].shape[0] == TOKENS * sum(WIDTHS)
    use = json.loads((tmp_path / "out/a-n3.json").read_text())["use"]
    assert use[0] == "A1111: loads the checkpoint only; pfg-webui cannot use an adapter for SDXL"
    assert use[1].startswith("ComfyUI: copy a-n3-to-copy/a-n3.pt into the models folder of pfg-ComfyUI")


@torch.no_grad()
def output(unet: Any) -> torch.Tensor:
    generator = torch.Generator().manual_seed(5)
    latents = torch.randn(2, 4, 8, 8, generator=generator)
    context = torch.randn(2, 9, sum(WIDTHS), generator=generator)
    told = {
        "text_embeds": torch.randn(2, POOLED, generator=generator),
        "time_ids": torch.full((2, 6), 64.0),
    }
    return unet(latents, torch.tensor([3, 700]), encoder_hidden_states=context, added_cond_kwargs=told).sample


@pytest.mark.parametrize("file", ["a-lora.safetensors", "a-lora-diffusers.safetensors"])
def test_diffusers_makes_of_a_lora_what_the_run_had(plain: Base, tmp_path: Path, file: str) -> None:
    run = make_run(tmp_path / "a", plain, train="lora", r=4, lora_alpha=2.0)
    options = ExportOptions(formats=("lora", "diffusers"), dtype="float32")
    export(make_run(tmp_path / "b", plain), tmp_path / "out", options=ExportOptions(formats=("diffusers",)))
    export(run, tmp_path / "out", options=options)
    pipeline = StableDiffusionXLPipeline.from_pretrained(tmp_path / "out" / "b-diffusers")
    pipeline.unet = plain.load_unet()
    pipeline.load_lora_weights(tmp_path / "out", weight_name=file, local_files_only=True)
    live = output(live_lora(plain, r=4, lora_alpha=2.0))
    torch.testing.assert_close(output(pipeline.unet), live, rtol=1e-5, atol=1e-6)


def test_every_one_of_the_1680_weights_of_the_real_unet_has_the_place_that_comfyui_knows() -> None:
    unet = real_unet()
    mapped = unet_to_ldm(unet.state_dict(), config=unet.config)
    assert len(mapped) == len(unet.state_dict()) == 1680
    shapes = {key.removeprefix("model.diffusion_model."): tuple(t.shape) for key, t in mapped.items()}
    assert shapes["label_emb.0.0.weight"] == (1280, 2816)
    assert shapes["input_blocks.4.1.transformer_blocks.1.attn2.to_k.weight"] == (640, 2048)
    assert shapes["input_blocks.7.1.transformer_blocks.9.attn2.to_k.weight"] == (1280, 2048)
    assert shapes["middle_block.1.transformer_blocks.9.ff.net.0.proj.weight"] == (10240, 1280)
    assert shapes["output_blocks.2.2.conv.weight"] == (1280, 1280, 3, 3)
    assert shapes["output_blocks.5.2.conv.weight"] == (640, 640, 3, 3)
    assert shapes["output_blocks.8.0.skip_connection.weight"] == (320, 640, 1, 1)


def test_the_real_second_text_encoder_is_openclips_bigg() -> None:
    config = CLIPTextConfig(
        hidden_size=1280,
        intermediate_size=5120,
        num_hidden_layers=32,
        num_attention_heads=20,
        hidden_act="gelu",
        projection_dim=1280,
    )
    with torch.device("meta"):
        state = CLIPTextModelWithProjection(config).state_dict()
    prefix = "conditioner.embedders.1.model."
    mapped = text_encoder_to_ldm(state, layout="openclip", prefix=prefix)
    names = {key.removeprefix(prefix): tuple(tensor.shape) for key, tensor in mapped.items()}
    assert names["transformer.resblocks.31.attn.in_proj_weight"] == (3840, 1280)
    assert names["transformer.resblocks.0.mlp.c_proj.bias"] == (1280,)
    assert names["text_projection"] == (1280, 1280)
    assert names["positional_embedding"] == (77, 1280)
    assert names["ln_final.weight"] == (1280,)
    assert len(names) == 32 * 12 + 5


def test_kohyas_lora_of_a_real_sdxl_has_the_names_of_its_scripts() -> None:
    unet = real_unet()
    ends = (".to_q", ".to_k", ".to_v", ".to_out.0")
    layers = [name for name, _ in unet.named_modules() if name.endswith(ends)]
    state = {f"{name}.lora_{end}.weight": torch.zeros(1) for name in layers for end in "AB"}
    ldm = family_named("sdxl").ldm
    found, header = kohya_lora(
        LoraFile(state=state, r=1, lora_alpha=1.0),
        name="x",
        ldm=ldm,
        architecture="stable-diffusion-xl-v1-base",
        unet_config=unet.config,
    )
    names = {key.partition(".")[0] for key in found}
    assert len(names) == 560  # 70 transformer blocks of two attentions
    assert "lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_q" in names
    assert "lora_unet_input_blocks_8_1_transformer_blocks_9_attn2_to_out_0" in names
    assert "lora_unet_middle_block_1_transformer_blocks_0_attn1_to_k" in names
    assert "lora_unet_output_blocks_5_1_transformer_blocks_1_attn2_to_v" in names
    assert header["ss_base_model_version"] == "sdxl_base_v1-0"


def real_unet() -> Any:
    with torch.device("meta"):
        return UNet2DConditionModel(**UNET)


def assert_equal(one: Any, other: Any) -> None:
    ours, theirs = one.state_dict(), other.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
