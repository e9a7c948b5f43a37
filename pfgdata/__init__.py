"""pfgdata: a folder of images to a searchable feature store.

What `import pfgdata` offers, loaded when first asked for; a room's whole offer is at its own door, as in
`from pfgdata.store import Snapshot`. The function `ingest` stands at the door of `pfgdata.ingest` only: the
room has the name already.

    import pfgdata
    with pfgdata.open("feats/") as store:
        features = store.query("has('smile')").features()
"""

from __future__ import annotations

import importlib

TYPE_CHECKING = False  # as typing has it, whose import takes as long as all else before Ctrl-C is ours

if TYPE_CHECKING:
    from typing import Any

    from pfgdata.corpus import plan_segments
    from pfgdata.errors import PfgError
    from pfgdata.latents import encode_latents
    from pfgdata.query import Answer, OpenStore, Session, Thresholds, count, open, run_query, select
    from pfgdata.records import Progress, Selection
    from pfgdata.store import LatentSet, Snapshot, Store
    from pfgdata.taggers import OnnxTagger
    from pfgdata.vaes import Vae
    from pfgdata.vocabulary import Vocabulary

__all__ = [
    "Answer",
    "LatentSet",
    "OnnxTagger",
    "OpenStore",
    "PfgError",
    "Progress",
    "Selection",
    "Session",
    "Snapshot",
    "Store",
    "Thresholds",
    "Vae",
    "Vocabulary",
    "count",
    "encode_latents",
    "open",
    "plan_segments",
    "run_query",
    "select",
]

_LAZY = {
    "Answer": "pfgdata.query",
    "OpenStore": "pfgdata.query",
    "Session": "pfgdata.query",
    "open": "pfgdata.query",
    "LatentSet": "pfgdata.store",
    "OnnxTagger": "pfgdata.taggers",
    "PfgError": "pfgdata.errors",
    "Progress": "pfgdata.records",
    "Selection": "pfgdata.records",
    "Snapshot": "pfgdata.store",
    "Store": "pfgdata.store",
    "Thresholds": "pfgdata.query",
    "Vae": "pfgdata.vaes",
    "Vocabulary": "pfgdata.vocabulary",
    "count": "pfgdata.query",
    "encode_latents": "pfgdata.latents",
    "plan_segments": "pfgdata.corpus",
    "run_query": "pfgdata.query",
    "select": "pfgdata.query",
}

if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """Import a name of the api when it is first asked for."""
        if name in _LAZY:
            return getattr(importlib.import_module(_LAZY[name]), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
