"""A model's name to a local folder and its revision, the hash and the writer of weights; only here."""

from __future__ import annotations

from pfgdata.hub.checkpoints import single_file_width
from pfgdata.hub.families import FAMILIES, SD1, SD2, SDXL, FamilyFacts, family_titles
from pfgdata.hub.names import DEMO, Resolved, repository_of, resolve
from pfgdata.hub.repository import weights_sha256
from pfgdata.hub.tensors import write_tensors

__all__ = [
    "DEMO",
    "FAMILIES",
    "SD1",
    "SD2",
    "SDXL",
    "FamilyFacts",
    "Resolved",
    "family_titles",
    "repository_of",
    "resolve",
    "single_file_width",
    "weights_sha256",
    "write_tensors",
]
