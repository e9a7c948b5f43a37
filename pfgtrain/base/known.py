"""The families that are known here, and which one a folder or a run is of."""

from __future__ import annotations

from pathlib import Path

from pfgdata.errors import ModelError, RunError
from pfgdata.hub import family_titles
from pfgtrain.base.configs import why_other_model
from pfgtrain.base.families import Family
from pfgtrain.base.sdxl import Sdxl
from pfgtrain.base.stable_diffusion import STABLE_DIFFUSION_1, STABLE_DIFFUSION_2

__all__ = ["FAMILIES", "family_named", "family_of"]

FAMILIES: tuple[Family, ...] = (STABLE_DIFFUSION_1, STABLE_DIFFUSION_2, Sdxl())


def family_of(folder: Path, *, name: str) -> Family:
    """The family of the diffusers folder of base `name`. Raises ModelError if it is of none, or not whole."""
    if reason := why_other_model(folder):
        raise ModelError(f"{name}: {reason}; a base is {family_titles()}")
    family = next(family for family in FAMILIES if family.recognises(folder))
    if reason := family.why_not(folder, name=name):
        raise ModelError(reason)
    return family


def family_named(name: str) -> Family:
    """The family that run.json calls `name`. Raises RunError for one that is not known here."""
    for family in FAMILIES:
        if family.facts.name == name:
            return family
    raise RunError(f"a run on a base of family {name!r}, which this pfgtrain does not know; upgrade pfg")
