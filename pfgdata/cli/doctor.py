"""`pfgdata doctor`: what this machine can tag with, and what hinders it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from pfgdata.cli.options import Json
from pfgdata.screen import FIXABLE, print_json, show_facts

if TYPE_CHECKING:
    from pfgdata.taggers import DoctorReport

__all__ = ["EXAMPLE", "doctor"]

EXAMPLE = "Example: pfgdata doctor --json"


def doctor(json: Json = False) -> None:
    """Say which devices can run a tagger here, and of a GPU that cannot, why and what to do.

    A small model is run on each device, so what is called usable is. Exits with 1 only where nothing can tag.
    """
    from pfgdata.taggers import diagnose

    report = diagnose()
    _show(report)
    if json:
        print_json(report.as_dict())
    if not report.can_tag:
        raise typer.Exit(FIXABLE)


def _show(report: DoctorReport) -> None:
    facts = {one.what: f"PROBLEM: {one}" if one.bad else str(one) for one in report.findings}
    gpus = [name for name in report.usable if name != "cpu"]
    best = ", ".join(gpus) or "the CPU"
    facts["so"] = f"tagging runs on {best}" if report.can_tag else "nothing here can run a tagger"
    show_facts(facts)
