"""The .json that export writes beside an adapter's .safetensors: what its tensors do not say of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pfgdata.errors import RunError
from pfgdata.hub import weights_sha256
from pfgdata.records import TaggerIdentity
from pfgtrain.config import FeaturePlan

__all__ = ["facts_beside"]

_OF_TRAINING = ("tagger", "num_tokens", "prediction_type")
_FIXED = ("prompt", "text_layer", "uncond", "empty_prompt", "resolution")  # fields of a PFGModel


def facts_beside(adapter: Path) -> dict[str, Any] | None:
    """What X.json says of X.safetensors, its tagger as a TaggerIdentity; None where export wrote none.

    `features` are what it reads, a FeaturePlan, or None where that is the tagger's alone.

    Raises RunError if it is damaged, or of another file of that name.
    """
    path = adapter.with_suffix(".json")
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
