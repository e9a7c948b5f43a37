"""Are copies told from variants and from others, and how long do 600,000 rows take?

`labelled corpus/portraits` judges pairs made from the portraits of five styles, which `python -m
pipelines.demo_corpus portraits --out corpus` draws; thresholds (pfgdata/similarity/judging.py) were fixed on
the first three styles. `speed` plants 30,000 candidate pairs among 600,000 rows.
"""

from __future__ import annotations

import io
import json
import resource
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pyarrow as pa
from PIL import Image, ImageDraw, ImageFont

sys.path.insert(0, str(Path(__file__).parent.parent))

from pfgdata.images import perceptual_hash, square
from pfgdata.ingest import IngestJob, tagger_for
from pfgdata.query import Thresholds
from pfgdata.records import content_id
from pfgdata.similarity import (
    DuplicateOptions,
    Likeness,
    compare_pictures,
    find_duplicates,
    judge,
    small_picture,
)
from pfgdata.store import IMAGES_SCHEMA, ShardContents, Store, StoreIdentity, failures_table
from pfgdata.taggers import OnnxTagger

FIXED_ON, UNSEEN = ("adventurer", "lorelei", "notionists"), ("open-peeps", "pixel-art")
CHARACTERS, COPIES, VARIANTS, VIEWS, NEGATIVES = 84, 5, 5, 3, 4000  # a style; the last: pairs a style
CROP = 0.03  # of a side, at each side: the most that a copy lost
RADII = (8, 10)
Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Seen:
    """All that is judged of one picture."""

    phash: int
    small: Pixels
    feature: npt.NDArray[np.float64]
    tags: frozenset[int]


class Eye:
    """Pictures as a store has them: hash, feature and tags of the demo tagger."""

    def __init__(self) -> None:
        self.tagger: OnnxTagger = tagger_for(None, IngestJob(tagger="demo"))
        self.least = Thresholds().least(self.tagger.vocabulary)

    def see(self, pictures: Sequence[Pixels]) -> list[Seen]:
        """What is judged of each."""
        how = self.tagger.identity.preprocess
        tiles = np.stack([square(one, preprocess=how, size=self.tagger.image_size) for one in pictures])
        scores, features = self.tagger.predict(tiles)
        return [
            Seen(
                perceptual_hash(one),
                small_picture(one),
                feature.astype(np.float64),
                frozenset(np.flatnonzero(score >= self.least).tolist()),
            )
            for one, score, feature in zip(pictures, scores, features, strict=True)
        ]


def likeness(one: Seen, two: Seen) -> Likeness:
    """The figures of a pair."""
    either = one.tags | two.tags
    norms = np.linalg.norm(one.feature) * np.linalg.norm(two.feature)
    return Likeness(
        bits=(one.phash ^ two.phash).bit_count(),
        difference=compare_pictures(one.small, two.small),
        cosine=float(one.feature @ two.feature / norms),
        tags=len(one.tags & two.tags) / len(either) if either else 1.0,
    )


def copy_of(picture: Pixels, chance: np.random.Generator) -> tuple[str, Pixels]:
    """A copy and how it was made: resized, recompressed, converted, cropped a little, or all of it."""
    how = str(chance.choice(["resized", "jpeg", "webp", "cropped", "all"]))
    image = Image.fromarray(picture)
    if how in ("cropped", "all"):
        left, top, right, bottom = chance.uniform(0, CROP, 4)
        wide, high = image.size
        image = image.crop(
            (round(left * wide), round(top * high), round(wide - right * wide), round(high - bottom * high))
        )
    if how in ("resized", "all"):
        scale = chance.uniform(0.5, 2)
        filters = [Image.Resampling.LANCZOS, Image.Resampling.BICUBIC, Image.Resampling.BILINEAR]
        size = (round(image.width * scale), round(image.height * scale))
        image = image.resize(size, filters[int(chance.integers(3))])
    if how in ("jpeg", "webp", "all"):
        data = io.BytesIO()
        image.save(data, "WEBP" if how == "webp" else "JPEG", quality=int(chance.integers(50, 96)))
        image = Image.open(data).convert("RGB")
    return how, np.asarray(image)


