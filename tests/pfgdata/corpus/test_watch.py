"""Large images wait for each other, small ones for nobody."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pfgdata.corpus import OrderedPool, Timeout, far_readers
from pfgdata.corpus.watch import PixelRoom, Watch
from pfgdata.images import Limits


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


def test_more_threads_read_where_a_place_is_far_away() -> None:
    assert far_readers(2, [Path("/images"), "/more"]) == 2
    assert far_readers(2, ["/images", "s3://bucket/images"]) == 32
    assert far_readers(2, ["hf://datasets/o/n"], most=5) == 5
    assert far_readers(64, ["s3://bucket/images"]) == 64


@pytest.mark.parametrize("far", [True, False])
def test_only_what_comes_from_afar_may_take_long_to_come(far: bool) -> None:
    watch = Watch(seconds=0.3)

    def work(item: bytes) -> str:
        if not far:
            time.sleep(1.0)
            return "read"
        with watch.far(item, len(item)):
            time.sleep(1.0)
            return "read"

    timeout: Timeout[bytes, str] = Timeout(
        seconds=lambda: 0.3, instead=lambda _: "left behind", more=watch.more
    )
    with OrderedPool([b"1"], work, threads=1, ahead=1, timeout=timeout) as pool:
        assert list(pool) == ["read" if far else "left behind"]


def test_what_hangs_in_its_decoder_is_left_behind_though_it_came_from_afar() -> None:
    watch, hung = Watch(seconds=0.3, decoders=1), threading.Event()

    def work(item: bytes) -> str:
        with watch.far(item, len(item)):
            time.sleep(0.3)
            with watch.decoding(item, item, limits=Limits()):
                hung.wait(20)
                return "decoded"

    timeout: Timeout[bytes, str] = Timeout(seconds=lambda: 0.3, instead=watch.left_behind, more=watch.more)
    begun = time.monotonic()
    with OrderedPool([b"1"], work, threads=1, ahead=1, timeout=timeout) as pool:
        assert list(pool) == ["decoding"]
        hung.set()
    assert time.monotonic() - begun < 10


class UnderWay:
    """How many threads were in `stay` at once, at most."""

    def __init__(self) -> None:
        self.most = self._now = 0
        self._lock = threading.Lock()

    def stay(self) -> None:
        with self._lock:
            self._now += 1
            self.most = max(self.most, self._now)
        time.sleep(0.01)
        with self._lock:
            self._now -= 1


def test_decoders_that_hang_let_those_behind_them_be_decoded_and_no_more_at_once() -> None:
    watch, free = Watch(seconds=0.3, decoders=2), threading.Event()
    under_way, ended = UnderWay(), list[bool]()

    def work(item: bytes) -> str:
        with watch.far(item, len(item)):
            with watch.decoding(item, item, limits=Limits()):
                if item.startswith(b"hangs"):
                    hung = free.wait(20)
                else:
                    under_way.stay()
            if item.startswith(b"hangs"):
                ended.append(hung)
            return "decoded"

    def decoded(items: list[bytes]) -> list[str]:
        timeout: Timeout[bytes, str] = Timeout(
            seconds=lambda: 0.3, instead=watch.left_behind, more=watch.more
        )
        with OrderedPool(items, work, threads=8, ahead=16, timeout=timeout) as pool:
            return list(pool)

    items = [b"%d" % number for number in range(20)]
    assert decoded([b"hangs 1", b"hangs 2", b"hangs 3", *items]) == ["decoding"] * 3 + ["decoded"] * 20
    assert not ended  # nobody had to wait until they gave up
    free.set()
    while len(ended) < 3:
        time.sleep(0.01)
    assert decoded(items) == ["decoded"] * 20
    assert under_way.most == 2


def test_no_more_are_decoded_at_once_than_were_asked_for() -> None:
    watch, under_way = Watch(decoders=2), UnderWay()

    def work(item: bytes) -> None:
        with watch.decoding(item, item, limits=Limits()):
            under_way.stay()

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(work, [b"%d" % number for number in range(40)]))
    assert under_way.most == 2
