"""The .json that export writes beside an adapter's .safetensors, one folder above its .pt.

It tells what the tensors do not say of themselves.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from pfgdata.errors import RunError
from pfgdata.hub import weights_sha256
from pfgdata.records import TaggerIdentity
from pfgtrain.config import FeaturePlan

__all__ = ["document_of", "facts_beside"]

_OF_TRAINING = ("tagger", "num_tokens", "prediction_type")
_FIXED = ("prompt", "text_layer", "uncond", "empty_prompt", "resolution")  # fields of a PFGModel


def document_of(adapter: Path) -> Path:
    """Where X.json of an exported X.safetensors or X-to-copy/X.pt is: beside it, else one folder up."""
    beside = adapter.with_suffix(".json")
    up = os.path.normpath(adapter.parent / os.pardir)  # of a plain file name too
    return beside if beside.exists() else Path(up, beside.name)


def facts_beside(adapter: Path) -> dict[str, Any] | None:
    """What its X.json says of an adapter, its tagger as a TaggerIdentity; None where export wrote none.

    `features` are what it reads, a FeaturePlan, or None where that is the tagger's alone.

    Raises RunError if it is damaged, or of another file of that name.
    """
    path = document_of(adapter)
    try:
        facts = json.loads(path.read_bytes())
        if not isinstance(facts, dict) or not {"files", "tagger"} <= facts.keys():
            return None  # another program's
        known = set(facts["files"].values())
        facts["tagger"] = TaggerIdentity.of(facts["tagger"])
        found = {name: facts[name] for name in (*_OF_TRAINING, *_FIXED)}
        found["features"] = FeaturePlan.of(facts["features"]) if facts.get("features") else None
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as problem:
        raise RunError(
            f"{path}: not as export writes it ({problem!r}); export again, or move it away"
        ) from None
    if weights_sha256(adapter) not in known:
        raise RunError(f"{path} is of another file than {adapter.name}; export again, or move it away")
    return found
