"""One evaluation: the pictures of all rows, what the viewers see in them, the report and its page.

All rows that are painted begin from the same noise, picture i of each from seed + i.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from blake3 import blake3

from pfgdata.errors import ConfigError, RunError
from pfgdata.files import Disk, canonical_json
from pfgdata.records import NoProgress, Progress, during
from pfgdata.taggers import Tagger
from pfgtrain.base import SAMPLER
from pfgtrain.evaluate.figures import measure
from pfgtrain.evaluate.guides import Guide, read_view
from pfgtrain.evaluate.measures import ratio, resamples
from pfgtrain.evaluate.options import EvaluateOptions
from pfgtrain.evaluate.page import page
from pfgtrain.evaluate.pixels import pixel_rows
from pfgtrain.evaluate.report import EvaluateReport, GuideReport, NearestTraining, PixelReport, report_json
from pfgtrain.evaluate.setup import EvaluateSetup
from pfgtrain.evaluate.studio import Real, Studio
from pfgtrain.evaluate.training import TrainingImages
from pfgtrain.evaluate.tuning import require_guides, seen_by
from pfgtrain.evaluate.viewers import JUDGE, TAGGER, Pool, Viewer
from pfgtrain.generate import PFGModel, without_folders

__all__ = ["evaluate", "require_possible"]

REPORT_FILE, PAGE_FILE = "report.json", "index.html"


def evaluate(
    model: PFGModel,
    setup: EvaluateSetup,
    *,
    out_dir: Path | None = None,
    progress: Progress | None = None,
) -> EvaluateReport:
    """Paint, look and measure; with `out_dir` write report.json, index.html and pictures/ there, whole.

    Nothing is written without `out_dir`. Raises ConfigError where nothing can be told (one guide, no tokens,
    the run's tagger as its own judge), AccessError or ContentError for a guide, before anything is painted.
    """
    started, progress = time.perf_counter(), progress or NoProgress()
    guides, options = setup.guides, setup.options
    require_possible(model, setup, out_dir=out_dir)
    model.size(options.pictures())  # raises before anything is read
    ids = [_first_id(guide) for guide in guides]
    gallery = _others(setup.gallery, guides, ids)
    about, viewers = _about(model), _viewers(model, setup)
    studio = Studio(
        model=model,
        viewers=viewers,
        options=options,
        progress=progress,
        folder=out_dir / "pictures" / _digest(about, options, ids) if out_dir else None,
        drawn=len(guides),
    )
    real = studio.real([*guides, *gallery])
    results, no_pfg = _paint(studio, real, guides)
    copies, nearest, more = _trained(studio, real, results[TAGGER], setup.training, guides)
    report = EvaluateReport(
        model=about,
        options=options,
        guides=_guide_reports(studio, setup, ids, out_dir=out_dir),
        viewers={
            viewer.role: measure(
                viewer,
                seen_by(viewer.role, real, results=results, no_pfg=no_pfg, copies=copies),
                guides,
                gallery=gallery,
                options=options,
            )
            for viewer in viewers
        },
        pixels=_pixels(studio, len(guides)),
        nearest_training=nearest,
        tuning=setup.tuning,
        no_pfg_pictures=_relative(studio.files.get((-1, "results"), []), out_dir),
        notes=[*setup.notes, *_untrained(model), *_twins(ids), *_lacking(real, len(guides)), *more],
        seconds=round(time.perf_counter() - started, 3),
        further=len(gallery),
    )
    if out_dir:
        _write(report, out_dir)
    return report


def _viewers(model: PFGModel, setup: EvaluateSetup) -> list[Viewer]:
    """Who looks at the pictures: the run's tagger, and the judge if there is one."""
    taggers = {TAGGER: model.tagger, JUDGE: setup.judge}
    threshold = setup.options.threshold
    return [Viewer(role=role, tagger=one, threshold=threshold) for role, one in taggers.items() if one]


def _pixels(studio: Studio, count: int) -> dict[str, PixelReport]:
    """The figures of pixels, over the same resamples as all others."""
    options = studio.options
    drawn_RK = resamples(count, count=options.resamples, seed=options.seed)
    return pixel_rows(studio.strokes, count, seed=options.seed, resamples_RK=drawn_RK)


def _paint(studio: Studio, real: Real, guides: Sequence[Guide]) -> tuple[dict[str, Pool], dict[str, Pool]]:
    """The run's pictures of the guides, and those of the prompt alone."""
    pictures = (len(guides) + 1) * studio.options.images_per_guide
    total = pictures * studio.options.num_inference_steps
    with during(studio.progress, "generate", total=total, unit="steps", brief=False):
        results = studio.results(real.features_KF, [guide.name for guide in guides])
        no_pfg = studio.without_guide()
    return results, no_pfg


def _trained(
    studio: Studio,
    real: Real,
    results: Pool,
    training: TrainingImages | None,
    guides: Sequence[Guide],
) -> tuple[dict[str, Pool] | None, NearestTraining | None, list[str]]:
    """What the training images are needed for, and what there is to say of them."""
    if training is None:
        return (
            None,
            None,
            ["the images trained on are not here: no row copier, no distance to them, guides unchecked"],
        )
    names, count = [guide.name for guide in guides], len(guides)
    with during(studio.progress, "nearest", total=3, unit="searches"):
        row_K, _ = training.nearest(real.raw[TAGGER].embeddings.features_MF[:count])
        studio.progress.advance()
        _, guide_K = training.nearest(
            real.views[TAGGER].embeddings.features_MF[real.view_M == 0][:count]
        )  # as blurred
        studio.progress.advance()
        _, result_M = training.nearest(results.embeddings.features_MF)
        studio.progress.advance()
    copies = studio.copies(training, row_K.tolist(), names)
    drawn_RK = resamples(count, count=studio.options.resamples, seed=studio.options.seed)
    per_result = [result_M[results.of(k)] for k in range(count)]
    result_K = np.array([values.mean() for values in per_result])
    ours, theirs = (ratio(values_K, np.ones(count), drawn_RK) for values_K in (result_K, guide_K))
    assert ours is not None and theirs is not None
    nearest = NearestTraining(
        images=len(training),
        results=ours,
        results_max=float(result_M.max()),
        guides=theirs,
        guides_max=float(guide_K.max()),
        per_guide=guide_K.tolist(),
        per_result=[values.tolist() for values in per_result],
    )
    here = len(copies[TAGGER].owners_M) if copies else 0
    said = [training.doubt] if training.doubt else []
    if here < count:
        said.append(f"row copier: {count - here} of {count} nearest training images are not here")
    return copies or None, nearest, said


def _first_id(guide: Guide) -> bytes:
    return read_view(guide, guide.views[0]).content_id


def _others(gallery: Sequence[Guide], guides: Sequence[Guide], ids: Sequence[bytes]) -> list[Guide]:
    """Those of the gallery that are none of the guides, by name or image: twice there, it would be a miss."""
    characters = {guide.character for guide in guides if guide.character is not None}
    others = [guide for guide in gallery if guide.character not in characters]
    return [guide for guide in others if _first_id(guide) not in ids]


def _guide_reports(
    studio: Studio, setup: EvaluateSetup, ids: Sequence[bytes], *, out_dir: Path | None
) -> list[GuideReport]:
    return [
        GuideReport(
            name=guide.name,
            character=guide.character,
            style=guide.style,
            content_id=image.hex(),
            trained_on=setup.training.holds(image) if setup.training else None,
            pictures={
                kind: _relative(paths, out_dir) for (owner, kind), paths in studio.files.items() if owner == k
            },
        )
        for k, (guide, image) in enumerate(zip(setup.guides, ids, strict=True))
    ]


def _relative(paths: Sequence[Path], out_dir: Path | None) -> list[str]:
    return [path.relative_to(out_dir).as_posix() for path in paths] if out_dir else []


def _untrained(model: PFGModel) -> list[str]:
    return [
        f"{part} is untrained (weights from a fixed seed): nothing here means much"
        for part in model.untrained
    ]


def _lacking(real: Real, count: int) -> list[str]:
    """What there is to say of guides of which a feature set had no vector: figures are lower for it."""
    return [
        f"feature set {label} has no vector of {lacking} of {count} guides: the pad stood for its tokens"
        for label, lacking in real.missing.items()
    ]


def _twins(ids: Sequence[bytes]) -> list[str]:
    """What there is to say of guides that are one image: no picture can be told to be of the one."""
    same = sum(count for count in Counter(ids).values() if count > 1)
    return [f"{same} guides are the same image as another: each is a miss of the other"] if same else []


def require_possible(model: PFGModel, setup: EvaluateSetup, *, out_dir: Path | None) -> None:
    """Raise what `evaluate` would of these before it reads a guide; RunError: `out_dir` cannot be written."""
    require_guides(model, setup.guides)
    _require_other(setup.judge, model.tagger)
    if out_dir is None:
        return
    folder = next(path for path in (out_dir, *out_dir.parents) if path.exists())
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise RunError(f"{out_dir}: cannot be written; choose another --out")


def _require_other(judge: Tagger | None, tagger: Tagger) -> None:
    if judge is not None and judge.identity.weights_sha256 == tagger.identity.weights_sha256:
        raise ConfigError(
            f"judge {judge.identity.name} is the run's own tagger, whose features it follows; name another"
        )


def _about(model: PFGModel) -> dict[str, Any]:
    """Which model it is, without the paths of this machine."""
    identity = model.tagger.identity
    return {
        "base": without_folders(model.base.name),
        "base_revision": model.base.revision,
        "prediction_type": model.base.prediction_type,
        "tagger": {**identity.as_dict(), "name": without_folders(identity.name)},
        "prompt": model.prompt,
        "uncond": model.uncond,
        "empty_prompt": model.empty_prompt,
        "resolution": model.resolution,
        **SAMPLER,
        **model.origin,
    }


def _digest(about: dict[str, Any], options: EvaluateOptions, guides: Sequence[bytes]) -> str:
    """Eight hex digits that stand for all that decides the pictures."""
    value = {"of": about, "options": asdict(options), "guides": [image.hex() for image in guides]}
    return blake3(canonical_json(value)).hexdigest()[:8]


def _write(report: EvaluateReport, out_dir: Path) -> None:
    try:
        Disk().make_folder(out_dir)
        Disk().replace_file(out_dir / PAGE_FILE, page(report).encode())
        Disk().replace_file(out_dir / REPORT_FILE, report_json(report).encode())
    except OSError as error:
        raise RunError(f"{out_dir}: cannot be written ({error.strerror}); choose another --out") from error
