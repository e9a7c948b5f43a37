"""What the UNet's stages find in the store beside features: captions of coarse tags, and the adapter's start.

The start is a PCA whitening of the features: as trained from nothing, an adapter hears mostly of the few
directions in which features vary most (style, ground), and of glasses late.
Shapes: N images, F = 768 features, C components, K tokens, D context width.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from pfgdata.query import Thresholds, select
from pfgdata.store import Store
from pfgtrain.adapter import PFGLinear, save_adapter
from pipelines.demo_models.data import Row
from pipelines.demo_models.text import sentence

CAPTIONS = "coarse"  # the column's name in the store
ADAPTER_START = "whitening.safetensors"  # below --out
COMPONENTS = 64  # hold 0.81 of the variance of the portraits' features


def write_captions(store: Store, rows: Sequence[Row], folder: Path) -> int:
    """Give each image below `folder` its coarse tags as a text such as the encoder learnt; how many."""
    paths = [row.file.relative_to(folder).as_posix() for row in rows]
    texts = [sentence(row.coarse, prefix=False) for row in rows]
    store.write_column(CAPTIONS, pa.table({"path": paths, "value": texts}), replace=True)
    return len(rows)


def write_whitening(
    store: Store, path: Path, *, where: str, num_tokens: int, context_width: int, seed: int
) -> float:
    """Write an adapter whose tokens are random mixtures of whitened features; the variance that they hold.

    Each channel of a token has mean 0 and deviation 1 over the images that `where` selects, as the states of
    CLIP's last norm have.
    """
    snapshot = store.snapshot()
    features_NF = snapshot.features(select(snapshot, where, Thresholds())).astype(np.float64)
    whiten_CF, mean_F, held = whitening(features_NF, components=COMPONENTS)
    rng = np.random.default_rng(seed)
    mix = rng.standard_normal((num_tokens * context_width, COMPONENTS)) / COMPONENTS**0.5
    weight = mix @ whiten_CF
    adapter = PFGLinear(features_NF.shape[1], num_tokens, context_width)
    with torch.no_grad():
        adapter.pfg_linear.weight.copy_(torch.from_numpy(weight))
        adapter.pfg_linear.bias.copy_(torch.from_numpy(-weight @ mean_F))
    save_adapter(adapter, path)
    return held


def whitening(
    features_NF: npt.NDArray[np.float64], *, components: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], float]:
    """The map [C, F] to the first principal components at unit variance, the mean [F], the variance held."""
    mean_F = features_NF.mean(0)
    values_F, vectors_FF = np.linalg.eigh(np.cov(features_NF - mean_F, rowvar=False))
    values_C, vectors_FC = values_F[::-1][:components], vectors_FF[:, ::-1][:, :components]
    return vectors_FC.T / np.sqrt(values_C)[:, None], mean_F, float(values_C.sum() / values_F.sum())
