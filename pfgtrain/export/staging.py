"""Files written whole or not at all: all of an export in a hidden folder first, then each by one rename.

What is there already and equal, byte for byte, is left as it is; what differs is refused before anything is
touched. So an export that is asked for twice changes nothing.
"""

from __future__ import annotations

import filecmp
from collections.abc import Callable, Sequence
from pathlib import Path

from safetensors import SafetensorError

from pfgdata.errors import RunError
from pfgdata.files import Disk

__all__ = ["publish"]


def publish(
    to: Path,
    names: Sequence[str],
    *,
    write: Callable[[Path], None],
    force: bool = False,
    disk: Disk | None = None,
) -> list[Path]:
    """The paths of `names` below `to`, files or folders, once `write` has made them in a folder given.

    Raises RunError if one of them exists with other content, unless `force`, holds what no export wrote, or
    cannot be written; nothing that was there is then changed.
    """
    disk = disk or Disk()
    try:
        disk.make_folder(to)
        fresh = disk.temporary(to)
        try:
            write(fresh)
            changed = [name for name in names if not _same(fresh / name, to / name)]
            _require_free(to, changed, force=force)
            _require_ours(fresh, to, changed)
            for name in changed:
                _move(fresh / name, to / name, disk=disk)
        finally:
            disk.discard(fresh)
    except (OSError, SafetensorError) as problem:  # a full disk: plain, or as safetensors says it
        told = (
            problem.strerror if isinstance(problem, OSError) else None
        )  # without a path that is gone by now
        reason = told or (str(problem).splitlines() or [type(problem).__name__])[0]
        raise RunError(
            f"{to}: not written ({reason[:160]}); free the disk or choose another --to"
        ) from problem
    return [to / name for name in names]


def _require_free(to: Path, names: Sequence[str], *, force: bool) -> None:
    taken = [name for name in names if (to / name).exists()]
    if taken and not force:
        more = f" and {len(taken) - 1} more" if len(taken) > 1 else ""
        raise RunError(
            f"{to / taken[0]}{more}: there already, and other; choose another --to, or add --force"
        )


def _require_ours(fresh: Path, to: Path, names: Sequence[str]) -> None:
    """Raise RunError rather than replace what no export wrote: `--force` is for an export's own files."""
    for name in names:
        ours, theirs = fresh / name, to / name
        if theirs.exists() and ours.is_dir() != theirs.is_dir():
            kind = "folder" if theirs.is_dir() else "file"
            raise RunError(f"{theirs}: is a {kind} of yours in the place of what is exported; move it away")
        if theirs.is_dir():
            foreign = {p.relative_to(theirs) for p in theirs.rglob("*")} - {
                p.relative_to(ours) for p in ours.rglob("*")
            }
            if foreign:
                raise RunError(
                    f"{theirs / min(foreign)}: is no file of an export; move it away, it would be lost"
                )


def _move(fresh: Path, final: Path, *, disk: Disk) -> None:
    if fresh.is_dir():
        if final.exists():
            disk.remove_folder(final)
        disk.commit_folder(fresh, final)
        return
    disk.make_folder(final.parent)
    disk.sync(fresh)
    disk.rename(fresh, final)
    disk.sync(final.parent)


def _same(fresh: Path, final: Path) -> bool:
    """Whether both are files, or folders of files, of equal names and bytes."""
    if fresh.is_dir() != final.is_dir() or not final.exists():
        return False
    if not fresh.is_dir():
        return filecmp.cmp(fresh, final, shallow=False)
    ours, theirs = (sorted(path.relative_to(top) for path in top.rglob("*")) for top in (fresh, final))
    return ours == theirs and all(_same(fresh / name, final / name) for name in ours)
