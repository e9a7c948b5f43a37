"""A corpus in a bucket of a real S3 server: walked, read and told apart as a folder is."""

from __future__ import annotations

from pathlib import Path

import pytest

from pfgdata.corpus import WalkCounts, WalkOptions, list_sidecars, plan_segments, read, read_caption, walk
from pfgdata.corpus.sources import stamp
from pfgdata.errors import AccessError, ContentError, PfgError
from pfgdata.files import ObjectPlace
from pfgdata.paths import Url
from pfgdata.records import Found, ImageKey
from tests.pfgdata.corpus.packing import TREE, found_in, make_tar, make_tree, make_zip
from tests.pfgdata.corpus.test_tar_index import MEMBERS, write_index
from tests.seaweed import S3Server

pytestmark = pytest.mark.cluster


@pytest.fixture
def bucket(s3: S3Server, request: pytest.FixtureRequest) -> str:
    """The URL of a new, empty folder of one bucket: each bucket of this server takes volumes of its own."""
    url = f"s3://corpora/{abs(hash(request.node.nodeid)):x}"
    ObjectPlace.at("s3://corpora").put("made", b"by its first object")
    return url


def upload(folder: Path, url: str) -> None:
    """Every file below `folder`, to below `url`."""
    place = ObjectPlace.at(url)
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            place.put(path.relative_to(folder).as_posix(), path.read_bytes())


def found_at(url: str, options: WalkOptions | None = None, counts: WalkCounts | None = None) -> list[Found]:
    segments = plan_segments([Url.of(url)], {}, options=options or WalkOptions(archives=True))
    return [one for segment in segments for one in walk(segment, counts=counts or WalkCounts())]


def keys(found: list[Found]) -> list[tuple[bytes, bytes | None, int]]:
    return [(one.key.path, one.key.member, one.size) for one in found]


def test_a_prefix_is_walked_as_the_folder_it_was(bucket: str, tmp_path: Path) -> None:
    folder = make_tree(tmp_path / "corpus", (*TREE, ".git/x.jpg", "@eaDir/y.jpg", "note.md", "é ü/#5.png"))
    make_tree(folder, ("half.jpg", "half.jpg.part"))
    make_zip(folder / "z.zip", [("in/z.png", b"zzz"), ("a.png", b"a")])
    write_index(make_tar(folder / "i.tar", MEMBERS))
    make_tar(folder / "t.tar", MEMBERS)
    upload(folder, f"{bucket}/corpus")
    here, there = WalkCounts(), WalkCounts()
    ours, theirs = found_in(folder, counts=here), found_at(f"{bucket}/corpus", counts=there)
    assert keys(ours) == keys(theirs)
    assert {one.key.root for one in theirs} == {f"{bucket}/corpus"}
    assert there.passed == {f"{bucket}/corpus/half.jpg".encode()}
    here.passed = there.passed
    assert here == there
    patterns = WalkOptions(archives=True, include=("a/**", "*.tar"), exclude=("b.jpg",))
    assert keys(found_in(folder, patterns)) == keys(found_at(f"{bucket}/corpus", patterns))
    for one, far in zip(ours, theirs, strict=True):
        result = read(Url(f"{bucket}/corpus"), far.key)
        assert result.data == read(folder, one.key).data
        assert (result.size, result.mtime_ns) == (far.size, far.mtime_ns)


def test_what_stands_for_the_time_is_of_the_version(bucket: str) -> None:
    place = ObjectPlace.at(bucket)
    place.put("a.jpg", b"one")
    (first,) = found_at(bucket)
    assert first.mtime_ns == stamp(place.info("a.jpg").etag.strip('"')) >= 0
    place.put("a.jpg", b"two")
    (second,) = found_at(bucket)
    assert first.mtime_ns != second.mtime_ns
    place.put("a.jpg", b"one")
    assert found_at(bucket) == [first]


def test_sidecars_are_found_beside_images_and_in_tars(bucket: str, tmp_path: Path) -> None:
    folder = make_tree(tmp_path / "c", ("x/a.jpg",))
    (folder / "x" / "a.txt").write_text("1girl, solo")
    make_tar(folder / "t.tar", MEMBERS)
    upload(folder, bucket)
    url = Url(bucket)
    assert list_sidecars(url, b"x/") == list_sidecars(folder, b"x/")
    assert list_sidecars(url, b"t.tar") == list_sidecars(folder, b"t.tar")
    assert read_caption(url, ImageKey(root=bucket, path=b"x/a.txt")) == "1girl, solo"
    assert read_caption(url, ImageKey(root=bucket, path=b"t.tar", member=b"b.txt")) == "1girl, solo"


