"""OpenCV among threads of our own: its pool would get in their way, and it words want of memory alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import cv2

__all__ = ["one_opencv_thread", "plain_memory_errors"]


@contextmanager
def one_opencv_thread() -> Iterator[None]:
    """Let each OpenCV call of this process run in its caller's thread alone.

    On 16 cores, 16 threads that decode and shrink made 729 images/s so, and 610 with OpenCV's pool beside
    them (benchmarks/RESULTS.md).
    """
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)


@contextmanager
def plain_memory_errors() -> Iterator[None]:
    """Raise MemoryError where OpenCV can get none: an image that fails for it is tried again."""
    try:
        yield
    except cv2.error as problem:
        if problem.code == cv2.Error.STS_NO_MEM:
            raise MemoryError(problem.err) from problem
        raise
