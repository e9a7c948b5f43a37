"""The queue: in order, bounded, cancelled; files that the session did not write are never removed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pfgdata.errors import ConfigError
from pfgtrain.generate import GenerateJob, GenerateOptions
from pfgtrain.web import Bounds
from pfgtrain.web.drawings import Drawing, Drawings
from pfgtrain.web.guides import Guide


class Clock:
    """Time that a test moves."""

    now = 10.0

    def __call__(self) -> float:
        return self.now


def queue(folder: Path, **bounds: int) -> Drawings:
    return Drawings(folder, bounds=Bounds(**bounds), changed=lambda: None, clock=Clock())


def drawing(name: str = "a") -> Drawing:
    guide = Guide(id=name, name=name, path=Path(name), width=1, height=1, thumbnail=b"")
    return Drawing(guide=guide, job=GenerateJob(), options=GenerateOptions(images_per_guide=2), command="c")


def make(drawings: Drawings, *names: str, fresh: bool = True) -> Drawing:
    """Draw the next one: files of those names."""
    found = drawings.take()
    assert found is not None
    for seed, name in enumerate(names):
        (drawings.folder / name).write_bytes(b"x")
        drawings.made(found, drawings.folder / name, seed=seed, fresh=fresh)
    drawings.update(found, state="done")
    return found


def shown(drawings: Drawings) -> list[tuple[Any, Any]]:
    return [(one["id"], one["state"]) for one in drawings.as_dicts()]


def test_what_waits_is_taken_in_order_and_the_latest_asked_for_is_shown_first(tmp_path: Path) -> None:
    drawings = queue(tmp_path)
    assert drawings.add([drawing(), drawing()]) == [1, 2]
    assert drawings.add([drawing()]) == [3]
    assert [found.id for found in (drawings.take(), drawings.take()) if found] == [1, 2]
    assert shown(drawings) == [(3, "waiting"), (1, "drawing"), (2, "drawing")]


def test_a_full_queue_takes_all_of_what_is_asked_or_nothing(tmp_path: Path) -> None:
    drawings = queue(tmp_path, waiting=3)
    drawings.add([drawing(), drawing()])
    with pytest.raises(ConfigError, match="2 drawings wait already, 3 at most"):
        drawings.add([drawing(), drawing()])
    drawings.add([drawing()])
    assert len(shown(drawings)) == 3


def test_cancelling_ends_what_waits_and_asks_what_is_drawn_to_stop(tmp_path: Path) -> None:
    drawings = queue(tmp_path)
    drawings.add([drawing(), drawing()])
    first = drawings.take()
    assert first is not None and drawings.cancel(1) and first.stop and first.state == "drawing"
    assert drawings.cancel(2) and shown(drawings) == [(1, "drawing"), (2, "cancelled")]
    assert drawings.take() is None
    assert not drawings.cancel(99)


def test_a_cancel_that_comes_late_leaves_what_has_ended_on_the_page(tmp_path: Path) -> None:
    drawings = queue(tmp_path)
    drawings.add([drawing(), drawing()])
    make(drawings, "a.png")
    assert drawings.cancel(1) and drawings.cancel(2) and drawings.cancel(2)
    assert shown(drawings) == [(1, "done"), (2, "cancelled")]


def test_only_what_has_ended_is_taken_off_the_page(tmp_path: Path) -> None:
    drawings = queue(tmp_path)
    drawings.add([drawing(), drawing()])
    drawings.take()
    for number in (1, 2):
        with pytest.raises(ConfigError, match="has not ended; cancel it first"):
            drawings.remove(number)
    drawings.cancel(2)
    assert drawings.remove(2) and not drawings.remove(2)
    assert shown(drawings) == [(1, "drawing")]


def test_the_oldest_pictures_of_this_session_go_and_no_other_files(tmp_path: Path) -> None:
    (tmp_path / "mine.png").write_bytes(b"of a person")
    drawings = queue(tmp_path, pictures=4)
    drawings.add([drawing() for _ in range(4)])
    make(drawings, "was-there.png", fresh=False)
    make(drawings, "a0.png", "a1.png")
    make(drawings, "b0.png", "b1.png")
    assert drawings.file("a0.png") == tmp_path / "a0.png"
    make(drawings, "c0.png")
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == ["b0.png", "b1.png", "c0.png", "mine.png", "was-there.png"]
    assert shown(drawings) == [(1, "done"), (3, "done"), (4, "done")]
    assert drawings.file("a0.png") is None
    assert drawings.file("was-there.png") is not None
    assert drawings.file("mine.png") is None


def test_the_page_keeps_so_many_drawings_and_those_under_way_are_never_lost(tmp_path: Path) -> None:
    drawings = queue(tmp_path, drawings=2)
    drawings.add([drawing() for _ in range(3)])
    assert len(shown(drawings)) == 3
    make(drawings, "a.png")
    drawings.add([drawing()])
    assert [number for number, _ in shown(drawings)] == [4, 2, 3]
    assert (tmp_path / "a.png").exists()
