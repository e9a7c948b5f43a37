"""`--root OLD=NEW`: a corpus that lies elsewhere now. Either name may hold a `=` of its own (year=2024)."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import typer

from pfgdata.errors import ConfigError
from pfgdata.paths import Url, user_place

__all__ = ["moves_of"]


def moves_of(pairs: Sequence[str], roots: Collection[str]) -> list[tuple[str, str]]:
    """The root that each OLD=NEW names, and its place now as a real path or URL.

    OLD is the longest of `roots` that a pair begins with, else what stands before its first `=`. Raises
    ConfigError where there is no folder NEW.
    """
    return [_move(pair, roots) for pair in pairs]


def _move(pair: str, roots: Collection[str]) -> tuple[str, str]:
    cuts = [at for at, letter in enumerate(pair) if letter == "="]
    known = [at for at in cuts if _root(pair[:at]) in roots]
    cut = max(known) if known else min(cuts, default=len(pair))
    new = pair[cut + 1 :]
    if not new:
        raise typer.BadParameter(f"--root {pair}: write it OLD=NEW")
    location = user_place(new)
    if isinstance(location, Url):
        from pfgdata.corpus import require_reachable

        require_reachable(location)
    else:
        location = location.resolve()
        if not location.is_dir():
            raise ConfigError(f"--root {pair}: there is no folder {location}")
    return str(user_place(pair[:cut])), str(location)


def _root(text: str) -> str | None:
    """The name of the root that a user may mean by `text`; None for what can be none."""
    try:
        return str(user_place(text))
    except ConfigError:
        return None
