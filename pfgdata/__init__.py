"""pfgdata: a folder of images to a searchable feature store.

What `import pfgdata` offers, loaded when first asked for; a room's whole offer is at its own door, as in
`from pfgdata.store import Snapshot`. The function `ingest` stands at the door of `pfgdata.ingest` only: the
room has the name already.

    from pfgdata import Store, Thresholds, select
    store = Store.open(Path("feats"))
    rows = select(store.snapshot(), "has('smile')", Thresholds())
"""

from __future__ import annotations

import importlib

TYPE_CHECKING = False  # as typing has it, whose import takes as long as all else before Ctrl-C is ours

if TYPE_CHECKING:
    from typing import Any

    from pfgdata.corpus import plan_segments
    from pfgdata.errors import PfgError
    from pfgdata.latents import LatentPass
    from pfgdata.query import Thresholds, count, run_query, select
    from pfgdata.records import Progress, Selection
    from pfgdata.store import LatentSet, Snapshot, Store
    from pfgdata.taggers import OnnxTagger
    from pfgdata.vaes import Vae
    from pfgdata.vocabulary import Vocabulary

__all__ = [
    "LatentPass",
    "LatentSet",
    "OnnxTagger",
    "PfgError",
    "Progress",
    "Selection",
    "Snapshot",
    "Store",
    "Thresholds",
    "Vae",
    "Vocabulary",
    "count",
    "plan_segments",
    "run_query",
    "select",
]

_LAZY = {
    "LatentPass": "pfgdata.latents",
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
