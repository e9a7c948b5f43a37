"""Sidecars: whose caption a file is, and what it says."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pfgdata.corpus import caption_text, list_sidecars, read_caption
from pfgdata.errors import AccessError, ContentError
from pfgdata.records import ImageKey


def key(path: bytes) -> ImageKey:
    return ImageKey(root="/corpus", path=path)


@pytest.mark.parametrize(
    ("data", "caption"),
    [
        (b"1girl, solo, long_hair, hair ornament", "1girl, solo, long_hair, hair ornament"),
        (rb"saber \(fate\), :d, ^_^, 1girl,, solo, solo ,", "saber (fate), :d, ^_^, 1girl, solo"),
        (rb"\(^o^)/, \m/, ;), k-on!", r"\(^o^)/, \m/, ;), k-on!"),
        (b"\xef\xbb\xbf1boy, solo\r\nshort_hair\r\n", "1boy, solo, short_hair"),
        (b"1girl\nsolo\nlong_hair\n", "1girl, solo, long_hair"),  # gallery-dl writes a tag a line
        ("1girl, 初音ミク".encode("utf-16"), "1girl, 初音ミク"),
        (b"solo\0, smile", "solo, smile"),
        (b"1girl, long hair\r\n\x1a", "1girl, long hair"),  # as DOS ends a text
        (b"1girl, long hair\x1a\x1a\0\0", "1girl, long hair"),
        (rb"1girl, :\), saber \(fate\), \(^o^)/", r"1girl, :), saber (fate), \(^o^)/"),
        (rb"a girl with a smile :\) in a field", "a girl with a smile :) in a field"),
        (rb"she waves \(^o^)/ at us in the field", r"she waves \(^o^)/ at us in the field"),
        (
            b"1girl, solo, solo\nA girl stands in the rain, alone.",
            "1girl, solo, A girl stands in the rain, alone.",
        ),
        (b"1girl, solo\na girl with long hair in the rain", "1girl, solo, a girl with long hair in the rain"),
        (b"A girl stands in the rain.\n1girl, long hair\n", "A girl stands in the rain. 1girl, long hair"),
        (
            b"a girl standing in the rain under a red umbrella\n1girl, solo\n",  # as BLIP writes
            "a girl standing in the rain under a red umbrella, 1girl, solo",
        ),
        (
            b"1girl, solo\na girl standing in the rain under a red umbrella at night\n",
            "1girl, solo, a girl standing in the rain under a red umbrella at night",
        ),
        (
            b"A girl, seen from above, holds\na red umbrella in the cold rain, smiling,\nwet, and so happy\n"
            b"that she sings.\n",
            "A girl, seen from above, holds a red umbrella in the cold rain, smiling, wet, and so happy "
            "that she sings.",
        ),
        (b"a girl in the rain, holding her old umbrella,\n", "a girl in the rain, holding her old umbrella,"),
        (b"", ""),
        (b" ,\n,, ", ""),
        (
            b"A girl stands in the rain, smiling at us.\nThe rain, of course, is cold, and so is the rain.\n",
            "A girl stands in the rain, smiling at us. The rain, of course, is cold, and so is the rain.",
        ),
        (rb"a photo of saber \(fate\) with a sword", "a photo of saber (fate) with a sword"),
    ],
)
def test_a_text_file_is_tags_or_prose(data: bytes, caption: str) -> None:
    assert caption_text(data, is_json=False) == caption


@pytest.mark.parametrize(
    ("data", "caption"),
    [
        (b'{"tag_string_general": "1girl solo", "tag_string_character": "miku"}', "miku, 1girl, solo"),
        (b'{"tag_string": "1girl solo highres", "id": 1}', "1girl, solo, highres"),
        (
            b'{"tag_string": "a m", "tag_string_general": "a", "tag_string_meta": "m"}',
            "a",  # what is said of the file is left out where it is known apart
        ),
        (b'{"tags": ["1girl", "solo", "1girl", 7, null]}', "1girl, solo"),
        (b'{"tags": "1girl solo"}', "1girl, solo"),  # gallery-dl: Gelbooru, Moebooru
        (b'{"tags": "1girl, long hair"}', "1girl, long hair"),
        (b'{"tags": {"general": ["solo"], "species": ["cat"], "meta": ["hi_res"]}}', "cat, solo"),  # e621
        (b'{"tags_general": ["solo"], "tags_artist": ["x"], "tags": ["solo", "x"]}', "x, solo"),
        (b'{"tags": [{"name": "solo", "translated_name": "alone"}]}', "solo"),  # pixiv
        (b'{"caption": "a girl", "tags": ["solo"]}', "a girl"),
        (b'{"caption": "my <b>new</b> work<br />", "tags": ["solo"]}', "solo"),  # an artist's words
        (b'{"caption": "thanks &amp; bye", "tag_string": "1girl solo"}', "1girl, solo"),
        (b'{"category": "pixiv", "subcategory": "user", "caption": "New work!", "tags": ["solo"]}', "solo"),
        (b'{"caption": "new", "tags": [{"name": "solo", "translated_name": "alone"}]}', "solo"),
        (b'{"caption": "<p>thanks", "tags_general": ["1girl"], "tags": ["x"]}', "1girl"),
        (b'{"caption": "a girl", "url": "http://x", "key": "0001"}', "a girl"),  # img2dataset
        (
            b'{"caption": "1girl, solo\\nA girl stands in the rain."}',
            "1girl, solo, A girl stands in the rain.",
        ),
        (b'{"caption": "<p>a girl</p>", "tags": []}', "<p>a girl</p>"),
        (b'{"tags": "long hair\\nblue eyes, :\\\\)"}', "long hair, blue eyes, :)"),
        (b'{"tags": ["solo"]}\r\n\x1a', "solo"),
        (b'{"tags": ["solo", "smile\\u001a"]}', "solo, smile"),
        (b'{"caption": "", "tags": ["solo"]}', "solo"),
        (b'{"caption": ""}', ""),
        (b'{"tags": []}', ""),
        (b'{"tags": null, "caption": ""}', ""),
        (b'["1girl", "solo"]', "1girl, solo"),
        (b'"a girl"', "a girl"),
        (b'\xef\xbb\xbf{"tags": ["so\\u0000lo", "half \\ud800"]}', "solo, half "),
    ],
)
def test_json_holds_tags_or_a_caption(data: bytes, caption: str) -> None:
    assert caption_text(data, is_json=True) == caption


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b'{"tags": ["solo", ', "broken JSON: Expecting value"),
        (b"[" * 60_000, "broken JSON"),
        (b'{"id": ' + b"9" * 5_000 + b"}", "broken JSON"),
        (b'{"id": 1}', "JSON without tags and caption"),
        (b"7", "JSON without tags and caption"),
        (b"", "broken JSON"),
    ],
)
def test_json_without_a_caption_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(ContentError, match=reason) as caught:
        caption_text(data, is_json=True)
    assert "\n" not in str(caught.value)


def test_another_encoding_is_refused_with_advice() -> None:
    with pytest.raises(ContentError, match="not UTF-8; save it as UTF-8"):
        caption_text("初音ミク, ソロ".encode("shift-jis"), is_json=False)


def test_the_most_specific_text_file_wins_and_any_text_wins_over_json(tmp_path: Path) -> None:
    order = [b"x.jpg.txt", b"x.jpg.caption", b"x.txt", b"x.caption", b"x.jpg.json", b"x.json"]
    for name in [b"x.jpg", *order]:
        (tmp_path / os.fsdecode(name)).touch()
    for name in order:
        assert list_sidecars(tmp_path, b"").of(b"x.jpg") == name
        (tmp_path / os.fsdecode(name)).unlink()
    assert list_sidecars(tmp_path, b"").of(b"x.jpg") is None


def test_images_of_one_stem_share_a_caption_and_a_whole_name_is_of_one(tmp_path: Path) -> None:
    for name in ("x.jpg", "x.png", "x.txt", "x.png.TXT"):
        (tmp_path / name).touch()
    sidecars = list_sidecars(tmp_path, b"")
    assert (sidecars.of(b"x.jpg"), sidecars.of(b"x.png")) == (b"x.txt", b"x.png.TXT")
    assert sidecars.orphans == []


def test_a_caption_of_no_other_file_is_an_orphan(tmp_path: Path) -> None:
    (tmp_path / "folder.jpg").mkdir()
    for name in ("a.jpg", "a.txt", "b.txt", "c.json", "folder.txt", "video.mp4", "video.json", ".hidden.txt"):
        (tmp_path / name).touch()
    assert list_sidecars(tmp_path, b"").orphans == [b"b.txt", b"c.json", b"folder.txt"]


def test_names_are_only_bytes(tmp_path: Path) -> None:
    for name in (b"bad_\xff\n.jpg", b"bad_\xff\n.txt"):
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)).write_bytes(b"solo")
    sidecar = list_sidecars(tmp_path, b"").of(b"bad_\xff\n.jpg")
    assert sidecar is not None and read_caption(tmp_path, key(sidecar)) == "solo"


def test_only_plain_files_inside_the_corpus_are_opened(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "secret.txt").write_text("secret")
    (root / "out.txt").symlink_to("../secret.txt")
    os.mkfifo(root / "pipe.txt")
    for name, reason in ((b"out.txt", "a link out of the corpus"), (b"pipe.txt", "a named pipe")):
        with pytest.raises(AccessError, match=reason):
            read_caption(root, key(name))


def test_a_caption_over_its_limit_is_refused_unread(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("tag_x, " * 9_362)
    assert read_caption(tmp_path, key(b"a.txt")) == "tag_x"
    (tmp_path / "a.txt").write_text("tag_x, " * 9_363)
    with pytest.raises(ContentError, match="over the limit of 65,536"):
        read_caption(tmp_path, key(b"a.txt"))
