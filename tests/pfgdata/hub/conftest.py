"""Tiny bases, one of them as a single file's tensors, and a cache of the test's own."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tests.pfgdata.hub.ldm import Tensors, ldm_tensors
from tests.pfgtrain.tiny_base import build_tiny_base, tiny_vae
from tests.pfgtrain.tiny_sdxl import build_tiny_sdxl


def saved(tensors: Tensors, path: Path, metadata: dict[str, str] | None = None) -> str:
    save_file(tensors, path, metadata)
    return str(path)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny SD1, its VAE with the attention that Stable Diffusion's has."""
    folder = build_tiny_base(tmp_path_factory.mktemp("sd1") / "base")
    torch.manual_seed(1)
    tiny_vae(mid_block_add_attention=True).save_pretrained(folder / "vae")
    return folder


@pytest.fixture(scope="session")
def tiny2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny SD2: linear projections, v-prediction."""
    return build_tiny_base(
        tmp_path_factory.mktemp("sd2") / "base", prediction_type="v_prediction", linear=True
    )


@pytest.fixture(scope="session")
def tiny_xl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny SDXL."""
    return build_tiny_sdxl(tmp_path_factory.mktemp("sdxl") / "base")


@pytest.fixture
def tensors(tiny: Path) -> Tensors:
    """The tiny SD1 by LDM names."""
    return ldm_tensors(tiny)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PFG_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "bases"
