"""Images through an encoder: read, prepared, encoded in full batches; what is made is handed on by the shard.

It knows no store, so it runs on another machine as it does here. A failed image keeps its slot, so its
neighbours do not move.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pfgdata.corpus import ReadImage, read_images
from pfgdata.derive.encoder import Encoder
from pfgdata.derive.options import DeriveOptions
from pfgdata.derive.plan import DerivePlan, table_bytes, table_from
from pfgdata.errors import ContentError, ImageError
from pfgdata.records import Progress, StoredImage
from pfgdata.store import DERIVED_FAILURES_SCHEMA

__all__ = ["Encoded", "Encoding"]


@dataclass(frozen=True, slots=True)
class _Prepared:
    """An image ready to be encoded, its row, and the file it was read from."""

    array: npt.NDArray[Any]
    row: Mapping[str, Any]
    file: str


_Item = tuple[StoredImage, _Prepared | ImageError]


@dataclass(slots=True)
class Encoded:
    """What became of the next images of a group: arrays with a row each, and failures."""

    arrays: list[npt.NDArray[np.float16]] = field(default_factory=list)  # all of one shape
    rows: list[dict[str, Any]] = field(default_factory=list)
    failures: list[dict[str, Any]] = field(default_factory=list)  # content_id, kind, reason
    files: list[str] = field(default_factory=list)  # of the failures
    since: float = field(default_factory=time.monotonic)
    waited: float = 0.0  # seconds for images to be read, decoded and prepared
    encoded: float = 0.0

    def __len__(self) -> int:
        """Images dealt with."""
        return len(self.rows) + len(self.failures)

    @property
    def nbytes(self) -> int:
        """Bytes of arrays."""
        return self.arrays[0].nbytes * len(self.arrays) if self.arrays else 0

    def add(self, other: Encoded) -> None:
        """Take what another one holds, of the same group."""
        for name in ("arrays", "rows", "failures", "files", "waited", "encoded"):
            setattr(self, name, getattr(self, name) + getattr(other, name))

    def only(self, contents: set[bytes]) -> Encoded:
        """What is of some contents."""
        kept = [at for at, row in enumerate(self.rows) if row["content_id"] in contents]
        failed = [at for at, row in enumerate(self.failures) if row["content_id"] in contents]
        return Encoded(
            arrays=[self.arrays[at] for at in kept],
            rows=[self.rows[at] for at in kept],
            failures=[self.failures[at] for at in failed],
            files=[self.files[at] for at in failed],
            waited=self.waited,
            encoded=self.encoded,
        )

    def stacked(self) -> npt.NDArray[np.float16]:
        """The arrays as one, [N, ...]."""
        return np.stack(self.arrays) if self.arrays else np.empty((0, 1), np.float16)

    def seconds(self) -> dict[str, float]:
        """For shard.json."""
        total = time.monotonic() - self.since
        return {"read": round(self.waited, 3), "encode": round(self.encoded, 3), "total": round(total, 3)}

    def packed(self, schema: pa.Schema) -> dict[str, bytes]:
        """All of it as bytes; `schema` is of the rows."""
        arrays = self.stacked()
        told = {"shape": arrays.shape, "files": self.files, "waited": self.waited, "encoded": self.encoded}
        return {
            "told": json.dumps(told).encode(),
            "arrays": arrays.tobytes(),
            "rows": table_bytes(pa.Table.from_pylist(self.rows, schema=schema)),
            "failures": table_bytes(pa.Table.from_pylist(self.failures, schema=DERIVED_FAILURES_SCHEMA)),
        }

    @classmethod
    def unpacked(cls, data: Mapping[str, bytes]) -> Encoded:
        """What `packed` made."""
        told = json.loads(data["told"])
        rows, failures = table_from(data["rows"]).to_pylist(), table_from(data["failures"]).to_pylist()
        for row in (*rows, *failures):
            row["content_id"] = row["content_id"].bytes
        arrays = np.frombuffer(data["arrays"], np.float16).reshape(told["shape"])
        return cls(
            arrays=list(arrays),
            rows=rows,
            failures=failures,
            files=told["files"],
            waited=told["waited"],
            encoded=told["encoded"],
        )


class Encoding:
    """A pass of an encoder: the images of one group after another, handed on when a shard of them is due."""

    def __init__(
        self,
        encoder: Encoder,
        keep: Callable[[int, Encoded], None],
        *,
        what: str,
        roots: Mapping[str, str],
        options: DeriveOptions,
        progress: Progress,
    ) -> None:
        """`keep` takes what is made of a group; `what` names one array, `roots` say where the corpora are."""
        self._encoder, self._keep, self._what = encoder, keep, what
        self._roots, self._options, self._progress = roots, options, progress
        self._open = Encoded()

    def group(self, plan: DerivePlan, group: int, stop: Callable[[], bool]) -> bool:
        """Encode what `plan` says is missing of `group`; whether `stop`, asked after each batch, ended it.

        Whatever ends it, what is encoded by then is handed on.
        """
        try:
            with closing(self._batches(plan, group)) as batches:
                asked = time.monotonic()
                for batch in batches:
                    self._open.waited += time.monotonic() - asked
                    self._encode(batch)
                    self._progress.advance(len(batch))
                    if self._due():
                        self._hand_on(group)
                    if stop():
                        return True
                    asked = time.monotonic()
            return False
        finally:
            self._hand_on(group)

    def _batches(self, plan: DerivePlan, group: int) -> Generator[list[_Item]]:
        def prepare(image: ReadImage) -> _Prepared:
            return _Prepared(*self._encoder.prepare(image.pixels, group), image.file)

        count = self._options.batch_size
        threads = self._options.threads or os.cpu_count() or 1
        images = read_images(
            plan.items(group),
            prepare,
            roots=self._roots,
            threads=threads,
            ahead=2 * count + threads,
            seconds=self._options.image_seconds,
        )
        with closing(images):
            while batch := list(islice(images, count)):
                yield batch

    def _encode(self, batch: list[_Item]) -> None:
        """Encode a batch, padded to full size; a failed image keeps its slot."""
        ready = {slot: item for slot, (_, item) in enumerate(batch) if isinstance(item, _Prepared)}
        encoded = self._encoded({slot: item.array for slot, item in ready.items()})
        for slot, (image, item) in enumerate(batch):
            if isinstance(item, ImageError):
                self._fail(image, item, file=item.file)
            elif not np.isfinite(encoded[slot]).all():
                problem = ContentError(f"its {self._what} is not finite in float16")
                self._fail(image, problem, file=item.file)
            else:
                self._open.arrays.append(encoded[slot])
                self._open.rows.append({"content_id": image.content_id, **item.row})

    def _encoded(self, arrays: Mapping[int, npt.NDArray[Any]]) -> npt.NDArray[np.float16]:
        """What the encoder makes of the arrays in their slots, [B, ...]; of none, nothing."""
        if not arrays:
            return np.empty(0, np.float16)
        first = next(iter(arrays.values()))
        full = np.zeros((self._options.batch_size, *first.shape), first.dtype)
        for slot, array in arrays.items():
            full[slot] = array
        begun = time.monotonic()
        with np.errstate(over="ignore"):  # an infinite value is a failure
            encoded = self._encoder.encode(full).astype(np.float16)
        self._open.encoded += time.monotonic() - begun
        return encoded

    def _fail(self, image: StoredImage, problem: ImageError, *, file: str | None) -> None:
        self._open.files.append(file or str(image))
        self._open.failures.append(
            {"content_id": image.content_id, "kind": problem.kind, "reason": str(problem)}
        )

    def _due(self) -> bool:
        is_old = time.monotonic() - self._open.since >= self._options.shard_seconds
        return self._open.nbytes >= self._options.shard_bytes or is_old

    def _hand_on(self, group: int) -> None:
        made, self._open = self._open, Encoded()
        self._keep(group, made)
