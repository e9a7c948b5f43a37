"""The demo as a newcomer runs it: from images to pictures, and a second time without doing anything twice."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pfgdata.store import Store, verify
from pipelines.recipe import find_recipe

ROOT = Path(__file__).parents[2]


def demo(out: Path) -> dict[str, str]:
    """Run `python -m pipelines demo`; step -> result."""
    run = subprocess.run(
        [sys.executable, "-m", "pipelines", "demo", "--out", str(out)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    head, *rows = (line.split("\t") for line in run.stdout.splitlines())
    assert head == ["step", "result", "took"]
    return {step: result for step, result, _ in rows}


def report_of(out: Path, name: str) -> dict[str, Any]:
    report: dict[str, Any] = json.loads((out / "evaluation" / name / "report.json").read_text())
    return report


def top1(report: dict[str, Any], role: str, row: str) -> dict[str, float]:
    figure: dict[str, float] = report["viewers"][role]["rows"][row]["retrieval"]["guide"]["top1"]
    return figure


@pytest.mark.slow
def test_the_demo_runs_and_a_second_run_does_nothing_twice(tmp_path: Path) -> None:
    first = demo(tmp_path)
    assert list(first) == ["ingest", "query", "latents", "fit", "evaluate", "generate"]
    assert first["ingest"].startswith("240 images = 240 tagged")
    assert first["latents"].startswith("240 images = 240 encoded")
    log = tmp_path / "runs" / "demo" / "metrics.jsonl"
    metrics = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["step"] for line in metrics] == list(range(1, len(metrics) + 1))
    early, late = (sum(line["loss"] for line in part) / 20 for part in (metrics[:20], metrics[-20:]))
    assert late < early
    for folder in ("pictures", "pictures-demo"):
        assert len(list((tmp_path / folder).glob("*.png"))) == 5 * 4 + 1
    start, end = (report_of(tmp_path, name) for name in ("start", "fit"))
    for role in ("tagger", "judge"):
        before, after = top1(start, role, "pfg"), top1(end, role, "pfg")
        for bound in (
            before,
            top1(end, role, "style"),
            top1(end, role, "shuffled"),
            top1(end, role, "no_pfg"),
        ):
            assert after["low"] > bound["high"]  # 95 % intervals that do not meet
    assert verify(tmp_path / "feats", deep=True) == []

    shards = Store.open(tmp_path / "feats").snapshot().present
    second = demo(tmp_path)
    assert second["ingest"].startswith("240 images = 0 tagged + 0 copied + 240 unchanged")
    assert second["latents"].startswith("240 images = 0 encoded + 240 present")
    assert Store.open(tmp_path / "feats").snapshot().present == shards
    assert len(log.read_text().splitlines()) == len(metrics)
    assert second["evaluate"] == first["evaluate"]


def test_an_unknown_recipe_is_answered_with_those_that_are_shipped() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "pipelines", "dmeo"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert run.returncode == 1
    assert "demo" in run.stderr and "Traceback" not in run.stderr
    assert find_recipe("demo").is_file()
