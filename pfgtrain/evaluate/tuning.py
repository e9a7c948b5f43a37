"""Which guidance and scale to report with, tried on other guides than those reported."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from pfgdata.errors import ConfigError
from pfgdata.records import NoProgress, Progress, during
from pfgtrain.evaluate.figures import measure
from pfgtrain.evaluate.guides import Guide, read_view
from pfgtrain.evaluate.options import EvaluateOptions
from pfgtrain.evaluate.report import Trial, Tuning
from pfgtrain.evaluate.rows import Seen
from pfgtrain.evaluate.studio import Real, Studio
from pfgtrain.evaluate.viewers import TAGGER, Pool, Viewer
from pfgtrain.generate import PFGModel

__all__ = ["GRID", "require_guides", "seen_by", "tune"]

GRID = tuple((guidance, 1.0) for guidance in (1.5, 2.0, 3.0, 4.0, 5.0))  # guidance scale, PFG scale


def tune(
    model: PFGModel,
    guides: Sequence[Guide],
    *,
    reported: Sequence[Guide],
    options: EvaluateOptions,
    grid: Sequence[tuple[float, float]] = GRID,
    progress: Progress | None = None,
) -> Tuning:
    """Try each setting of `grid` on `guides`; the best is that of the highest scaled cosine.

    The cosine decides and not top-1, which moves in steps of one guide. Raises ConfigError if a character or
    an image is also among the `reported`.
    """
    progress = progress or NoProgress()
    require_guides(model, guides)
    _require_apart(guides, reported)
    viewer = Viewer(role=TAGGER, tagger=model.tagger, threshold=options.threshold)
    studio = Studio(model=model, viewers=[viewer], options=options, progress=progress)
    real = studio.real(guides)
    names = [guide.name for guide in guides]
    trials = []
    pictures = len(grid) * len(guides) * options.images_per_guide
    with during(progress, "tune", total=pictures * options.num_inference_steps, unit="steps", brief=False):
        for guidance, scale in grid:
            studio.options = replace(options, guidance_scale=guidance, pfg_scale=scale)
            results = studio.results(real.features_KF, names)
            seen = seen_by(TAGGER, real, results=results)
            row = measure(viewer, seen, guides, options=options).rows["pfg"]
            top1 = row.retrieval["guide"].top1
            trials.append(Trial(guidance_scale=guidance, pfg_scale=scale, scaled=row.scaled, top1=top1))
    values = [trial.scaled.value if trial.scaled else -np.inf for trial in trials]
    return Tuning(guides=names, trials=trials, best=int(np.argmax(values)))


def seen_by(
    role: str,
    real: Real,
    *,
    results: dict[str, Pool],
    no_pfg: dict[str, Pool] | None = None,
    copies: dict[str, Pool] | None = None,
) -> Seen:
    """What the viewer of that role saw of everything."""
    views = real.views[role]
    return Seen(
        raw=real.raw[role],
        views=views,
        ceiling=views.take(np.flatnonzero(real.view_M == 0)),
        others=views.take(np.flatnonzero(real.view_M == 1)),
        results=results[role],
        no_pfg=no_pfg[role] if no_pfg else None,
        copies=copies[role] if copies else None,
        plain=real.plain.get(role),
    )


def require_guides(model: PFGModel, guides: Sequence[Guide]) -> None:
    """Raise ConfigError unless the model is told a guide at all, and there are at least two to tell apart."""
    if not model.has_tokens:
        raise ConfigError("this run has no tokens (num_tokens = 0): its pictures follow no guide")
    if len(guides) < 2:
        raise ConfigError(
            f"{len(guides)} guide: name at least two characters, or there is none to take it for"
        )


def _require_apart(guides: Sequence[Guide], reported: Sequence[Guide]) -> None:
    characters = {guide.character for guide in reported if guide.character is not None}
    images = {read_view(guide, view).content_id for guide in reported for view in guide.views}
    for guide in guides:
        if guide.character in characters:
            raise ConfigError(f"{guide.character} is tuned on and reported; name other guides to tune on")
        for view in guide.views:
            if read_view(guide, view).content_id in images:
                raise ConfigError(f"{view} is tuned on and reported; name other guides to tune on")