def test_a_single_image_and_a_tar_can_be_named(bucket: str, tmp_path: Path) -> None:
    folder = make_tree(tmp_path / "c", ("x/a.jpg", "x/b.jpg"))
    write_index(make_tar(folder / "x" / "t.tar", MEMBERS))
    upload(folder, bucket)
    assert keys(found_at(f"{bucket}/x/a.jpg")) == [(b"a.jpg", None, 7)]
    assert keys(found_at(f"{bucket}/x/t.tar")) == [(b"t.tar", b"a/a.jpg", 1), (b"t.tar", b"b.jpg", 10)]
    known = plan_segments([Url(f"{bucket}/x/a.jpg")], {"/moved": f"{bucket}/x"})
    assert [(one.root, one.location, one.starts) for one in known] == [
        ("/moved", Url(f"{bucket}/x"), (b"a.jpg",))
    ]


def test_few_members_are_read_by_ranges_and_many_fetch_their_tar(bucket: str, tmp_path: Path) -> None:
    members = [(b"%03d.jpg" % n, bytes([n]) * 5000) for n in range(100)]
    write_index(make_tar(tmp_path / "t.tar", members))
    upload(tmp_path, bucket)
    url, cache = Url(bucket), tmp_path / "pfg-cache" / "objects" / "files"

    def read_member(number: int) -> bytes:
        return read(url, ImageKey(root=bucket, path=b"t.tar", member=b"%03d.jpg" % number)).data

    assert read_member(7) == bytes([7]) * 5000
    assert not list(cache.glob("*/*"))
    for number in range(30):
        assert read_member(number) == bytes([number]) * 5000
    deadline = 200
    while not list(cache.glob("*/*")) and (deadline := deadline - 1):
        read_member(0)
    (held,) = cache.glob("*/*")
    assert held.stat().st_size == (tmp_path / "t.tar").stat().st_size
    assert read_member(99) == bytes([99]) * 5000


def test_a_tar_without_an_index_is_listed_from_what_was_kept(bucket: str, tmp_path: Path) -> None:
    make_tar(tmp_path / "t.tar", MEMBERS)
    upload(tmp_path, bucket)
    first = keys(found_at(bucket))
    files = sorted(
        (tmp_path / "pfg-cache" / "objects" / "files").glob("*/*"), key=lambda one: one.stat().st_size
    )
    assert len(files) == 2
    files[-1].unlink()  # the tar; what is in it stays
    from pfgdata.corpus import remote

    remote._archives_of.cache_clear()
    assert keys(found_at(bucket)) == first
    assert not files[-1].exists()


def test_another_version_of_an_archive_is_looked_at_again(bucket: str, tmp_path: Path) -> None:
    make_zip(tmp_path / "z.zip", [("a.png", b"old")])
    upload(tmp_path, bucket)
    key = ImageKey(root=bucket, path=b"z.zip", member=b"a.png")
    old = read(Url(bucket), key)
    make_zip(tmp_path / "z.zip", [("first.png", b"1" * 999), ("a.png", b"newer")])
    upload(tmp_path, bucket)
    new = read(Url(bucket), key)
    assert (old.data, new.data) == (b"old", b"newer")
    assert old.mtime_ns != new.mtime_ns


def test_what_cannot_be_had_is_named_by_its_reason(bucket: str) -> None:
    place, url = ObjectPlace.at(bucket), Url(bucket)
    place.put("a.jpg", b"12345")
    with pytest.raises(AccessError, match="gone, or never there"):
        read(url, ImageKey(root=bucket, path=b"b.jpg"))
    with pytest.raises(AccessError, match="gone, or never there"):
        read(url, ImageKey(root=bucket, path=b"b.tar", member=b"a.jpg"))
    with pytest.raises(AccessError, match="not UTF-8"):
        read(url, ImageKey(root=bucket, path=b"\xff.jpg"))
    with pytest.raises(ContentError, match="5 bytes, over the limit of 4"):
        read(url, ImageKey(root=bucket, path=b"a.jpg"), max_bytes=4)


def test_what_is_not_there_is_one_line(s3: S3Server, bucket: str) -> None:
    for url, line in (
        (f"{bucket}/nothing", "nothing lies there; check the name"),
        (f"{bucket}/x.tar", "gone, or never there"),
        ("s3://no-such-bucket-1/x", "there is no bucket s3://no-such-bucket-1"),
        (f"{bucket}/list.txt", "a list is read on this machine"),
        (f"{bucket}/x.tar.gz", "is a compressed tar"),
    ):
        with pytest.raises(PfgError, match=line) as error:
            plan_segments([Url.of(url)], {})
        assert "\n" not in str(error.value)
