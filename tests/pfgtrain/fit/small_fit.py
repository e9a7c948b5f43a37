"""What the tests of fits share: a small config, a store to train on, what to look at afterwards."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file

from pfgdata.records import NoProgress
from pfgdata.store import Store
from pfgdata.vaes import Vae
from pfgtrain.base import Base
from pfgtrain.checkpoint import checkpoints, read_metrics
from pfgtrain.config import FitConfig
from pfgtrain.fit import FitData, fit
from tests.doubles import CheapTagger
from tests.pfgtrain.small_store import FEATURE_DIM, build_latents, build_store

NUMBERS = list(range(30))

SMALL = FitConfig(
    max_train_steps=6,
    train_batch_size=8,
    num_tokens=2,
    learning_rate=1e-3,
    adapter_learning_rate=1e-2,
    condition_dropout=0.3,
    snr_gamma=5.0,
    logging_steps=2,
    validation_split=0.0,
)


def fitted(data: FitData, base: Base, config: FitConfig, folder: Path) -> Path:
    """The new run `folder/run` of `config`, to its end."""
    fit(data, base, config, run_dir=folder / "run")
    return folder / "run"


def make_data(
    path: Path,
    base: Base,
    *,
    shard_rows: int = 8,
    tagger: CheapTagger | None = None,
    feature_dim: int = FEATURE_DIM,
    spoilt: int | None = None,
) -> FitData:
    store = build_store(path, NUMBERS, shard_rows=shard_rows, tagger=tagger, feature_dim=feature_dim)
    scaling_factor = base.scale.scaling
    assert isinstance(scaling_factor, float)
    build_latents(
        store,
        NUMBERS,
        vae_digest=Vae.load(str(base.folder)).digest,
        shard_rows=shard_rows,
        base_name=base.name,
        scaling_factor=scaling_factor,
        spoilt=spoilt,
    )
    return data_of(store)


def data_of(store: Store) -> FitData:
    snapshot = store.snapshot()
    (latent_set,) = store.latent_sets()
    return FitData(
        store=store,
        snapshot=snapshot,
        latent_set=latent_set,
        selection=snapshot.everything,
    )


@dataclass
class StopAfter:
    """Asks a fit to stop after so many steps."""

    steps: int

    def __call__(self) -> bool:
        self.steps -= 1
        return self.steps <= 0


def weights_of(run: Path) -> dict[str, torch.Tensor]:
    """All weights of the newest checkpoint, by their path in it."""
    newest = checkpoints(run)[-1]
    return {
        f"{file.relative_to(newest)} {name}": value
        for file in sorted(newest.rglob("*.safetensors"))
        for name, value in load_file(file).items()
    }


def losses_of(run: Path) -> list[tuple[int, float]]:
    return [(line["step"], line["loss"]) for line in read_metrics(run)]


def assert_same_run(one: Path, other: Path) -> None:
    assert losses_of(one) == losses_of(other)
    ours, theirs = weights_of(one), weights_of(other)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def assert_all_finite(run: Path) -> None:
    for folder in checkpoints(run):
        for file in folder.rglob("*.safetensors"):
            assert all(tensor.isfinite().all() for tensor in load_file(file).values()), file
        states = torch.load(folder / "optimizer.pt", weights_only=True)["optimizer"]["state"]
        assert all(value.isfinite().all() for state in states.values() for value in state.values())


class Said(NoProgress):
    """Keeps what was said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)
