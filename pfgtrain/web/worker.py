"""One thread that owns the model: it loads it, looks at guides, and draws what waits, one after the other.

Nothing of torch runs anywhere else. Between two steps of a drawing it looks at guides that have come, so that
nobody waits a drawing long for what the tagger saw; that is also where a drawing is cancelled.
"""

from __future__ import annotations

import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from pfgdata.errors import PfgError
from pfgdata.records import NoProgress, Progress
from pfgtrain.web.drawings import Drawing, Drawings
from pfgtrain.web.guides import Shelf

if TYPE_CHECKING:
    from pfgtrain.generate import PFGModel, Picture

__all__ = ["Load", "ModelState", "Worker"]

Load = Callable[[Progress], "PFGModel"]
_LEAVING = 3.0  # seconds that a step may take to notice that all ends


class _Cancelled(Exception):
    """The drawing under way is not wanted any more."""


@dataclass(slots=True, kw_only=True)
class ModelState:
    """How far the model is, and what is known of it once it is there."""

    state: Literal["loading", "ready", "failed"] = "loading"
    task: str = "torch and diffusers"
    error: str | None = None
    notes: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)


class Worker:
    """Draws what `drawings` holds of guides of `shelf` with the model that `load` gives."""

    def __init__(self, load: Load, shelf: Shelf, drawings: Drawings, *, changed: Callable[[], None]) -> None:
        self.state = ModelState()
        self.model: PFGModel | None = None
        self._load = load
        self._shelf = shelf
        self._drawings = drawings
        self._changed = changed
        self._wake = threading.Condition()
        self._leaving = False
        self._thread = threading.Thread(target=self._run, name="pfg-model", daemon=True)

    def start(self) -> None:
        """Begin to load, and to draw."""
        self._thread.start()

    def wake(self) -> None:
        """A guide or a drawing has come."""
        with self._wake:
            self._wake.notify_all()

    def stop(self) -> bool:
        """End at the next step; whether it has, or hangs in something long that cannot be left."""
        with self._wake:
            self._leaving = True
            self._wake.notify_all()
        if self._thread.is_alive():
            self._thread.join(_LEAVING)
        return not self._thread.is_alive()

    def look_ahead(self) -> None:
        """Between two steps: look at the guides that have come. Raises _Cancelled when all ends."""
        if self._leaving:
            raise _Cancelled
        self._look()

    def _run(self) -> None:
        try:
            model = self._load(_LoadProgress(self.state, self._changed))
            self.state.facts = _facts(model)
            self.state.notes += _notes(model)
        except Exception as problem:  # the page says it, whatever it is
            self._say(state="failed", error=_words(problem))
            return
        self.model = model
        self._say(state="ready", task="")
        while not self._leaving:
            self._look()
            if (drawing := self._drawings.take()) is not None:
                self._draw(model, drawing)
                continue
            with self._wake:
                self._wake.wait_for(self._is_asked)

    def _is_asked(self) -> bool:
        return self._leaving or self._shelf.unseen() is not None or self._drawings.waiting

    def _look(self) -> None:
        """Have the tagger look at every guide that it has not seen."""
        from pfgdata.corpus import read_image
        from pfgtrain.web.seen import what_is_seen

        while self.model is not None and (guide := self._shelf.unseen()) is not None:
            try:
                scores, _ = self.model.look(read_image(guide.path).pixels)
                guide.seen = what_is_seen(scores, self.model.tagger.vocabulary)
            except (
                Exception
            ) as problem:  # its file was changed meanwhile, or the tagger cannot: not the page's end
                guide.problem = _words(problem)
            self._changed()

    def _draw(self, model: PFGModel, drawing: Drawing) -> None:
        from pfgtrain.generate import generate

        drawings = self._drawings
        before = _names(drawings)

        def made(picture: Picture) -> None:
            drawings.made(drawing, picture.path, seed=picture.seed, fresh=picture.path.name not in before)

        try:
            report = generate(
                model,
                [drawing.guide.path],
                drawings.folder,
                options=drawing.options,
                progress=_DrawProgress(drawing, drawings, self),
                made=made,
            )
            sheet = report.contact_sheet
            drawings.made(drawing, sheet, seed=None, fresh=sheet.name not in before)
            drawings.update(drawing, state="done")
        except _Cancelled:
            drawings.update(drawing, state="cancelled")
        except Exception as problem:  # a drawing that fails does not end the page
            drawings.update(drawing, state="failed", error=_words(problem))

    def _say(self, **values: Any) -> None:
        for name, value in values.items():
            setattr(self.state, name, value)
        self._changed()


class _LoadProgress(NoProgress):
    """Shows what is being loaded."""

    def __init__(self, state: ModelState, changed: Callable[[], None]) -> None:
        self._state = state
        self._changed = changed

    def start(self, task: str, *, total: int | None, unit: str = "images", brief: bool = False) -> None:
        self._state.task = unit if task == "load" else f"{task} ({unit})"
        self._changed()

    def say(self, message: str) -> None:
        self._state.notes.append(message)
        self._changed()


class _DrawProgress(NoProgress):
    """Counts the steps of a drawing, and ends it where it is cancelled."""

    def __init__(self, drawing: Drawing, drawings: Drawings, worker: Worker) -> None:
        self._drawing = drawing
        self._drawings = drawings
        self._worker = worker
        self._tasks: list[str] = []

    def start(self, task: str, *, total: int | None, unit: str = "images", brief: bool = False) -> None:
        self._tasks.append(task)
        self._drawings.update(self._drawing, task="" if task == "generate" else task)

    def advance(self, count: int = 1, **figures: float) -> None:
        if self._tasks[-1] == "generate":
            self._drawings.update(self._drawing, step=self._drawing.step + count)
        if self._drawing.stop:
            raise _Cancelled
        self._worker.look_ahead()

    def finish(self) -> None:
        self._tasks.pop()
        self._drawings.update(self._drawing, task="")


def _names(drawings: Drawings) -> frozenset[str]:
    """The files that are there already: no bound ever removes one of them."""
    folder = drawings.folder
    return frozenset(path.name for path in folder.iterdir()) if folder.is_dir() else frozenset()


def _facts(model: PFGModel) -> dict[str, Any]:
    """What the page tells of a model, and what its fields begin with."""
    from pfgtrain.generate import GenerateOptions, without_folders

    unet = model.pipeline.unet
    return {
        "base": without_folders(model.base.name),
        "tagger": without_folders(model.tagger.identity.name),
        "prompt": model.prompt,
        "uncond": model.uncond,
        "size": list(model.size(GenerateOptions())),
        "step": model.step,
        "tokens": model.origin["num_tokens"],
        "device": str(unet.device),
        "dtype": str(unet.dtype).removeprefix("torch."),
        "weights": model.origin["weights"],
    }


def _notes(model: PFGModel) -> Sequence[str]:
    notes = [f"{part} is untrained: its pictures mean nothing" for part in model.untrained]
    if not model.has_tokens:
        notes.append("this run has no tokens: its pictures are of the prompt, not of the guide")
    return notes


def _words(problem: Exception) -> str:
    """A problem in one line; one that is not the user's with its traceback on the terminal."""
    if isinstance(problem, PfgError):
        return str(problem)
    traceback.print_exception(problem, file=sys.stderr)
    return f"{type(problem).__name__}: {' '.join(str(problem).split())[:300]}"
