"""Work ahead in threads, in order and bounded; ingest and latents read and decode through it.

Threads and not processes, because decoding and resampling release the interpreter lock, and pixels would have
to be copied between processes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

__all__ = ["ordered_pool"]

T = TypeVar("T")
R = TypeVar("R")


def ordered_pool(items: Iterable[T], work: Callable[[T], R], *, threads: int, ahead: int) -> Generator[R]:
    """Yield `work(item)` for each of `items`, in their order, computed by `threads` threads.

    At most `ahead` items are taken and not yet yielded, which bounds memory; `items` is advanced in the
    caller's thread. An exception of `work` or `items` comes out in its turn. On it, and on closing the
    generator, what has not begun is cancelled and what has is waited for, so no thread is left behind.
    """
    executor = ThreadPoolExecutor(threads, thread_name_prefix="pfg-pool")
    pending: deque[Future[R]] = deque()
    try:
        for item in items:
            pending.append(executor.submit(work, item))
            if len(pending) >= ahead:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        executor.shutdown(cancel_futures=True)
