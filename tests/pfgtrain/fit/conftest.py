"""A tiny base and a small store with its latents, made once for all files of tests: read only."""

from __future__ import annotations

import pytest

from pfgtrain.base import Base
from pfgtrain.fit import FitData
from tests.pfgtrain.fit.small_fit import (
    make_data,
)
from tests.pfgtrain.tiny_base import build_tiny_base
from tests.pfgtrain.tiny_sdxl import build_tiny_sdxl


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    folder = tmp_path_factory.mktemp("base") / "tiny"
    return Base.load(str(build_tiny_base(folder, prediction_type="v_prediction")))


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory, base: Base) -> FitData:
    return make_data(tmp_path_factory.mktemp("store") / "feats", base)


@pytest.fixture(scope="session")
def sdxl(tmp_path_factory: pytest.TempPathFactory) -> Base:
    return Base.load(str(build_tiny_sdxl(tmp_path_factory.mktemp("sdxl") / "tiny")))


@pytest.fixture(scope="session")
def sdxl_data(tmp_path_factory: pytest.TempPathFactory, sdxl: Base) -> FitData:
    return make_data(tmp_path_factory.mktemp("sdxl_store") / "feats", sdxl)
