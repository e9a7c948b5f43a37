"""Large images wait for each other, small ones for nobody."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

from pfgdata.corpus.watch import PixelRoom


def most_at_once(sizes: list[int]) -> int:
    """The most pixels that were under way together in a room of 100, small being 10."""
    room, lock, taken, most = PixelRoom(100, small=10), threading.Lock(), 0, 0

    def work(pixels: int) -> None:
        nonlocal taken, most
        with room.room_for(pixels, timeout=10):
            with lock:
                taken += pixels
                most = max(most, taken)
            time.sleep(0.01)
            with lock:
                taken -= pixels

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, sizes))
    return most


def test_large_images_are_under_way_only_as_far_as_there_is_room() -> None:
    assert most_at_once([40] * 24) == 80


def test_one_image_always_has_room_and_then_alone() -> None:
    assert most_at_once([300, 40, 300, 40]) == 300


def seconds_beside_a_full_room(pixels: int, *, timeout: float) -> float:
    """How long one of `pixels` waits in a room of 100 that another fills and never leaves."""
    room = PixelRoom(100, small=10)
    with room.room_for(100, timeout=10):
        begun = time.monotonic()
        with room.room_for(pixels, timeout=timeout):
            return time.monotonic() - begun


def test_small_images_wait_for_nobody() -> None:
    assert seconds_beside_a_full_room(10, timeout=5) < 2


def test_who_never_leaves_stops_the_others_for_the_timeout_only() -> None:
    assert 0.2 <= seconds_beside_a_full_room(11, timeout=0.2) < 10
