"""Options of the commands that a cluster can run, and what they say of its workers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from pfgdata.screen import FIXABLE, show_facts

if TYPE_CHECKING:
    from pfgdata.cluster import Cluster, WorkerRate

__all__ = ["ClusterOption", "WorkersOption", "cluster_named", "require_taken", "worker_facts"]

_MANY = "Many machines"
_SHOWN = 8  # workers; the rest is in --json

ClusterOption = Annotated[
    str | None,
    typer.Option(
        "--cluster",
        metavar="WHERE",
        help="Have the workers of a Ray cluster do it: auto (on this machine) or HOST:PORT of its head.",
        show_default=False,
        rich_help_panel=_MANY,
    ),
]
WorkersOption = Annotated[
    int | None,
    typer.Option(
        "--workers",
        metavar="N",
        min=1,
        help="Workers of --cluster.",
        show_default="one for each GPU, else for each machine",
        rich_help_panel=_MANY,
    ),
]


def cluster_named(address: str | None, workers: int | None) -> Cluster | None:
    """The cluster that the flags name, if any."""
    if address is None:
        if workers is not None:
            raise typer.BadParameter("--workers is for --cluster")
        return None
    from pfgdata.cluster import Cluster

    return Cluster(address=address, workers=workers)


def worker_facts(workers: Mapping[str, WorkerRate]) -> dict[str, str]:
    """What each worker did, in a line."""
    said = [f"{name} {rate.images_per_second:.3g}" for name, rate in workers.items()]
    if not said:
        return {}
    more = f" and {len(said) - _SHOWN} more" if len(said) > _SHOWN else ""
    return {"workers": f"{', '.join(said[:_SHOWN])}{more} images/s"}


def require_taken(refused: Sequence[tuple[str, str]]) -> None:
    """Name parts that could not be taken into the store, and end with exit code 1 if there are any."""
    for part, why in refused[:_SHOWN]:
        show_facts({"refused": why if part in why else f"{part}: {why}"})
    if refused:
        raise typer.Exit(FIXABLE)
