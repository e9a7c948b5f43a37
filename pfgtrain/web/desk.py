"""All that a session of the page holds: guides, drawings, the model's thread, and the version of it all.

The version is told with every state, so that a page asks often and hears only what is new.
"""

from __future__ import annotations

import secrets
import shlex
import threading
from collections.abc import Callable, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from pfgdata.errors import ConfigError
from pfgtrain.checkpoint import Sampling
from pfgtrain.generate import GenerateJob, GenerateOptions, command_words
from pfgtrain.web.asked import settings_of
from pfgtrain.web.bounds import Bounds
from pfgtrain.web.drawings import Drawing, Drawings
from pfgtrain.web.guides import Guide, Shelf
from pfgtrain.web.worker import Load, Worker

__all__ = ["Desk", "samples"]


class Desk:
    """A session in `folder`: guides and pictures lie there, and stay.

    `job` is what a drawing is asked with where the page says nothing, `run` its run's name in a command (None
    for an adapter), `kept` how that run is best drawn. The model is loaded by `load`, once `start` is called.
    """

    def __init__(
        self,
        folder: Path,
        load: Load,
        *,
        job: GenerateJob,
        run: str | None,
        kept: Sampling | None = None,
        bounds: Bounds | None = None,
    ) -> None:
        self.folder = folder.absolute()
        self.bounds = bounds or Bounds()
        self._job = job
        self._run = run
        self._kept = kept
        self._session = secrets.token_hex(4)  # a page left open asks the server that comes after this one
        self._version = 0
        self._counting = threading.Lock()
        self.shelf = Shelf(self.folder / "guides", bounds=self.bounds)
        self.drawings = Drawings(self.folder / "pictures", bounds=self.bounds, changed=self.changed)
        self.worker = Worker(load, self.shelf, self.drawings, changed=self.changed)
        self.start = self.worker.start
        self.stop = self.worker.stop

    def changed(self) -> None:
        """Something that the page shows is new."""
        with self._counting:
            self._version += 1

    def keep_guide(self, data: bytes, name: str) -> Guide:
        """A guide on the page. Raises as `Shelf.keep`."""
        guide = self.shelf.keep(data, name)
        self.changed()
        self.worker.wake()
        return guide

    def drop_guide(self, guide: str) -> bool:
        """Take a guide off the page; False if there was none."""
        found = self.shelf.remove(guide)
        self.changed()
        return found

    def draw(self, guides: Sequence[str], settings: object) -> list[int]:
        """Queue a drawing of each guide, all or none, and return their ids.

        Raises ConfigError for a guide or a setting that cannot be, and where too many wait.
        """
        if not guides:
            raise ConfigError("choose a guide")
        found = [self.shelf.get(one) for one in dict.fromkeys(guides)]
        chosen = [one for one in found if one is not None]
        if len(chosen) < len(found):
            raise ConfigError("a guide is no longer here; choose another")
        job = settings_of(settings, self._job, bounds=self.bounds)
        options = job.options(GenerateOptions, self._kept)
        if self.worker.model is not None:
            self.worker.model.size(options)
        ids = self.drawings.add(
            Drawing(guide=one, job=job, options=options, command=self._command(job, one)) for one in chosen
        )
        self.worker.wake()
        return ids

    def state(self, since: str | None = None) -> dict[str, Any]:
        """All that the page shows, and its `version`; that alone where it is still `since`."""
        version = f"{self._session}.{self._version}"
        if since == version:
            return {"version": version}
        model = self.worker.state
        return {
            "version": version,
            "model": {
                "state": model.state,
                "task": model.task,
                "error": model.error,
                "notes": list(model.notes),
                "facts": dict(model.facts),
            },
            "guides": [one.as_dict() for one in self.shelf.all()],
            "drawings": self.drawings.as_dicts(),
        }

    def about(self) -> dict[str, Any]:
        """What does not change: the model's name, the folder, bounds, and what the fields begin with."""
        options = self._job.options(GenerateOptions, self._kept)
        job = self._job
        return {
            "name": self._run or Path(job.adapter or "").name,
            "folder": str(self.folder),
            "bounds": {"upload": self.bounds.upload, "images": self.bounds.images, "side": self.bounds.side},
            "settings": {
                "guidance_scale": options.guidance_scale,
                "guidance_rescale": options.guidance_rescale,
                "pfg_scale": options.pfg_scale,
                "num_inference_steps": options.num_inference_steps,
                "images_per_guide": options.images_per_guide,
                "seed": options.seed,
                "batch_size": options.batch_size,
            },
            "samples": sorted(samples()) if self._run == "demo" else [],
        }

    def _command(self, job: GenerateJob, guide: Guide) -> str:
        """What makes the same files in a terminal."""
        return shlex.join(command_words(job, [guide.path], run=self._run))


def samples() -> dict[str, Callable[[], bytes]]:
    """Guides to try that travel with pfg: a name, and what reads it."""
    folder = files("pfgtrain") / "web" / "static" / "guides"
    return {one.name: one.read_bytes for one in folder.iterdir() if one.name.endswith(".webp")}
