"""One ingest, or one derived set, by many machines: a queue that knows no engine, and Ray, which runs it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pfgdata.lazy import lazy_imports

if TYPE_CHECKING:
    from pfgdata.cluster.deriving import derive_on
    from pfgdata.cluster.driving import Engine, WorkerRate
    from pfgdata.cluster.queue import Patience, Queue
    from pfgdata.cluster.ray import Cluster
    from pfgdata.cluster.tagging import ClusterReport, ingest_on

__all__ = [
    "Cluster",
    "ClusterReport",
    "Engine",
    "Patience",
    "Queue",
    "WorkerRate",
    "derive_on",
    "ingest_on",
]

if not TYPE_CHECKING:
    __getattr__ = lazy_imports(__name__)
