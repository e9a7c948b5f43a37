"""A model's name to a local folder and its revision, and the hash of weights; only here."""

from __future__ import annotations

from pfgdata.hub.names import DEMO, Resolved, resolve
from pfgdata.hub.repository import weights_sha256

__all__ = ["DEMO", "Resolved", "resolve", "weights_sha256"]
