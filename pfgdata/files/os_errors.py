"""What the system refused while a store was written, as one line that a user can act on.

A commit that fails leaves nothing that a reader sees, so the advice is always: make room, run the same again.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pfgdata.errors import StoreError

__all__ = ["explained"]

_AGAIN = "run the same again: nothing that was committed is lost"
_FREE = f"free some space and {_AGAIN}"
_FILES = f"allow more (ulimit -n), or close other programs, and {_AGAIN}"
_WRITABLE = f"give this user permission to write there, and {_AGAIN}"
_WHAT: dict[int, tuple[str, str]] = {  # errno -> what is wrong with {store}, what to do
    errno.ENOSPC: ("no space left on the disk of {store}", _FREE),
    errno.EDQUOT: ("this user's quota on the disk of {store} is used up", _FREE),
    errno.EFBIG: (
        "{store}: a file would be larger than is allowed here (ulimit -f)",
        f"raise it and {_AGAIN}",
    ),
    errno.EROFS: ("{store} is on a disk mounted read-only", f"mount it writable and {_AGAIN}"),
    errno.EACCES: ("{store}: no permission to write", _WRITABLE),
    errno.EPERM: ("{store}: writing is not permitted", _WRITABLE),
    errno.EMFILE: ("{store}: this process has too many files open", _FILES),
    errno.ENFILE: ("{store}: the system has too many files open", _FILES),
    errno.EIO: ("the disk of {store} failed to read or write", f"check it (dmesg) and {_AGAIN}"),
    errno.ESTALE: ("{store}: its disk is no longer the one it was", f"mount it again and {_AGAIN}"),
    errno.ENOTCONN: ("{store}: the connection to its disk is gone", f"mount it again and {_AGAIN}"),
    errno.ENOMEM: ("{store}: out of memory while writing", f"free some and {_AGAIN}"),
}


@contextmanager
def explained(store: Path) -> Iterator[None]:
    """Turn what the system refuses while `store` is written into a StoreError of one line.

    An OSError of another kind passes: it is no trouble of the disk's.
    """
    try:
        yield
    except OSError as problem:
        if problem.errno not in _WHAT:
            raise
        what, advice = _WHAT[problem.errno]
        raise StoreError(f"{what.format(store=store)}; {advice}") from problem
