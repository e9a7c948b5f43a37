"""Which roots an ingest of a folder covers."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pfgdata.corpus import Segment, WalkCounts, plan_segments, walk
from pfgdata.errors import ConfigError


def folder(path: Path, *, image: bool = True) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    if image:
        (path / "i.jpg").write_bytes(b"x")
    return path


def test_a_folder_seen_first_is_a_root_by_its_realpath(tmp_path: Path) -> None:
    real = folder(tmp_path / "real")
    (tmp_path / "link").symlink_to(real)
    expected = [Segment(root=str(real), location=real)]
    assert plan_segments([real], {}) == plan_segments([tmp_path / "link"], {}) == expected


def test_a_folder_below_a_known_root_is_a_part_of_it(tmp_path: Path) -> None:
    part = folder(tmp_path / "root" / "a" / "b")
    known = {str(tmp_path / "root"): str(tmp_path / "root")}
    assert plan_segments([part], known) == [
        Segment(root=str(tmp_path / "root"), location=tmp_path / "root", starts=(b"a/b/",))
    ]


def test_the_longest_known_root_wins(tmp_path: Path) -> None:
    part = folder(tmp_path / "root" / "a" / "b")
    known = {
        str(place): str(place) for place in (tmp_path / "root", tmp_path / "root" / "a", tmp_path / "roo")
    }
    (segment,) = plan_segments([part], known)
    assert (segment.root, segment.starts) == (str(tmp_path / "root" / "a"), (b"b/",))


def test_a_moved_root_keeps_its_name(tmp_path: Path) -> None:
    now = folder(tmp_path / "new" / "place")
    (segment,) = plan_segments([now], {"/old/place": str(now)})
    assert (segment.root, segment.location, segment.starts) == ("/old/place", now, (b"",))


def test_known_roots_below_are_segments_of_their_own(tmp_path: Path) -> None:
    outer, inner, innermost = tmp_path / "o", tmp_path / "o" / "i", tmp_path / "o" / "i" / "n"
    for place in (outer, inner, innermost):
        folder(place)
    known = {str(inner): str(inner), "/a/moved": str(innermost), "/elsewhere": str(tmp_path / "x")}
    segments = plan_segments([outer], known)
    assert [segment.root for segment in segments] == sorted(["/a/moved", str(outer), str(inner)])
    found = [(f.key.root, f.key.path) for segment in segments for f in walk(segment, counts=WalkCounts())]
    assert found == [("/a/moved", b"i.jpg"), (str(outer), b"i.jpg"), (str(inner), b"i.jpg")]
    assert sorted(found) == found


def test_an_inner_root_that_is_not_mounted_is_left_out_and_stays_excluded(tmp_path: Path) -> None:
    outer = folder(tmp_path / "o")
    (segment,) = plan_segments([outer], {"/inner": str(outer / "inner")})
    assert segment.exclude == {b"inner"}


def test_two_roots_at_one_place_are_walked_once(tmp_path: Path) -> None:
    inner = folder(tmp_path / "o" / "i")
    segments = plan_segments([tmp_path / "o"], {"/one": str(inner), "/two": str(inner)})
    assert len(segments) == 2
    assert len(plan_segments([inner], {"/one": str(inner), "/two": str(inner)})) == 1


def test_the_file_systems_root_has_segments_too() -> None:
    (segment,) = plan_segments([Path("/usr/lib")], {"/": "/"})
    assert (segment.root, segment.starts) == ("/", (b"usr/lib/",))


def test_a_folder_that_is_not_there_is_answered_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file or directory; check the path"):
        plan_segments([tmp_path / "nowhere"], {})
    (tmp_path / "file.md").write_bytes(b"x")
    with pytest.raises(ConfigError, match="is no folder, image, archive"):
        plan_segments([tmp_path / "file.md"], {})


def test_a_root_whose_path_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    bad = Path(os.fsdecode(os.fsencode(tmp_path) + b"/bad_\xff"))
    bad.mkdir()
    with pytest.raises(ConfigError, match=r"bad_\\xff is not a UTF-8 path"):
        plan_segments([bad], {})


def test_the_old_place_of_a_moved_root_cannot_become_another_root(tmp_path: Path) -> None:
    old, new = folder(tmp_path / "old"), folder(tmp_path / "new")
    with pytest.raises(ConfigError, match="old place of a corpus now at"):
        plan_segments([old], {str(old): str(new)})
