"""All that makes pictures, loaded once: what it sees in a guide, and what it paints of that.

Shapes: B pictures, F feature width, V tags.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from pfgdata.errors import ConfigError
from pfgdata.images import square
from pfgdata.records import NoProgress, Progress
from pfgdata.taggers import Tagger
from pfgdata.vaes import base_geometry
from pfgtrain.adapter import Uncond
from pfgtrain.base import Base, EmptyPrompt, empty_row, encode_prompts
from pfgtrain.condition import Condition
from pfgtrain.generate.features import FeatureReader, Seen
from pfgtrain.generate.options import GenerateOptions
from pfgtrain.generate.pipeline import PFGPipeline, Scene, paint

__all__ = ["PFGModel"]

_KEPT_TEXTS = 8  # prompts and negative prompts: 0.2 MB each of SD1, 0.6 of SDXL


@dataclass(frozen=True, slots=True, kw_only=True)
class PFGModel:
    """All that makes pictures, loaded once: the pipeline, its tagger, and what the run fixed."""

    pipeline: PFGPipeline
    base: Base
    tagger: Tagger
    reader: FeatureReader
    prompt: str
    text_layer: int  # hidden layer of the text encoder that is read
    uncond: Uncond
    empty_prompt: EmptyPrompt
    resolution: int  # pixels, a side
    origin: dict[str, Any]  # of the weights, for the pictures' metadata; equal weights, equal origin
    _texts: dict[str, Condition] = field(default_factory=dict)  # text -> its one row

    @property
    def has_tokens(self) -> bool:
        """Whether a guide is told at all: a run with num_tokens = 0 knows texts alone."""
        return self.pipeline.adapter is not None

    @property
    def untrained(self) -> tuple[str, ...]:
        """The parts whose weights are from a fixed seed, in words."""
        named = {f"base {self.base.name}": self.base, f"tagger {self.tagger.identity.name}": self.tagger}
        return tuple(words for words, part in named.items() if getattr(part, "untrained", False))

    def look(self, pixels: Any) -> tuple[npt.NDArray[np.float32], Tensor]:
        """What the tagger sees in one decoded image, uint8 [H, W, 3 or 4].

        Scores [V] of its vocabulary, and the feature [F], float32 on the CPU.
        """
        image = square(pixels, preprocess=self.tagger.identity.preprocess, size=self.tagger.image_size)
        scores, features = self.tagger.predict(image[None])
        return scores[0], torch.from_numpy(features[0]).float()

    def see(self, pixels: Any, *, content_id: bytes | None, name: str, own_F: Tensor | None = None) -> Seen:
        """The feature of one decoded image as the adapters read it; `own_F` is what the tagger saw, if known.

        Raises ModelError naming the image where a set has no vector of it.
        """
        own_F = self.look(pixels)[1] if own_F is None else own_F
        return self.reader.read(pixels, own_F, content_id=content_id, name=name)

    def feature(self, pixels: Any) -> Tensor:
        """The feature [F] of one decoded image of no known content."""
        return self.see(pixels, content_id=None, name="the image").feature_F

    def size(self, options: GenerateOptions) -> tuple[int, int]:
        """(width, height) of the pictures. Raises ConfigError naming the step if the UNet cannot make it."""
        width, height = (
            self.resolution if side is None else side for side in (options.width, options.height)
        )
        step = self.step
        if any(side < step or side % step for side in (width, height)):
            raise ConfigError(
                f"size {width}x{height}: sides of base {self.base.name} are multiples of {step}"
            )
        return width, height

    @property
    def step(self) -> int:
        """Of what the sides of a picture are multiples, in pixels."""
        return math.lcm(base_geometry(self.base.folder).step, 8)  # diffusers asks for a multiple of 8

    def texts(self, *texts: str, progress: Progress) -> tuple[Condition, ...]:
        """The one row of each text, encoded once; the last few are kept, however many a page asks for."""
        new = [text for text in dict.fromkeys(texts) if text not in self._texts]
        if new:
            rows = encode_prompts(self.base, new, text_layer=self.text_layer, progress=progress)
            self._texts.update(zip(new, rows.split(), strict=True))
            others = [text for text in self._texts if text not in texts]
            for text in others[: max(0, len(self._texts) - _KEPT_TEXTS)]:
                del self._texts[text]
        return tuple(self._texts[text] for text in texts)

    def paint(
        self,
        features_BF: Tensor | None,
        *,
        seeds: Sequence[int],
        options: GenerateOptions,
        progress: Progress | None = None,
    ) -> list[Image.Image]:
        """A picture for each of the B seeds; features [B, F], or None for pictures without tokens."""
        progress = progress or NoProgress()
        prompt = self.prompt if options.prompt is None else options.prompt
        asked, negative = self.texts(prompt, options.negative_prompt, progress=progress)
        if not options.negative_prompt:
            negative = empty_row(negative, self.empty_prompt)
        scene = Scene(
            prompt=asked, negative=negative, uncond=options.uncond or self.uncond, size=self.size(options)
        )
        return paint(self.pipeline, features_BF, scene, seeds=seeds, options=options, progress=progress)
