"""One writer at a time for a set of shards: an exclusive flock that the kernel frees when a process dies.

The pid and host in the file are only for the message; a file left behind locks nothing.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pfgdata.errors import StoreError, StoreLockedError

__all__ = ["acquire", "marked", "no_locks", "runs"]

_ASK_AGAIN = 0.2  # seconds between two tries of one who waits: nobody notices, and it costs nothing
_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)  # NFS without lockd, some FUSE


@contextmanager
def marked(descriptor: int) -> Iterator[None]:
    """Write into the lock file who holds it, for the message, and empty it in the end."""
    with contextlib.suppress(OSError):  # a full disk must not keep gc from freeing it
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps({"pid": os.getpid(), "host": socket.gethostname()}).encode(), 0)
    yield
    with contextlib.suppress(OSError):
        os.ftruncate(descriptor, 0)


def no_locks(problem: OSError, *, what: str) -> StoreError:
    """What to tell a user whose file system refused a lock with `problem`."""
    return StoreError(
        f"{what}: its file system gives no locks ({(problem.strerror or '').lower()}), so two writers could "
        "harm each other; put it on a local disk, or mount the share with locks"
    )


def acquire(
    descriptor: int, *, what: str, wait: bool, say: Callable[[str], None], stop: Callable[[], bool]
) -> None:
    """Lock the open file, as `Disk.exclusive` says."""
    said = False
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            owner = _owner(descriptor)
            if not wait:
                raise StoreLockedError(
                    f"{what} is being written by {owner}; let it end or stop it, then try again"
                ) from None
        except OSError as problem:
            if problem.errno in _NO_LOCKS:
                raise no_locks(problem, what=what) from None
            raise
        if not said:
            say(f"{what}: waiting for {owner}, which is writing it")
            said = True
        if stop():
            raise KeyboardInterrupt
        time.sleep(_ASK_AGAIN)


def runs(pid: int) -> bool:
    """Whether there is a process of that number on this machine."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # another user's
        return True
    return True


def _owner(descriptor: int) -> str:
    try:
        owner = json.loads(os.pread(descriptor, 4096, 0))
        return f"process {owner['pid']} on {owner['host']}"
    except (ValueError, KeyError):  # it has locked but not yet written its name
        return "another process"