def variant_of(picture: Pixels, view: Pixels, chance: np.random.Generator) -> tuple[str, Pixels]:
    """The drawing with something changed that one can see: at least 0.3 % of the pixels by 40 levels."""
    while True:
        how = str(chance.choice(["text", "colours", "ground", "mouth", "mark"]))
        changed = _VARIANTS[how](picture.copy(), view, chance)
        if (np.abs(changed.astype(int) - picture).max(axis=2) > 40).mean() >= 0.003:
            return how, changed


def _text(picture: Pixels, view: Pixels, chance: np.random.Generator) -> Pixels:
    image, side = Image.fromarray(picture), len(picture)
    word = "".join(chance.choice(list("ABCDEFGHKLMNRSTUVXZ"), int(chance.integers(3, 8))))
    font = ImageFont.load_default(size=side * chance.uniform(0.08, 0.14))
    where = (side * chance.uniform(0.05, 0.4), side * chance.uniform(0.05, 0.85))
    ink = tuple(chance.integers(0, 256, 3).tolist())
    ImageDraw.Draw(image).text(where, word, fill=ink, font=font, stroke_width=1, stroke_fill="white")
    return np.asarray(image)


def _colours(picture: Pixels, view: Pixels, chance: np.random.Generator) -> Pixels:
    hsv = cv2.cvtColor(picture, cv2.COLOR_RGB2HSV)
    turned = (hsv[..., 0].astype(int) + int(chance.integers(25, 155))) % 180
    hsv[..., 0] = np.where(hsv[..., 1] > 60, turned, hsv[..., 0])
    return np.asarray(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB), np.uint8)


def _ground(picture: Pixels, view: Pixels, chance: np.random.Generator) -> Pixels:
    ground = np.abs(picture.astype(int) - picture[2, 2]).max(axis=2) < 30
    picture[ground] = chance.integers(0, 256, 3)
    return picture


