"""pfgdata: a folder of images to a searchable feature store.

What `import pfgdata` offers, loaded when first asked for; a room's whole offer is at its own door, as in
`from pfgdata.store import Snapshot`. The function `ingest` stands at the door of `pfgdata.ingest` only: the
room has the name already.

    from pfgdata import Store, Thresholds, select
    store = Store.open(Path("feats"))
    rows = select(store.snapshot(), "has('smile')", Thresholds())
"""

from __future__ import annotations

from pfgdata.lazy import lazy_imports

TYPE_CHECKING = False  # as typing has it, whose import takes as long as all else before Ctrl-C is ours

if TYPE_CHECKING:
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

if not TYPE_CHECKING:
    __getattr__ = lazy_imports(__name__)
