"""Does `pfgdata features` keep the speed of its extractor? Against a bare loop of it on ready squares.

    python benchmarks/features.py [--images 64] [--batch-size 8] [--rounds 3] [--device auto]

The extractor is a graph of ViT-B/16's shape at 448 px (360 MB; one image a second on two cores). Both sides
run in turns in one process, on JPEGs of a megapixel. Wanted: 0.97 of the bare loop.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.ingest import SIDE, FreeTagger, compare, ratio, run_ingest, table
from benchmarks.pictures import write_jpegs
from benchmarks.vit_tagger import write_vit_tagger
from pfgdata.conventions import WD
from pfgdata.extractors import load_extractor
from pfgdata.features import FeatureOptions, FeaturePass
from pfgdata.store import Store

BARE, OURS = "bare extractor", "pfgdata features"


def measure(folder: Path, chosen: argparse.Namespace) -> None:
    """Print the table."""
    count, batch = chosen.images // chosen.batch_size * chosen.batch_size, chosen.batch_size
    write_jpegs(folder / "images", count)
    run_ingest(folder / "images", FreeTagger(folder), folder / "feats")
    write_vit_tagger(folder / "vit")
    extractor = load_extractor(
        str(folder / "vit" / "model.onnx"), node="feature", convention=WD.of_feature(), device=chosen.device
    )
    ready = np.random.default_rng(0).integers(0, 256, (batch, SIDE, SIDE, 3), np.uint8)

    def bare(_: Path) -> None:
        for _batch in range(count // batch):
            extractor.features(ready)

    def ours(place: Path) -> None:
        shutil.copytree(folder / "feats", place)  # a set is made once: each time in a store of its own
        store = Store.open(place)
        snapshot = store.snapshot()
        work = FeaturePass(
            store=store, extractor=extractor, label="vit", options=FeatureOptions(batch_size=batch)
        )
        report = work.run(snapshot, snapshot.everything)
        assert report.encoded == count, report

    results = compare({BARE: bare, OURS: ours}, folder, chosen.rounds)
    print(f"{extractor.writer}, {count} images, batch {batch}, median of {chosen.rounds} (wanted 97 %)")
    table(results, count, {}, BARE)
    ratio("pfgdata features against the bare extractor", results, OURS, BARE)


def main() -> None:
    """Measure in a temporary folder."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="auto")
    with tempfile.TemporaryDirectory() as name:
        measure(Path(name), parser.parse_args())


if __name__ == "__main__":
    main()
