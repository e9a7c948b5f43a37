"""Selection to derived set: each distinct image through an encoder once, resumable.

The encoder is the caller's: a VAE today, feature extractors tomorrow.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pfgdata.derive.encoder import Encoder
    from pfgdata.derive.options import DeriveOptions
    from pfgdata.derive.plan import DerivePlan, plan_missing, require_work
    from pfgdata.derive.run import Derivation, DeriveReport

__all__ = [
    "Derivation",
    "DeriveOptions",
    "DerivePlan",
    "DeriveReport",
    "Encoder",
    "plan_missing",
    "require_work",
]

_LAZY = {
    "Derivation": "pfgdata.derive.run",
    "DeriveOptions": "pfgdata.derive.options",
    "DerivePlan": "pfgdata.derive.plan",
    "DeriveReport": "pfgdata.derive.run",
    "Encoder": "pfgdata.derive.encoder",
    "plan_missing": "pfgdata.derive.plan",
    "require_work": "pfgdata.derive.plan",
}

if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """Import a name of the door when it is first asked for."""
        if name in _LAZY:
            return getattr(importlib.import_module(_LAZY[name]), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
