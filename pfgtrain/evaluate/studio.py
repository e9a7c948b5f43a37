"""Makes the pictures of an evaluation and shows them to the viewers, a batch in memory at a time.

What is real goes through the run's own VAE first, in the bucket of its ratio, as a fit sees it: no row can be
nearer to a guide than what the VAE leaves of it.

Shapes: K guides, F feature width.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from pfgdata.images import BucketPolicy, bucket_sizes, crop_to_bucket, nearest_buckets, on_white
from pfgdata.records import Progress, during
from pfgdata.vaes import base_geometry
from pfgtrain.evaluate.guides import Guide, read_view
from pfgtrain.evaluate.measures import Ints
from pfgtrain.evaluate.options import EvaluateOptions
from pfgtrain.evaluate.strokes import Strokes, strokes
from pfgtrain.evaluate.training import TrainingImages
from pfgtrain.evaluate.viewers import TAGGER, Pixels, Pool, Viewer, joined, look
from pfgtrain.generate import PFGModel, room_for, write_png
from pfgtrain.objective import latents_of

__all__ = ["Real", "Studio"]

_STEM = 40  # letters of a guide's name in the names of its pictures


@dataclass(frozen=True, slots=True, kw_only=True)
class Real:
    """All real images as each viewer sees them, by its role.

    `raw` are the guides as they are, seen one by one as generate does, and `plain` their other views; `views`
    all images of all characters through the VAE, of which `view_M` counts each character's from 0, the guide.
    """

    raw: dict[str, Pool]
    plain: dict[str, Pool]  # empty where no character has another view
    views: dict[str, Pool]
    view_M: Ints
    features_KF: Tensor  # of the guides as they are: what tokens are made of
    missing: Mapping[str, int]  # label of a feature set -> guides whose vector is not there


@dataclass(kw_only=True)
class Studio:
    """A model, its viewers, and where pictures are kept: `folder`, or nowhere."""

    model: PFGModel
    viewers: Sequence[Viewer]
    options: EvaluateOptions
    progress: Progress
    folder: Path | None = None
    drawn: int | None = None  # characters that are guides; those after them are only looked at
    files: dict[tuple[int, str], list[Path]] = field(default_factory=dict)  # (guide, kind) -> its pictures
    strokes: dict[tuple[int, str], list[Strokes]] = field(default_factory=dict)  # the same pictures' pixels

    def real(self, guides: Sequence[Guide]) -> Real:
        """Look at the guides and all their views; raises as `read_view` does."""
        plain: tuple[list[dict[str, Pool]], list[dict[str, Pool]]] = ([], [])  # guides, other views
        features, missing = list[Tensor](), Counter[str]()
        view_M = [view for guide in guides for view in range(len(guide.views))]
        owners = [number for number, guide in enumerate(guides) for _ in guide.views]

        def through_vae() -> Iterator[Pixels]:
            for number, guide in enumerate(guides):
                for view, image in enumerate(guide.views):
                    read = read_view(guide, image)
                    pixels = read.pixels
                    if view < 2:
                        plain[view].append(self._look([pixels], [number]))
                    if not view and self._is_guide(number):
                        own_F = torch.from_numpy(plain[0][-1][TAGGER].embeddings.features_MF[0])
                        seen = self.model.see(
                            pixels, content_id=read.content_id, name=guide.name, own_F=own_F
                        )
                        features.append(seen.feature_F)
                        missing.update(label for label, how in seen.how.items() if how == "missing")
                        self._keep(self._small(pixels), number, guide.name, "guide")
                    kind = ("vae", "view")[view] if view < 2 else None
                    yield self._seen(pixels, number, guide.name, kind)
                    self.progress.advance()

        with during(self.progress, "guides", total=len(owners), brief=False):
            views = self._look(through_vae(), owners)
        raw, others = (self._joined(pools) for pools in plain)
        return Real(
            raw=raw,
            plain=others,
            views=views,
            view_M=np.array(view_M, np.int64),
            features_KF=torch.stack(features),
            missing=missing,
        )

    def results(self, features_KF: Tensor, names: Sequence[str]) -> dict[str, Pool]:
        """Paint `images_per_guide` pictures of each guide, picture i from the noise of seed + i, and look."""
        jobs = [(k, i) for k in range(len(features_KF)) for i in range(self.options.images_per_guide)]
        return self._look(self._painted(features_KF, jobs, names), [guide for guide, _ in jobs])

    def without_guide(self) -> dict[str, Pool]:
        """Paint the pictures of the prompt alone, from the same noise, and look: they are of no guide."""
        jobs = [(-1, index) for index in range(self.options.images_per_guide)]
        return self._look(self._painted(None, jobs, ()), [-1] * len(jobs))

    def copies(self, training: TrainingImages, rows: Sequence[int], names: Sequence[str]) -> dict[str, Pool]:
        """Look at the training image `rows[k]` of each guide, through the VAE; those whose file is here."""
        here: list[int] = []

        def through_vae() -> Iterator[Pixels]:
            for number, row in enumerate(rows):
                pixels = training.pixels(row)
                if pixels is not None:
                    here.append(number)
                    yield self._seen(pixels, number, names[number], "copy")
                self.progress.advance()

        with during(self.progress, "copies", total=len(rows)):
            return self._look(through_vae(), here)

    def _painted(
        self, features_KF: Tensor | None, jobs: Sequence[tuple[int, int]], names: Sequence[str]
    ) -> Iterator[Pixels]:
        size = self.options.batch_size
        options = self.options.pictures()
        for start in range(0, len(jobs), size):
            batch = jobs[start : start + size]
            features_BF = None if features_KF is None else features_KF[[guide for guide, _ in batch]]
            seeds = [options.seed + index for _, index in batch]
            with room_for(len(batch)):
                images = self.model.paint(features_BF, seeds=seeds, options=options, progress=self.progress)
            for (guide, _), image in zip(batch, images, strict=True):
                self._keep(image, guide, names[guide] if guide >= 0 else "no-pfg", "results")
                pixels = np.asarray(image)
                self._draws(pixels, guide, "results")
                yield pixels

    def _small(self, pixels: Pixels) -> Image.Image:
        """The image itself, for the page: a photo of 24 megapixels would be a PNG of 30 MB."""
        image = Image.fromarray(on_white(pixels))
        image.thumbnail((2 * self.model.resolution,) * 2)
        return image

    def _seen(self, pixels: Pixels, guide: int, name: str, kind: str | None) -> Pixels:
        """A real image as the VAE gives it back, kept as a picture of that kind."""
        with room_for(1):
            cropped, image = self._through_vae(pixels)
        seen = np.asarray(image)
        if kind:
            self._keep(image, guide, name, kind)
            self._draws(seen, guide, kind)
        if kind == "vae":
            self._draws(cropped, guide, "guide")
        return seen

    @torch.no_grad()
    def _through_vae(self, pixels: Pixels) -> tuple[Pixels, Image.Image]:
        """What of an image is in its bucket, and that through the VAE."""
        pipeline, resolution = self.model.pipeline, self.model.resolution
        step = base_geometry(self.model.base.folder).step
        sizes = bucket_sizes(BucketPolicy.derive(resolution, step))
        height, width = pixels.shape[:2]
        cropped, _ = crop_to_bucket(pixels, sizes[int(nearest_buckets([width], [height], sizes)[0])])
        x = torch.from_numpy(cropped.copy()).permute(2, 0, 1)[None].float() / 127.5 - 1.0
        mean = pipeline.vae.encode(x.to(pipeline.vae.device, pipeline.vae.dtype)).latent_dist.mean
        return cropped, pipeline.decode(latents_of(mean, None, scale=pipeline.scale))[0]

    def _look(self, images: Iterable[Pixels], owners: Sequence[int]) -> dict[str, Pool]:
        return look(self.viewers, images, owners=owners, batch_size=self.options.batch_size)

    def _joined(self, pools: Sequence[dict[str, Pool]]) -> dict[str, Pool]:
        return (
            {viewer.role: joined([one[viewer.role] for one in pools]) for viewer in self.viewers}
            if pools
            else {}
        )

    def _is_guide(self, number: int) -> bool:
        return self.drawn is None or number < self.drawn

    def _draws(self, pixels: Pixels, guide: int, kind: str) -> None:
        if not self._is_guide(guide):
            return
        self.strokes.setdefault((guide, kind), []).append(strokes(pixels))

    def _keep(self, image: Image.Image, guide: int, name: str, kind: str) -> None:
        if self.folder is None or not self._is_guide(guide):
            return
        known = self.files.setdefault((guide, kind), [])
        stem = re.sub(r"[^A-Za-z0-9.-]+", "_", Path(name).stem)[:_STEM]
        number = f"{guide:04d}-" if guide >= 0 else ""
        count = f"{len(known):02d}" if kind == "results" else kind
        path = self.folder / f"{number}{stem}-{count}.png"
        write_png(path, image)
        known.append(path)
