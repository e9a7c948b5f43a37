"""`python -m pipelines.rehearsal --family sd15|sdxl --out DIR`: does this machine do, and what does it take?

Makes a base of that family's true shape and a tagger of the ViT's, both of random weights, and runs ingest,
latents, fit, export and generate on a few images by the product's own commands. The pictures mean nothing;
time, memory and disk are those of a real run. What was made is removed, but for --keep.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

from pfgdata.errors import PfgError
from pfgdata.screen import show_table
from pipelines.rehearsal import FAMILIES, Forecast, Rehearsal, Step, forecast

GB = 1e9


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="python -m pipelines.rehearsal",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--family", choices=sorted(FAMILIES), required=True)
    made.add_argument("--out", type=Path, required=True, metavar="DIR", help="a folder that is not there yet")
    made.add_argument("--images", type=int, default=2, metavar="N", help="how many are ingested (2)")
    made.add_argument(
        "--train", choices=["adapter", "lora", "unet"], default="adapter", help="what the fit trains"
    )
    made.add_argument("--fit-steps", type=int, default=2, metavar="N", help="optimizer steps, batch 1 (2)")
    made.add_argument("--sampler-steps", type=int, default=2, metavar="N", help="of the one picture (2)")
    made.add_argument("--tagger", help="another tagger than a random ViT-B/448: a folder, or a name")
    made.add_argument("--keep", action="store_true", help="leave what was made")
    made.add_argument("--dry-run", action="store_true", help="say what it would take, and do nothing")
    made.add_argument("--json", action="store_true", help="print a line of JSON a step on stdout")
    return made


def main() -> int:
    """Parse, rehearse, print a line a step; 0 done, 1 a user can fix it, 130 interrupted."""
    options = parser().parse_args()
    rehearsal = Rehearsal(
        shape=FAMILIES[options.family],
        out=options.out,
        images=options.images,
        train=options.train,
        fit_steps=options.fit_steps,
        sampler_steps=options.sampler_steps,
        tagger=options.tagger,
        keep=options.keep,
    )
    try:
        if options.dry_run:
            rehearsal.check_place()
            told = forecast(rehearsal.shape, images=rehearsal.images, tagger=rehearsal.tagger is None)
            _print_forecast(told, as_json=options.json)
            return 0
        steps = []
        for step in rehearsal.run(say=lambda line: print(line, file=sys.stderr, flush=True)):
            steps.append(step)
            if options.json:
                print(json.dumps(asdict(step)), flush=True)
        if not options.json:
            _print_steps(steps)
    except PfgError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _print_forecast(told: dict[str, Forecast], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps({name: asdict(one) for name, one in told.items()}))
        return
    rows = [(name, _size(one.memory), _size(one.disk)) for name, one in told.items()]
    rows.append(("all", _size(max(one.memory or 0 for one in told.values())), _size(_disk(told))))
    show_table(("step", "memory, told", "disk, told"), rows)


def _print_steps(steps: list[Step]) -> None:
    rows = [
        (
            step.name,
            f"{step.seconds:.1f} s",
            f"{step.cpu_seconds:.1f} s",
            _size(step.memory),
            _size(step.told.memory),
            _size(step.disk),
            _size(step.told.disk),
        )
        for step in steps
    ]
    show_table(("step", "took", "processor", "memory", "told", "disk", "told"), rows)


def _disk(told: dict[str, Forecast]) -> int:
    return sum(one.disk or 0 for one in told.values())


def _size(size: int | None) -> str:
    return "-" if size is None else f"{size / GB:.2f} GB"


if __name__ == "__main__":
    sys.exit(main())
