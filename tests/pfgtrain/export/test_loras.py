"""A LoRA's files: what diffusers makes of them equals the LoRA as trained, alpha other than r included."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors import safe_open

from pfgtrain.base import Base
from pfgtrain.export import ExportOptions, export
from tests.pfgtrain.export.small_model import build_whole_base
from tests.pfgtrain.export.small_run import live_lora, make_run


@pytest.fixture(scope="module", params=[False, True], ids=["sd1", "sd2"])
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Base:
    folder = tmp_path_factory.mktemp("base") / "whole"
    return Base.load(str(build_whole_base(folder, linear=request.param)))


@torch.no_grad()
def output(unet: Any) -> torch.Tensor:
    generator = torch.Generator().manual_seed(5)
    latents = torch.randn(2, 4, 8, 8, generator=generator)
    context = torch.randn(2, 9, 16, generator=generator)
    return unet(latents, torch.tensor([3, 700]), encoder_hidden_states=context).sample


@pytest.mark.parametrize(("r", "lora_alpha"), [(4, 2.0), (4, 4.0)])
@pytest.mark.parametrize("file", ["a-lora.safetensors", "a-lora-diffusers.safetensors"])
def test_diffusers_makes_of_the_file_what_the_run_had(
    base: Base, tmp_path: Path, r: int, lora_alpha: float, file: str
) -> None:
    run = make_run(tmp_path / "a", base, train="lora", r=r, lora_alpha=lora_alpha)
    export(run, tmp_path / "out", options=ExportOptions(formats=("lora",)))
    pipeline = StableDiffusionPipeline.from_pretrained(base.folder)
    plain = output(pipeline.unet)
    pipeline.load_lora_weights(tmp_path / "out", weight_name=file, local_files_only=True)
    live = output(live_lora(base, r=r, lora_alpha=lora_alpha))
    torch.testing.assert_close(output(pipeline.unet), live, rtol=1e-5, atol=1e-6)
    assert (live - plain).abs().max() > 0.01  # the LoRA is no small thing that any scale would pass


def test_a_lora_merged_into_a_checkpoint_is_the_same_model_again(base: Base, tmp_path: Path) -> None:
    run = make_run(tmp_path / "a", base, train="lora", r=4, lora_alpha=2.0)
    options = ExportOptions(formats=("checkpoint",), dtype="float32")
    export(run, tmp_path / "out", options=options, base=base)
    merged = StableDiffusionPipeline.from_single_file(
        str(tmp_path / "out" / "a.safetensors"), config=str(base.folder), local_files_only=True
    ).unet
    live = output(live_lora(base, r=4, lora_alpha=2.0))
    torch.testing.assert_close(output(merged), live, rtol=1e-4, atol=1e-5)


def test_kohyas_file_tells_a1111_what_it_asks(base: Base, tmp_path: Path) -> None:
    run = make_run(tmp_path / "a", base, train="lora", r=4, lora_alpha=2.0)
    export(run, tmp_path / "out", options=ExportOptions(formats=("lora",)))
    with safe_open(tmp_path / "out" / "a-lora.safetensors", framework="pt") as file:
        layer = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"
        assert file.get_tensor(f"{layer}.alpha").item() == 2.0
        assert file.get_tensor(f"{layer}.lora_down.weight").shape == (4, 16)
        header = file.metadata()
    assert (header["ss_network_dim"], header["ss_network_alpha"]) == ("4", "2.0")
    assert header["ss_v2"] == str(base.family.facts.name == "sd2")
