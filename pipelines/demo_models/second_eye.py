"""Does a second feature help? The demo's fit on the tagger, on another extractor, and on both.

    python -m pipelines.demo_models.second_eye --demo demo-out --out second-eye-out

Needs the store and latents of `make demo`. Trains an extractor on the demo's 240 images without a word of
their tags: two views of a picture are to be nearer to each other than to all others (SimCLR, arXiv
2002.05709). Its control is the same net as its seed left it. Each is written as ONNX and computed for the
store by pfgdata; then fits of the demo's size that differ in `features`, each measured on the 50 committed
guides. Prints a line of JSON a variant; what is done is not done again, and a fit that was stopped goes on.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import torch
from torch import Tensor
from torch.nn import functional as F

from pfgdata.corpus import read_image
from pfgdata.extractors import load_extractor
from pfgdata.features import FeaturePass
from pfgdata.hub import DEMO
from pfgdata.images import square
from pfgdata.records import StoredImage
from pfgdata.store import IMAGE_COLUMNS, Store, stored_image
from pfgtrain.evaluate import EvaluateOptions
from pipelines.demo_models.augment import augment, generator
from pipelines.demo_models.data import POOL
from pipelines.demo_models.nets import TaggerNet, normalise
from pipelines.demo_models.onnx_graph import classifier_onnx
from pipelines.ending import ended
from pipelines.experiments import variant
from pipelines.recipe import find_recipe, read_recipe

SIDE = 64  # pixels that the net looks at; the demo's pictures are 256, and its graph pools them by 4
SQUARE = "kohya"  # as the demo tagger's
STEPS, BATCH, RATE, TEMPERATURE = 120, 64, 2e-3, 0.2
VARIANTS = {
    "tagger alone": "tagger:5",
    "second alone": "second:5",
    "both": "tagger:5,second:5",
    "tagger alone, as many tokens": "tagger:10",
    "both, one adapter": "tagger+second:5",
    "untrained alone": "untrained:5",
    "tagger and untrained": "tagger:5,untrained:5",
}


def main() -> int:
    """Run what is not done yet, and print a line each; 0 done, 1 a user can fix it, 130 interrupted."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--demo", type=Path, default=Path("demo-out"), help="what `make demo` made")
    made.add_argument("--out", type=Path, default=Path("second-eye-out"))
    made.add_argument("--steps", type=int, help="optimizer steps of each fit; default: the demo's")
    made.add_argument("--only", nargs="*", default=list(VARIANTS), choices=list(VARIANTS))
    options = made.parse_args()
    return ended(lambda: _run(options))


def _run(options: argparse.Namespace) -> None:
    """Make the extractors and their sets, then the fits and their figures."""
    recipe = read_recipe(find_recipe("demo"))
    assert recipe.fit and recipe.evaluate and recipe.evaluate.guides and recipe.ingest
    store = Store.open(options.demo / "feats")
    options.out.mkdir(parents=True, exist_ok=True)
    for label, steps in (("second", STEPS), ("untrained", 0)):
        graph = options.out / f"{label}.onnx"
        if not graph.exists():
            net = trained(stored(store), roots=store.roots(), steps=steps)
            graph.write_bytes(classifier_onnx(net, input_size=SIDE * POOL, name=label))
        give_set(store, label, graph)
    guides = recipe.folder / recipe.evaluate.guides
    looked = EvaluateOptions(images_per_guide=2, guidance_scale=3.0, num_inference_steps=12)
    for name in options.only:
        run = options.out / name.replace(",", "").replace(" ", "-")
        config = replace(recipe.fit, base=DEMO, checkpoint_at_start=False, features=VARIANTS[name])
        if options.steps:
            config = replace(config, max_train_steps=options.steps)
        for line in variant(store, config, run=run, guides=guides, options=looked, sampling=False):
            print(json.dumps({"variant": name, "features": VARIANTS[name], **line}), flush=True)


def give_set(store: Store, label: str, graph: Path) -> None:
    """Make the feature set `label` of all images of the store, as the graph sees them."""
    extractor = load_extractor(str(graph), node="feature", convention=SQUARE, device="cpu")
    snapshot = store.snapshot()
    FeaturePass(store=store, extractor=extractor, label=label).run(snapshot, snapshot.everything)


def stored(store: Store) -> list[StoredImage]:
    """The store's images, each content once."""
    snapshot = store.snapshot()
    table = snapshot.images(list(IMAGE_COLUMNS)).take(
        pa.array(snapshot.positions(snapshot.everything.distinct()))
    )
    return [stored_image(row) for row in table.to_pylist()]


def trained(images: list[StoredImage], *, roots: Mapping[str, str], steps: int) -> TaggerNet:
    """A small net that tells the pictures apart after `steps` steps; in eval mode."""
    torch.manual_seed(0)
    net = TaggerNet(128, widths=(24, 48, 96), blocks=(0, 1, 1))  # its head is the projection of SimCLR
    pictures = torch.stack([_small(image, roots) for image in images])
    optimizer = torch.optim.AdamW(net.parameters(), lr=RATE, weight_decay=1e-2)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = RATE * (1 + math.cos(math.pi * step / steps)) / 2
        dice = generator(0, step, pictures.device)
        batch = pictures[torch.randperm(len(pictures), generator=dice)[:BATCH]]
        views = [augment(batch, size=SIDE, dice=dice) for _ in range(2)]
        loss = contrast(net(torch.cat(views))[0])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 20 == 0 or step == steps - 1:
            print(json.dumps({"step": step, "loss": round(loss.item(), 4)}), flush=True)
    return net.eval()


def contrast(projected_2BD: Tensor) -> Tensor:
    """NT-Xent of two views, one after the other: which of all others is the other view of each?"""
    unit = F.normalize(projected_2BD, dim=1)
    likeness = unit @ unit.T / TEMPERATURE
    likeness.fill_diagonal_(-math.inf)
    count = len(unit)
    return F.cross_entropy(likeness, (torch.arange(count) + count // 2) % count)


def _small(image: StoredImage, roots: Mapping[str, str]) -> Tensor:
    """A picture as the graph pools it, [3, SIDE, SIDE] in -1..1."""
    tile = square(read_image(image, roots=roots).pixels, preprocess=SQUARE, size=SIDE * POOL)
    return F.avg_pool2d(normalise(torch.from_numpy(tile.copy())[None]), POOL)[0]


if __name__ == "__main__":
    sys.exit(main())
