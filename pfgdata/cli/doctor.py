"""`pfgdata doctor`: what this machine can tag with, and what hinders it; what a tagger is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from pfgdata.cli.options import Json
from pfgdata.screen import FIXABLE, ScreenProgress, print_json, show_facts

if TYPE_CHECKING:
    from pfgdata.taggers import DoctorReport, TaggerFacts

__all__ = ["EXAMPLE", "doctor"]

EXAMPLE = "Examples: pfgdata doctor --json; pfgdata doctor --tagger ./my-tagger --convention cl-tagger-v1"


def doctor(
    *,
    tagger: Annotated[
        str | None, typer.Option(help="Say what this tagger is: catalog name, hub id, folder, or demo.")
    ] = None,
    convention: Annotated[
        str | None,
        typer.Option(
            help="File (.toml, .json) of how --tagger takes pictures, or a catalog name whose way it is.",
            show_default="as the catalog or the files beside the model say",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Say which devices can run a tagger here, and of a GPU that cannot, why and what to do.

    A small model is run on each device, so what is called usable is. Exits with 1 only where nothing can tag.
    With --tagger instead: load it on the CPU, prove its feature, and say how it takes pictures and who says
    so, its tags, its licence. With --json its convention is one that --convention takes.
    """
    if tagger is None:
        if convention is not None:
            raise typer.BadParameter("--convention is of a tagger; name one with --tagger")
        _machine(json)
        return
    facts = _tagger(tagger, convention)
    show_facts(facts.as_lines())
    if json:
        print_json(facts.as_dict())


def _tagger(name: str, convention: str | None) -> TaggerFacts:
    from pfgdata.records import during_one
    from pfgdata.taggers import OnnxTagger, convention_named, describe

    asked = convention_named(convention) if convention else None
    with ScreenProgress() as progress, during_one(progress, "load", unit="taggers"):
        return describe(OnnxTagger.load(name, preprocess=asked, device="cpu"))


def _machine(json: bool) -> None:
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