def _mouth(picture: Pixels, view: Pixels, chance: np.random.Generator) -> Pixels:
    """The middle of the face as another view of the character has it: another expression."""
    side = len(picture)
    mask = np.zeros((side, side), np.float32)
    centre = (side // 2, round(side * chance.uniform(0.45, 0.6)))
    cv2.ellipse(mask, centre, (round(side * 0.14), round(side * 0.09)), 0, 0, 360, 1.0, -1)
    soft = cv2.GaussianBlur(mask, (5, 5), 0)[..., None]
    return (picture * (1 - soft) + view * soft).astype(np.uint8)


def _mark(picture: Pixels, view: Pixels, chance: np.random.Generator) -> Pixels:
    side = len(picture)
    centre = (round(side * chance.uniform(0.35, 0.65)), round(side * 0.55))
    cv2.ellipse(picture, centre, (round(side * 0.06), round(side * 0.03)), 0, 0, 360, (230, 60, 60), -1)
    return picture


_VARIANTS = {"text": _text, "colours": _colours, "ground": _ground, "mouth": _mouth, "mark": _mark}


def pairs_of(style: str, folder: Path, eye: Eye) -> Iterator[tuple[str, str, Likeness]]:
    """Class, how it was made, and figures of every labelled pair of one style; seeded by its name."""
    chance = np.random.default_rng(int.from_bytes(content_id(style.encode())[:4], "big"))
    lines = (folder.with_suffix(".jsonl")).read_text().splitlines()
    rows = [row for row in map(json.loads, lines) if row["style"] == style]
    views: dict[str, list[Pixels]] = defaultdict(list)
    hair: dict[str, set[str]] = {}
    for row in rows:
        views[row["character"]].append(np.asarray(Image.open(folder / row["path"]).convert("RGB")))
        hair[row["character"]] = {
            tag for tag in row["tags"] if tag.startswith(f"{style}_hair_") or tag.endswith("_hair")
        }
    names = sorted(views)
    for name in [names[index] for index in chance.permutation(len(names))[:CHARACTERS]]:
        one, *others = views[name]
        copies = [copy_of(one, chance) for _ in range(COPIES)]
        variants = [variant_of(one, others[index % len(others)], chance) for index in range(VARIANTS)]
        made = [("copy", *pair) for pair in copies] + [("variant", *pair) for pair in variants]
        made += [("view", "view", other) for other in others[:VIEWS]]
        first, *seen = eye.see([one, *(picture for _, _, picture in made)])
        yield from (
            (label, how, likeness(first, two)) for (label, how, _), two in zip(made, seen, strict=True)
        )
    known = {name: eye.see(pictures[:1])[0] for name, pictures in views.items()}
    count = 0
    while count < NEGATIVES:
        one, two = chance.choice(names, 2, replace=False).tolist()
        if hair[one] & hair[two]:
            yield "other", "one style and hair", likeness(known[one], known[two])
            count += 1


def labelled(folder: Path) -> None:
    """Print the confusion tables, of the styles that fixed the thresholds and of the others."""
    eye = Eye()
    found = {}
    for style in (*FIXED_ON, *UNSEEN):
        begun = time.perf_counter()
        found[style] = list(pairs_of(style, folder, eye))
        print(f"{style}: {len(found[style]):,} pairs, {time.perf_counter() - begun:.0f} s", file=sys.stderr)
    for title, styles in (("fixed on", FIXED_ON), ("unseen", UNSEEN)):
        pairs = [pair for style in styles for pair in found[style]]
        for radius in RADII:
            print(f"\n{title}: {', '.join(styles)}; candidates within {radius} bits")
            _table(pairs, radius)
        _quantiles(pairs)


def _table(pairs: Sequence[tuple[str, str, Likeness]], radius: int) -> None:
    table: dict[str, Counter[str]] = defaultdict(Counter)
    for label, how, figures in pairs:
        kind = judge(figures) if figures.bits <= radius else "no candidate"
        table[label][kind] += 1
        if label in ("copy", "variant"):
            table[f"  {label}, {how}"][kind] += 1
    kinds = ("copy", "variant", "unsure", "no candidate")
    print(f"{'':24}" + "".join(f"{kind:>14}" for kind in kinds))
    for label in sorted(table, key=lambda one: (one.split(",")[0].strip(), one.startswith(" "), one)):
        print(f"{label:24}" + "".join(f"{table[label][kind]:14,}" for kind in kinds))
    for kind in ("copy", "variant"):
        right, said = (
            table[kind][kind],
            sum(table[label][kind] for label in ("copy", "variant", "view", "other")),
        )
        print(f"{kind}: precision {right / max(said, 1):.4f}, recall {right / sum(table[kind].values()):.4f}")


def _quantiles(pairs: Sequence[tuple[str, str, Likeness]]) -> None:
    for label in ("copy", "variant", "view", "other"):
        mine = [figures for name, _, figures in pairs if name == label]
        for name, values in (
            ("change", [one.difference.change for one in mine]),
            ("local", [one.difference.local for one in mine]),
            ("area", [one.difference.area for one in mine]),
            ("cosine", [one.cosine for one in mine]),
            ("tags", [one.tags for one in mine]),
        ):
            cut = np.quantile(values, [0, 0.01, 0.05, 0.5, 0.95, 0.99, 1]).round(3).tolist()
            print(f"{label:8} {name:7} quantiles 0 1 5 50 95 99 100 %: {cut}")


SHARDS, ROWS, PLANTED, SIDE = 73, 8192, 30_000, 256


def speed() -> None:
    """Print how long each part takes for 598,016 rows with 30,000 copies, and the peak of memory."""
    with tempfile.TemporaryDirectory() as name:
        store = _planted(Path(name))
        snapshot = store.snapshot()
        options = DuplicateOptions(least=np.full(len(store.vocabulary), 0.35, np.float32))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        begun, cpu = time.perf_counter(), time.process_time()
        report = find_duplicates(snapshot, snapshot.everything, options=options, roots=store.roots())
        took, used = time.perf_counter() - begun, time.process_time() - cpu
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        print(f"{len(report.rows):,} rows, {PLANTED:,} planted pairs, {report.compared:,} pairs compared")
        print(", ".join(f"{report.count(kind):,} {kind}" for kind in ("copy", "variant", "unsure")))
        for part, seconds in report.seconds.items():
            print(f"{part:10} {seconds:8.1f} s")
        print(f"{'all':10} {took:8.1f} s, {used:.1f} s of CPU")
        print(f"peak of memory {peak / 1024:,.0f} MiB, {before / 1024:,.0f} before")


def _planted(folder: Path) -> Store:
    """598,016 rows of random hashes; 30,000 pairs of them are files, a picture and its smaller JPEG."""
    files, chance = folder / "images", np.random.default_rng(0)
    files.mkdir()
    vocabulary = tagger_for(None, IngestJob(tagger="demo"))
    identity = StoreIdentity(
        tagger=vocabulary.identity, vocabulary_digest=vocabulary.vocabulary.digest, feature_dim=768
    )
    store = Store.create(folder / "feats", identity=identity, vocabulary=vocabulary.vocabulary)
    total = SHARDS * ROWS
    phash = chance.integers(0, 2**64, total, dtype=np.uint64)
    ids = chance.integers(0, 256, (total, 16)).astype(np.uint8)
    size = chance.integers(10_000, 1_000_000, total).astype(np.uint64)
    paths = [f"{number:06}.jpg" for number in range(total)]
    places = chance.permutation(total)[: 2 * PLANTED].reshape(-1, 2)
    for one, two in places.tolist():
        coarse = chance.integers(0, 256, (8, 8, 3)).astype(np.uint8)
        big = cv2.resize(coarse, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
        for place, pixels in ((one, big), (two, cv2.resize(big, (180, 180), interpolation=cv2.INTER_AREA))):
            data = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 85])[1].tobytes()
            (files / paths[place]).write_bytes(data)
            ids[place] = np.frombuffer(content_id(data), np.uint8)
            phash[place], size[place] = perceptual_hash(np.asarray(pixels, np.uint8)), len(data)
    with store.writer() as writer:
        for number in range(SHARDS):
            part = slice(number * ROWS, (number + 1) * ROWS)
            features = chance.normal(0, 1, (1, 768)).astype(np.float16).repeat(ROWS, axis=0)
            table = _rows(ids[part], paths[part], size[part], phash[part], root=str(files))
            writer.commit(ShardContents(images=table, features=features, failures=failures_table([])))
    return Store.open(folder / "feats")


