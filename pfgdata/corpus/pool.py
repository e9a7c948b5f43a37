"""Work ahead in threads, in order and bounded; ingest and latents read and decode through it.

Threads and not processes: decoding, hashing and resampling release the interpreter lock, and between
processes a square of 448 px is 600 kB to copy through a pipe: threads make 1.2 times the rate on two cores,
1.0 to 1.1 on sixteen (benchmarks/RESULTS.md). They are daemons: one that a decoder never returns from
must not hold the process at its exit.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

from pfgdata.errors import ConfigError

__all__ = ["OrderedPool", "Timeout", "background", "ordered_pool"]

T = TypeVar("T")
R = TypeVar("R")

_GOODBYE = 5.0  # seconds; whoever pressed Ctrl-C should not wait for a decoder that is stuck
_SLICE = 0.1  # seconds a waiting consumer sleeps at most before it looks for overdue work and for `close`


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeout(Generic[T, R]):
    """How many seconds the work on one item may take, as of now, and what stands in its place after that.

    Only those count in which the consumer waits: a process that was stopped (Ctrl-Z) ages no work.
    """

    seconds: Callable[[], float]
    instead: Callable[[T], R]
    more: Callable[[T], float] = lambda _: 0.0  # seconds beyond those that one item may take


class _Slot(Generic[T, R]):
    """One item on its way; `ready` is held until there is a result or an error, or the item is dropped."""

    __slots__ = ("dropped", "error", "item", "ready", "result")

    def __init__(self, item: T) -> None:
        self.item = item
        self.result: R
        self.error: BaseException | None = None
        self.dropped = False
        self.ready = threading.Lock()
        self.ready.acquire()


def _failed(error: Exception) -> _Slot[Any, Any]:
    """What stands where `items` raised, so that it comes out after what came before it."""
    slot: _Slot[Any, Any] = _Slot(None)
    slot.error = error
    slot.ready.release()
    return slot


class _Worker(Generic[T, R]):
    """One thread, what it works on, and the seconds that the consumer has waited meanwhile."""

    __slots__ = ("slot", "thread", "waited")

    def __init__(self) -> None:
        self.slot: _Slot[T, R] | None = None
        self.waited = 0.0
        self.thread: threading.Thread


class OrderedPool(Generic[T, R]):
    """An iterator over `work(item)` for each of `items`, in their order, computed by `threads` threads.

    At most `ahead` items are taken and not yet yielded, which bounds memory; `items` is advanced in the
    thread that iterates. An exception of `work` or `items` comes out in its turn. With `timeout`, work
    that takes longer is left behind: its thread is replaced and counted in `abandoned`, and the iteration
    goes on. `close` it, or use it as a context.
    """

    def __init__(
        self,
        items: Iterable[T],
        work: Callable[[T], R],
        *,
        threads: int,
        ahead: int,
        timeout: Timeout[T, R] | None = None,
    ) -> None:
        self.abandoned = 0
        self._items = iter(items)
        self._work = work
        self._timeout = timeout
        self._ahead = ahead
        self._exhausted = False
        self._queue: SimpleQueue[_Slot[T, R] | None] = SimpleQueue()
        self._pending: deque[_Slot[T, R]] = deque()
        self._lock = threading.Lock()  # who owns a slot, and whether new ones may begin
        self._cancelled = self._closed = False
        self._workers: list[_Worker[T, R]] = []
        for _ in range(threads):
            self._start()

    def __enter__(self) -> OrderedPool[T, R]:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[R]:
        return self

    def __next__(self) -> R:
        self._fill()
        if not self._pending or not self._await(self._pending[0]):
            raise StopIteration
        slot = self._pending.popleft()
        if slot.error is not None:
            raise slot.error
        return slot.result

    def cancel(self) -> None:
        """Begin nothing more; what has begun still comes out. Any thread may call it."""
        with self._lock:
            self._cancelled = True

    def close(self) -> None:
        """End the iteration and the threads, waiting for what has begun; with a timeout at most 5 s for each.

        Any thread may call it, also while another one iterates.
        """
        self.cancel()
        self._closed = True
        for _ in self._workers:
            self._queue.put(None)
        for worker in self._workers:
            worker.thread.join(_GOODBYE if self._timeout else None)

    def _start(self) -> None:
        worker: _Worker[T, R] = _Worker()
        worker.thread = threading.Thread(target=self._run, args=(worker,), name="pfg-pool", daemon=True)
        try:
            worker.thread.start()
        except (RuntimeError, MemoryError):  # no room for a thread, or for its stack
            self.close()
            raise ConfigError(
                f"no more than {len(self._workers):,} threads could be started; ask for fewer (--threads)"
            ) from None
        self._workers.append(worker)

    def _fill(self) -> None:
        """Take at least one item where there is room, and more until the first result is ready."""
        while not self._exhausted and not self._cancelled and len(self._pending) < self._ahead:
            try:
                slot: _Slot[T, R] = _Slot(next(self._items))
            except StopIteration:
                self._exhausted = True
                return
            except Exception as problem:
                self._exhausted = True
                self._pending.append(_failed(problem))
                return
            self._pending.append(slot)
            self._queue.put(slot)
            if not self._pending[0].ready.locked():
                return

    def _await(self, slot: _Slot[T, R]) -> bool:
        """Wait until `slot` is ready; False where it was dropped or the pool closed meanwhile."""
        while not slot.ready.acquire(timeout=_SLICE):
            if self._closed:
                return False
            self._abandon_overdue()
        slot.ready.release()
        return not slot.dropped

    def _run(self, worker: _Worker[T, R]) -> None:
        while (slot := self._queue.get()) is not None:
            with self._lock:
                slot.dropped = self._cancelled
                if not slot.dropped:
                    worker.waited = 0.0
                    worker.slot = slot
            if not slot.dropped and not self._work_on(worker, slot):
                return
            slot.ready.release()

    def _work_on(self, worker: _Worker[T, R], slot: _Slot[T, R]) -> bool:
        """Fill the slot; False where it took too long and this thread has been given up."""
        result, error = None, None
        try:
            result = self._work(slot.item)
        except BaseException as problem:
            error = problem
        with self._lock:
            if worker.slot is not slot:
                return False
            worker.slot = None
            slot.error = error
            if error is None:
                slot.result = result  # type: ignore[assignment]  # set where there is no error
        return True

    def _abandon_overdue(self) -> None:
        if self._timeout is None:
            return
        for worker in list(self._workers):
            with self._lock:
                slot = worker.slot
                worker.waited += _SLICE
                if slot is None or worker.waited < self._timeout.seconds() + self._timeout.more(slot.item):
                    continue
                worker.slot = None
            self._workers.remove(worker)
            self.abandoned += 1
            self._start()
            slot.result = self._timeout.instead(slot.item)
            slot.ready.release()


def ordered_pool(
    items: Iterable[T],
    work: Callable[[T], R],
    *,
    threads: int,
    ahead: int,
    timeout: Timeout[T, R] | None = None,
) -> Generator[R]:
    """Yield `work(item)` for each of `items`, in their order, as an `OrderedPool` does.

    On an exception, and on closing the generator, what has not begun is cancelled and what has is waited
    for, so no thread is left behind but those that outlast the `timeout`.
    """
    with OrderedPool(items, work, threads=threads, ahead=ahead, timeout=timeout) as pool:
        yield from pool


def background(items: Generator[T], *, ahead: int, interrupt: Callable[[], None]) -> Generator[T]:
    """Yield `items`, advanced in a thread of its own by at most `ahead` of them.

    An exception of theirs comes out in its turn. When this generator is closed, `interrupt` is called,
    which must make a waiting `items` end, and the thread closes `items` and is waited for.
    """
    room, closed = threading.Semaphore(ahead), threading.Event()
    ready: SimpleQueue[tuple[T] | BaseException | None] = SimpleQueue()

    def advance() -> None:
        try:
            while room.acquire() and not closed.is_set():
                ready.put((next(items),))
        except StopIteration:
            ready.put(None)
        except BaseException as problem:
            ready.put(problem)
        finally:
            items.close()

    thread = threading.Thread(target=advance, name="pfg-background", daemon=True)
    thread.start()
    try:
        while (entry := ready.get()) is not None:
            if isinstance(entry, BaseException):
                raise entry
            room.release()
            yield entry[0]
    finally:
        closed.set()
        room.release()
        interrupt()
        thread.join()
