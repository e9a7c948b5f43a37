"""Selection to derived set: each distinct image through an encoder once, resumable.

The encoder is the caller's: a VAE today, feature extractors tomorrow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pfgdata.lazy import lazy_imports

if TYPE_CHECKING:
    from pfgdata.derive.encoder import Encoder, EncoderSource
    from pfgdata.derive.encoding import Encoded, Encoding
    from pfgdata.derive.options import DeriveOptions
    from pfgdata.derive.plan import DerivePlan, plan_missing, require_work
    from pfgdata.derive.run import Derivation, DeriveReport, Keeper

__all__ = [
    "Derivation",
    "DeriveOptions",
    "DerivePlan",
    "DeriveReport",
    "Encoded",
    "Encoder",
    "EncoderSource",
    "Encoding",
    "Keeper",
    "plan_missing",
    "require_work",
]

if not TYPE_CHECKING:
    __getattr__ = lazy_imports(__name__)
