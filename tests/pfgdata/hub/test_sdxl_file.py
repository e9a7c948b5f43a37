"""An SDXL file as merges and trainers leave them: more in it than needed, in half precision, or a pickle."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from pfgdata.errors import ModelError, ModelNotFoundError
from pfgdata.hub import SDXL, resolve
from tests.pfgdata.hub.conftest import saved
from tests.pfgdata.hub.ldm import Tensors, ldm_tensors
from tests.pfgtrain.export.small_model import build_whole_sdxl

MORE = {  # what programs leave in such files beside the weights
    "conditioner.embedders.0.transformer.text_model.embeddings.position_ids": torch.arange(77)[None],
    "conditioner.embedders.0.transformer.text_projection.weight": torch.eye(16),
    "conditioner.embedders.1.model.logit_scale": torch.tensor(4.6),
    "denoiser.sigmas": torch.linspace(0, 1, 1000),
    "model_ema.decay": torch.tensor(0.99),
    "model_ema.diffusion_modelout2bias": torch.zeros(4),
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_whole_sdxl(tmp_path_factory.mktemp("sdxl") / "base")


@pytest.fixture
def tensors(whole: Path) -> Tensors:
    return {name: value.half() for name, value in ldm_tensors(whole).items()} | MORE


def assert_unpacked(whole: Path, found: Path) -> None:
    """Every model as it was, in the half precision of the file."""
    assert {path.parent.name for path in whole.glob("*/*.safetensors")} == set(SDXL.models)
    for path in whole.glob("*/*.safetensors"):
        before, after = load_file(path), load_file(found / path.relative_to(whole))
        assert before.keys() == after.keys()
        assert all(torch.equal(after[name].half(), before[name].half()) for name in before)


def test_blocks_as_the_real_one_has_them_come_out_whatever_else_is_in_the_file(
    whole: Path, tensors: Tensors, tmp_path: Path
) -> None:
    file = saved(
        tensors, tmp_path / "m.safetensors", {"modelspec.architecture": "stable-diffusion-xl-v1-base"}
    )
    assert_unpacked(whole, resolve(file, what="base", config=whole).folder)


def test_a_pickle_is_read_as_the_same_base(whole: Path, tensors: Tensors, tmp_path: Path) -> None:
    torch.save({"state_dict": tensors, "global_step": 7}, tmp_path / "m.ckpt")
    assert_unpacked(whole, resolve(str(tmp_path / "m.ckpt"), what="base", config=whole).folder)


def test_configs_of_another_family_are_refused_by_what_they_lack(
    whole: Path, tiny: Path, tensors: Tensors, tmp_path: Path
) -> None:
    file = saved(tensors, tmp_path / "m.safetensors")
    lacking = (
        r"lacks text_encoder_2/config\.json, tokenizer_2/tokenizer_config\.json.*; pass --base-config DIR"
    )
    with pytest.raises(ModelNotFoundError, match=lacking):
        resolve(file, what="base", config=tiny)


@pytest.mark.parametrize(
    ("gone", "said"),
    [
        ("model.diffusion_model.label_emb.0.2.bias", "its unet does not fit unet/config.json"),
        ("conditioner.embedders.1.model.text_projection", "its text_encoder_2 does not fit text_encoder_2/"),
        ("first_stage_model.", "it has no VAE"),
    ],
)
def test_a_file_that_lacks_a_weight_is_refused_by_the_part(
    gone: str, said: str, whole: Path, tensors: Tensors, tmp_path: Path
) -> None:
    left = {name: value for name, value in tensors.items() if not name.startswith(gone)}
    with pytest.raises(ModelError, match=said) as caught:
        resolve(saved(left, tmp_path / "m.safetensors"), what="base", config=whole)
    assert "\n" not in str(caught.value)
