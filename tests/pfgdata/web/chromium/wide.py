"""A store of 600,000 rows whose images lie in one tar: pictures of 260 bytes that show their row number.

A picture is 40 x 32 black and white: 20 blocks of 8 x 8 pixels, one a bit, so that a JPEG thumbnail of it
can be read back to the number. Everything is made in whole arrays: the tar takes seconds.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from blake3 import blake3

from pfgdata.records import TaggerIdentity
from pfgdata.store import IMAGES_SCHEMA, ShardContents, Store, StoreIdentity, failures_table, index_tags
from pfgdata.vocabulary import CHARACTER, GENERAL, RATING, Vocabulary

__all__ = ["WIDE_ROWS", "png_of_rows", "wide_store"]

WIDE_ROWS = 600_000
_BLOCKS_WIDE, _BLOCKS_HIGH, _BLOCK = 5, 4, 8
_PART = 65_536  # rows made and committed together
_TAGS = 8
_RATINGS = ("general", "sensitive", "questionable", "explicit")
_MTIME = 1_700_000_000

Bytes = npt.NDArray[np.uint8]


def _crc_table() -> npt.NDArray[np.uint32]:
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, (table >> 1) ^ np.uint32(0xEDB88320), table >> 1).astype(np.uint32)
    return table


def _crc(data: Bytes) -> Bytes:
    """CRC-32 of each line of `data` [N, L], big-endian [N, 4]."""
    table = _crc_table()
    crc = np.full(len(data), 0xFFFFFFFF, np.uint32)
    for column in data.T:
        crc = table[(crc ^ column) & 0xFF] ^ (crc >> 8)
    return _big_endian(~crc)


def _big_endian(values: npt.NDArray[np.uint32]) -> Bytes:
    return np.ascontiguousarray(values.astype(">u4")).view(np.uint8).reshape(-1, 4)


def _adler(data: Bytes) -> Bytes:
    length = data.shape[1]
    sums = data.astype(np.uint64)
    one = (1 + sums.sum(axis=1)) % 65521
    two = (length + (sums * np.arange(length, 0, -1, dtype=np.uint64)).sum(axis=1)) % 65521
    return _big_endian(((two << np.uint64(16)) | one).astype(np.uint32))


def _every(data: bytes, rows: int) -> Bytes:
    return np.tile(np.frombuffer(data, np.uint8), (rows, 1))


def _chunk(name: bytes, data: Bytes) -> Bytes:
    named = np.concatenate([_every(name, len(data)), data], axis=1)
    return np.concatenate([_every(data.shape[1].to_bytes(4, "big"), len(data)), named, _crc(named)], axis=1)


def png_of_rows(rows: npt.NDArray[np.int64]) -> Bytes:
    """PNGs [N, bytes] of row numbers below 2**20: block n, line by line, is white where bit n is 1."""
    count = len(rows)
    bits = (rows[:, None] >> np.arange(_BLOCKS_WIDE * _BLOCKS_HIGH)) & 1
    blocks = (bits * 255).astype(np.uint8).reshape(count, _BLOCKS_HIGH, _BLOCKS_WIDE)
    lines = np.repeat(np.pad(blocks, ((0, 0), (0, 0), (1, 0))), _BLOCK, axis=1)  # each begins with filter 0
    raw = lines.reshape(count, -1)
    length = raw.shape[1].to_bytes(2, "little")
    stored = b"\x78\x01\x01" + length + bytes(255 - byte for byte in length)  # zlib, one stored block
    size = (_BLOCKS_WIDE * _BLOCK).to_bytes(4, "big") + (_BLOCKS_HIGH * _BLOCK).to_bytes(4, "big")
    return np.concatenate(
        [
            _every(b"\x89PNG\r\n\x1a\n", count),
            _chunk(b"IHDR", _every(size + b"\x01\x00\x00\x00\x00", count)),  # one bit, grey
            _chunk(b"IDAT", np.concatenate([_every(stored, count), raw, _adler(raw)], axis=1)),
            _chunk(b"IEND", np.zeros((count, 0), np.uint8)),
        ],
        axis=1,
    )


def _tar_entries(rows: npt.NDArray[np.int64], pictures: Bytes) -> Bytes:
    """Members [N, 1024] named `000000.png`: a header and one block of data."""
    entries = np.zeros((len(rows), 1024), np.uint8)
    for place in range(6):
        entries[:, place] = ord("0") + rows // 10 ** (5 - place) % 10
    fixed = {
        6: b".png",
        100: b"0000644\0" + b"0000000\0" * 2 + b"%011o\0" % pictures.shape[1] + b"%011o\0" % _MTIME,
        148: b" " * 8,
        156: b"0",
        257: b"ustar\00000",
    }
    for start, text in fixed.items():
        entries[:, start : start + len(text)] = np.frombuffer(text, np.uint8)
    sums = entries[:, :512].sum(axis=1, dtype=np.int64)
    for place in range(6):
        entries[:, 148 + place] = ord("0") + (sums >> (3 * (5 - place))) % 8
    entries[:, 154] = 0
    entries[:, 512 : 512 + pictures.shape[1]] = pictures
    return entries


def _vocabulary() -> Vocabulary:
    names = (
        *_RATINGS,
        *(f"tag_{number}" for number in range(200)),
        *(f"who_{number}" for number in range(40)),
    )
    categories = [RATING] * 4 + [GENERAL] * 200 + [CHARACTER] * 40
    return Vocabulary(
        names=names,
        categories=np.array(categories, np.uint8),
        counts=np.arange(len(names), 0, -1, dtype=np.int64),
    )


def _images(rows: npt.NDArray[np.int64], pictures: Bytes, root: Path, words: Vocabulary) -> pa.Table:
    count = len(rows)
    chance = np.random.default_rng(int(rows[0]))
    general = np.sort(chance.integers(0, 25, (count, _TAGS - 1)), axis=1) + 25 * np.arange(_TAGS - 1) + 4
    who = 204 + rows % 40
    tags = np.concatenate([general, who[:, None]], axis=1)
    scores = -np.sort(-chance.uniform(0.05, 1, tags.shape), axis=1).astype(np.float16)
    ids = pa.array([blake3(picture).digest(length=16) for picture in pictures], pa.binary(16))
    offsets = np.arange(0, tags.size + 1, _TAGS, dtype=np.int32)
    columns = {
        "content_id": pa.ExtensionArray.from_storage(pa.uuid(), ids),
        "root": pa.array([str(root)] * count).dictionary_encode(),
        "path": pa.array(["wide.tar"] * count),
        "member": pa.array([f"{row:06}.png" for row in rows]),
        "size": pa.array(np.full(count, pictures.shape[1], np.uint64)),
        "mtime_ns": pa.array(np.full(count, _MTIME * 10**9)),
        "width": pa.array(np.full(count, _BLOCKS_WIDE * _BLOCK, np.uint32)),
        "height": pa.array(np.full(count, _BLOCKS_HIGH * _BLOCK, np.uint32)),
        "format": pa.array(["png"] * count).dictionary_encode(),
        "frames": pa.array(np.ones(count, np.uint32)),
        "phash": pa.array(chance.integers(0, 2**63, count).astype(np.uint64)),
        "rating": pa.array([_RATINGS[row % 4] for row in rows]).dictionary_encode(),
        "rating_scores": pa.FixedSizeListArray.from_arrays(pa.array(np.full(count * 4, 0.25, np.float16)), 4),
        "character": pa.array([words.names[number] for number in who]).dictionary_encode(),
        "character_score": pa.array(scores[:, -1]),
        "tag_ids": pa.ListArray.from_arrays(offsets, pa.array(tags.astype(np.uint32).ravel())),
        "tag_scores": pa.ListArray.from_arrays(offsets, pa.array(scores.ravel())),
    }
    missing = {name: pa.nulls(count, IMAGES_SCHEMA.field(name).type) for name in IMAGES_SCHEMA.names}
    return pa.table({**missing, **columns}).select(IMAGES_SCHEMA.names).cast(IMAGES_SCHEMA)


def wide_store(folder: Path, rows: int = WIDE_ROWS) -> Store:
    """A store in `folder`, beside it the corpus: one tar whose member n is the picture of row n."""
    root = folder / "corpus"
    root.mkdir(parents=True)
    words = _vocabulary()
    tagger = TaggerIdentity(
        name="none", revision=None, weights_sha256="0", feature_node="", preprocess="kohya", decode="1"
    )
    identity = StoreIdentity(tagger=tagger, vocabulary_digest=words.digest, feature_dim=1)
    store = Store.create(folder / "store", identity=identity, vocabulary=words)
    with store.writer() as writer, (root / "wide.tar").open("wb") as tar:
        writer.set_roots({str(root): str(root)})
        for first in range(0, rows, _PART):
            numbers = np.arange(first, min(first + _PART, rows))
            pictures = png_of_rows(numbers)
            tar.write(_tar_entries(numbers, pictures).tobytes())
            writer.commit(
                ShardContents(
                    images=_images(numbers, pictures, root, words),
                    features=np.zeros((len(numbers), 1), np.float16),
                    failures=failures_table([]),
                )
            )
        tar.write(bytes(1024))
    index_tags(store.snapshot())
    return store
