"""What can be named: lists, archives, single images and many at once, walked once and in order."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pfgdata.corpus import Segment, WalkCounts, WalkOptions, plan_segments, read, walk
from pfgdata.errors import AccessError, ConfigError
from pfgdata.records import ImageKey
from tests.pfgdata.corpus.packing import make_tar, make_tree


def keys_of(segments: list[Segment]) -> list[ImageKey]:
    """All keys, which must come once and in the stable order."""
    keys = [found.key for segment in segments for found in walk(segment, counts=WalkCounts())]
    assert [key.order for key in keys] == sorted({key.order for key in keys})
    assert all(any(segment.covers(key) for segment in segments) for key in keys)
    return keys


def paths_of(segments: list[Segment]) -> list[bytes]:
    return [key.path for key in keys_of(segments)]


@pytest.mark.parametrize("ending", [".txt", ".lst", ".csv", ".parquet"])
def test_a_list_names_images_beside_it(tmp_path: Path, ending: str) -> None:
    make_tree(tmp_path)
    names = ["z.jpg", "a/b/3.jpg", "./a/../a.jpg", "a.jpg", "a//1.jpg"]
    file = tmp_path / f"list{ending}"
    if ending == ".parquet":
        pq.write_table(pa.table({"n": range(5), "path": names}), file)
    elif ending == ".csv":
        file.write_text("n,path\n" + "".join(f'{n},"{name}"\n' for n, name in enumerate(names)))
    else:
        file.write_bytes("\r\n".join(["\ufeff" + names[0], "", *names[1:]]).encode())
    segments = plan_segments([file], {})
    assert [segment.root for segment in segments] == [str(tmp_path)]
    assert paths_of(segments) == [b"a.jpg", b"a/1.jpg", b"a/b/3.jpg", b"z.jpg"]


def test_a_list_ended_by_nuls_holds_any_name(tmp_path: Path) -> None:
    names = [b"new\nline.jpg", b"bad_\xff.jpg", b" space.jpg "[:-1], b"return\r.jpg"]
    for name in names:
        (tmp_path / os.fsdecode(name)).write_bytes(b"x")
    (tmp_path / "list.txt").write_bytes(b"".join(name + b"\0" for name in names))
    assert paths_of(plan_segments([tmp_path / "list.txt"], {})) == sorted(names)


def test_a_list_of_paths_elsewhere_takes_their_roots(tmp_path: Path) -> None:
    known, fresh = make_tree(tmp_path / "known"), make_tree(tmp_path / "fresh")
    (tmp_path / "lists").mkdir()
    file = tmp_path / "lists" / "list.txt"
    file.write_text(f"{known}/z.jpg\n{fresh}/a/1.jpg\n{fresh}/a/b/3.jpg\n{known}/a/1.jpg\n")
    segments = plan_segments([file], {"/was/here": str(known)})
    assert [str(key) for key in keys_of(segments)] == [
        *(f"{fresh}/a/1.jpg", f"{fresh}/a/b/3.jpg"),
        *("/was/here/a/1.jpg", "/was/here/z.jpg"),
    ]
    assert [segment.root for segment in segments] == [f"{fresh}/a", "/was/here"]


def test_what_a_list_names_and_is_gone_is_found_and_fails(tmp_path: Path) -> None:
    make_tree(tmp_path)
    (tmp_path / "list.txt").write_text("a/1.jpg\ngone.jpg\nno/folder.jpg\nnotes.md\na/\n")
    counts = WalkCounts()
    (segment,) = plan_segments([tmp_path / "list.txt"], {})
    found = list(walk(segment, counts=counts))
    assert [one.key.path for one in found] == [b"a/1.jpg", b"gone.jpg", b"no/folder.jpg"]
    assert counts.ignored == 2  # no images by name
    for one in found[1:]:
        with pytest.raises(AccessError, match="gone"):
            read(tmp_path, one.key)


@pytest.mark.parametrize("end", ["\r\n\x1a", "\x1a", "\r\n\x1a\r\n"])
@pytest.mark.parametrize("name", ["a.txt", "a.csv"])
def test_the_mark_with_which_dos_ends_a_list_is_no_path(tmp_path: Path, name: str, end: str) -> None:
    make_tree(tmp_path)
    lines = ["path"] * (name == "a.csv") + ["a/1.jpg", "z.jpg"]
    (tmp_path / name).write_bytes(("\r\n".join(lines) + end).encode())
    assert paths_of(plan_segments([tmp_path / name], {})) == [b"a/1.jpg", b"z.jpg"]


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("a.txt", "\n\n", "lists no image"),
        ("a.txt", "x.jpg\n", "is UTF-16, .* save it as UTF-8"),
        ("a.csv", "file\nx.jpg\n", "has no column path, only file"),
        (
            "a.csv",
            "url,caption\nhttps://a/x.jpg,c\n",
            "img2dataset .* --input_format csv --url_col url",
        ),
        ("a.txt", "https://a/x.jpg\nhttp://b/y.png\n", "lists URLs, .* --output_format webdataset"),
        ("a.csv", "path,n\nx.jpg,1\n,2\n", "row 2 has no path"),
        ("a.csv", "path,n\nx.jpg,1\na\0b.jpg,2\n", "row 2 holds a NUL"),
        ("a.parquet", "no parquet", "give it a column path"),
    ],
)
def test_a_list_that_cannot_be_used_is_answered_in_one_line(
    tmp_path: Path, name: str, text: str, expected: str
) -> None:
    (tmp_path / name).write_text(text, encoding="utf-16" if "UTF-16" in expected else None)
    with pytest.raises(ConfigError, match=expected) as error:
        plan_segments([tmp_path / name], {})
    assert "\n" not in str(error.value)


def test_a_folder_named_in_a_list_does_not_make_all_of_the_disk_a_root(tmp_path: Path) -> None:
    make_tree(tmp_path)
    (tmp_path / "list.txt").write_text("/\n/tmp\n/tmp/\na/1.jpg\n")
    assert [segment.root for segment in plan_segments([tmp_path / "list.txt"], {})] == [str(tmp_path)]


def test_many_inputs_that_overlap_are_walked_once(tmp_path: Path) -> None:
    make_tree(tmp_path / "c")
    make_tar(tmp_path / "c" / "a.tar", [(b"m.jpg", b"m")])
    (tmp_path / "list.txt").write_text("c/a/1.jpg\nc/z.jpg\n")
    inputs = ["c/a/b", "list.txt", "c/a", "c/a.tar", "c/a/b/3.jpg", "c/a-b"]
    segments = plan_segments([tmp_path / name for name in inputs], {})
    (segment,) = segments
    assert (segment.root, segment.location) == (str(tmp_path), tmp_path)
    assert segment.starts == (b"c/a-b/", b"c/a.tar", b"c/a/", b"c/z.jpg")
    assert paths_of(segments) == [
        *(b"c/a-b/4.jpg", b"c/a.tar", b"c/a/1.jpg", b"c/a/2.png", b"c/a/b/3.jpg", b"c/z.jpg")
    ]


def test_a_single_image_lies_in_the_root_above_it_or_in_its_folder(tmp_path: Path) -> None:
    make_tree(tmp_path)
    (alone,) = plan_segments([tmp_path / "a" / "1.jpg"], {})
    assert (alone.root, alone.starts) == (str(tmp_path / "a"), (b"1.jpg",))
    (below,) = plan_segments([tmp_path / "a" / "1.jpg"], {str(tmp_path): str(tmp_path)})
    assert (below.root, below.starts) == (str(tmp_path), (b"a/1.jpg",))


def test_new_roots_never_lie_inside_each_other(tmp_path: Path) -> None:
    make_tree(tmp_path)
    (segment,) = plan_segments([tmp_path / "a" / "b", tmp_path / "a" / "1.jpg", tmp_path], {})
    assert (segment.root, segment.starts) == (str(tmp_path), (b"",))


def test_a_walk_covers_only_what_it_would_have_found(tmp_path: Path) -> None:
    make_tree(tmp_path)
    make_tar(tmp_path / "t.tar", [(b"m.jpg", b"m")])
    root = str(tmp_path)

    def covered(inputs: list[str], options: WalkOptions | None = None) -> set[str]:
        (segment,) = plan_segments([tmp_path / name for name in inputs], {root: root}, options=options)
        keys: dict[str, tuple[bytes, bytes | None]]
        keys = {name: (os.fsencode(name), None) for name in ("a/1.jpg", "a-b/4.jpg", ".h/5.jpg", "x.txt")}
        keys |= {"t!m": (b"t.tar", b"m.jpg"), "t!h": (b"t.tar", b".h/m.jpg"), "t": (b"t.tar", None)}
        return {
            name
            for name, (path, member) in keys.items()
            if segment.covers(ImageKey(root=root, path=path, member=member))
        }

    assert covered(["."]) == {"a/1.jpg", "a-b/4.jpg"}
    assert covered(["."], WalkOptions(archives=True)) == {"a/1.jpg", "a-b/4.jpg", "t", "t!m"}
    assert covered([".", "t.tar"]) == {"a/1.jpg", "a-b/4.jpg", "t", "t!m"}
    assert covered(["t.tar"]) == {"t", "t!m"}
    assert covered(["a"]) == covered(["a/1.jpg", "z.jpg"]) == {"a/1.jpg"}
    assert covered(["."], WalkOptions(exclude=("a",))) == {"a-b/4.jpg"}
    assert not Segment(root="/other", location=tmp_path).covers(ImageKey(root=root, path=b"a.jpg"))
