"""The queue of what is to be drawn, and what has been: bounded, and safe to ask from any thread.

A drawing is one guide's pictures under one job. The oldest that has ended leaves the page when there are too
many, and its files the disk when this session has written too many; no file of another session ever does.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pfgdata.errors import ConfigError
from pfgtrain.generate import GenerateJob, GenerateOptions
from pfgtrain.web.bounds import Bounds
from pfgtrain.web.guides import Guide

__all__ = ["Drawing", "Drawings"]

State = Literal["waiting", "drawing", "done", "cancelled", "failed"]


@dataclass(slots=True, kw_only=True)
class Drawing:
    """One guide's pictures, waiting, under way or made."""

    guide: Guide
    job: GenerateJob
    options: GenerateOptions
    command: str  # that makes the same files
    id: int = 0
    asked: int = 0  # the id of the first that was asked for with it
    state: State = "waiting"
    step: int = 0  # of the sampler, over all its pictures
    task: str = ""  # what is done before the first step
    seconds: float = 0.0
    pictures: list[tuple[str, int]] = field(default_factory=list)  # name of a file, seed
    sheet: str | None = None
    error: str | None = None
    stop: bool = False
    began: float = 0.0

    @property
    def ended(self) -> bool:
        """Whether nothing more will come of it."""
        return self.state in ("done", "cancelled", "failed")

    def as_dict(self, now: float) -> dict[str, Any]:
        """What the page shows of it."""
        options = self.options
        names = ("id", "state", "step", "task", "sheet", "error", "command")
        return {
            **{name: getattr(self, name) for name in names},
            "steps": options.images_per_guide * options.num_inference_steps,
            "seconds": now - self.began if self.state == "drawing" else self.seconds,
            "guide": {"id": self.guide.id, "name": self.guide.name},
            "pictures": [{"name": name, "seed": seed} for name, seed in self.pictures],
            "settings": {
                name: getattr(options, name)
                for name in (
                    "guidance_scale",
                    "guidance_rescale",
                    "pfg_scale",
                    "num_inference_steps",
                    "images_per_guide",
                    "seed",
                    "width",
                    "height",
                    "prompt",
                    "negative_prompt",
                    "no_pfg",
                    "uncond",
                    "batch_size",
                )
            },
        }


class Drawings:
    """Drawings in the order they were asked for; `changed` is told after every change."""

    def __init__(
        self,
        folder: Path,
        *,
        bounds: Bounds,
        changed: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.folder = folder
        self._bounds = bounds
        self._changed = changed
        self._clock = clock
        self._all: dict[int, Drawing] = {}
        self._files: dict[str, int] = {}  # written by this session, oldest first -> which drawing's
        self._known: set[str] = set()  # names that may be asked for
        self._ids = itertools.count(1)
        self._lock = threading.RLock()

    def add(self, new: Iterable[Drawing]) -> list[int]:
        """Queue all of `new` and return their ids, or none: raises ConfigError where there is no room."""
        new = list(new)
        with self._lock:
            waiting = sum(one.state == "waiting" for one in self._all.values())
            if waiting + len(new) > self._bounds.waiting:
                raise ConfigError(
                    f"{waiting} drawings wait already, {self._bounds.waiting} at most; wait, or cancel some"
                )
            for one in new:
                one.id = next(self._ids)
                one.asked = new[0].id
                self._all[one.id] = one
            self._trim()
        self._changed()
        return [one.id for one in new]

    def take(self) -> Drawing | None:
        """The next one, which is now under way; None where none waits."""
        with self._lock:
            found = next((one for one in self._all.values() if one.state == "waiting"), None)
            if found is not None:
                found.state, found.began = "drawing", self._clock()
        if found is not None:
            self._changed()
        return found

    @property
    def waiting(self) -> bool:
        """Whether one waits."""
        with self._lock:
            return any(one.state == "waiting" for one in self._all.values())

    def update(self, drawing: Drawing, **values: Any) -> None:
        """Set fields of a drawing."""
        with self._lock:
            for name, value in values.items():
                setattr(drawing, name, value)
            if drawing.state != "drawing" and drawing.began:
                drawing.seconds = self._clock() - drawing.began
        self._changed()

    def made(self, drawing: Drawing, path: Path, *, seed: int | None, fresh: bool) -> None:
        """A picture (with its seed) or the sheet of a drawing is there; `fresh` if no file was before."""
        with self._lock:
            if seed is None:
                drawing.sheet = path.name
            else:
                drawing.pictures.append((path.name, seed))
            self._known.add(path.name)
            if fresh or path.name in self._files:
                self._files.pop(path.name, None)
                self._files[path.name] = drawing.id
            self._trim()
        self._changed()

    def cancel(self, number: int) -> bool:
        """End a drawing that has not ended; one that has, meanwhile, stays as it is. False if none."""
        with self._lock:
            found = self._all.get(number)
            if found is None:
                return False
            if found.state == "waiting":
                found.state = "cancelled"
            elif found.state == "drawing":
                found.stop = True
        self._changed()
        return True

    def remove(self, number: int) -> bool:
        """Take a drawing that has ended off the page, its files kept. False if none; raises ConfigError."""
        with self._lock:
            found = self._all.get(number)
            if found is None:
                return False
            if not found.ended:
                raise ConfigError("that drawing has not ended; cancel it first")
            del self._all[number]
        self._changed()
        return True

    def file(self, name: str) -> Path | None:
        """The file of a picture or sheet that this session made."""
        with self._lock:
            return self.folder / name if name in self._known else None

    def as_dicts(self) -> list[Mapping[str, Any]]:
        """What the page shows: the last asked for first, and what was asked for at once in order."""
        with self._lock:
            now = self._clock()
            ordered = sorted(self._all.values(), key=lambda one: (-one.asked, one.id))
            return [one.as_dict(now) for one in ordered]

    def _trim(self) -> None:
        """Let the oldest go that are over the bounds."""
        over = len(self._all) - self._bounds.drawings
        ended = (number for number, one in self._all.items() if one.ended)
        for number in list(itertools.islice(ended, max(0, over))):
            del self._all[number]
        while len(self._files) > self._bounds.pictures:
            number = next(iter(self._files.values()))
            if (owner := self._all.get(number)) is not None and not owner.ended:
                break  # one drawing alone is over the bound: it stays whole
            self._all.pop(number, None)
            for one in [name for name, mine in self._files.items() if mine == number]:
                del self._files[one]
                self._known.discard(one)
                (self.folder / one).unlink(missing_ok=True)