def _rows(
    ids: npt.NDArray[np.uint8],
    paths: list[str],
    size: npt.NDArray[np.uint64],
    phash: npt.NDArray[np.uint64],
    *,
    root: str,
) -> pa.Table:
    count = len(ids)
    storage = pa.array([one.tobytes() for one in ids], pa.binary(16))
    tags = np.arange(4, 84, dtype=np.uint32)
    columns: dict[str, Any] = {
        "content_id": pa.ExtensionArray.from_storage(pa.uuid(), storage),
        "root": pa.array([root] * count).dictionary_encode(),
        "path": pa.array(paths),
        "size": pa.array(size),
        "mtime_ns": pa.array(np.ones(count, np.int64)),
        "width": pa.array(np.full(count, SIDE, np.uint32)),
        "height": pa.array(np.full(count, SIDE, np.uint32)),
        "phash": pa.array(phash),
        "tag_ids": pa.ListArray.from_arrays(
            np.arange(0, 80 * count + 1, 80, dtype=np.int32), pa.array(np.tile(tags, count))
        ),
        "tag_scores": pa.ListArray.from_arrays(
            np.arange(0, 80 * count + 1, 80, dtype=np.int32), pa.array(np.full(80 * count, 0.5, np.float16))
        ),
    }
    missing = {name: pa.nulls(count, IMAGES_SCHEMA.field(name).type) for name in IMAGES_SCHEMA.names}
    return pa.table({**missing, **columns}).select(IMAGES_SCHEMA.names).cast(IMAGES_SCHEMA)


if __name__ == "__main__":
    if sys.argv[1:2] == ["labelled"] and len(sys.argv) == 3:
        labelled(Path(sys.argv[2]))
    elif sys.argv[1:] in ([], ["speed"]):
        speed()
    else:
        sys.exit("usage: duplicates.py [speed | labelled corpus/portraits]")
