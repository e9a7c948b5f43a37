"""Files as downloads leave them: each gets its row or its one line, and none harms the rest."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
import tarfile
import threading
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from pfgdata.corpus import WalkOptions, plan_segments
from pfgdata.ingest import IngestJob, IngestOptions, ingest, open_or_create, tagger_for
from pfgdata.query import Thresholds, run_query
from pfgdata.records import shown
from pfgdata.store import Store, key_of, verify
from tests.conftest import make_images, new_store
from tests.doubles import CheapTagger
from tests.pfgdata.ingest.nasty_bytes import encoded
from tests.pfgdata.ingest.nasty_files import FILES, File, Link, Row, build

BY_PATH = {file.path: file for file in FILES}
ACCEPTED = [file.path for file in FILES if isinstance(file.expected, Row)]
MOST_MEMORY = 1_500_000  # kB; 108 megapixels as RGB are 324 MB, what the bombs claim is 2 to 10^10 GB


@dataclass(frozen=True)
class Outcome:
    """What the commands said of the corpus, and where it is."""

    folder: Path
    report: dict[str, Any]
    errors: str
    memory: int  # kB at the peak
    rows: dict[bytes, dict[str, Any]]
    failures: dict[bytes, dict[str, Any]]
    lines: list[dict[str, Any]]  # of pfgdata query --json
    store: Store

    def feature(self, path: bytes) -> npt.NDArray[np.float32]:
        """The unit feature of a file's row, float32 [768]."""
        snapshot, row = self.store.snapshot(), self.rows[path]
        feature = snapshot.feature_map(row["shard"])[row["row"]].astype(np.float32)
        return np.asarray(feature / np.linalg.norm(feature))

    def likeness(self, path: bytes, other: bytes) -> float:
        """The cosine of two files' features."""
        return float(self.feature(path) @ self.feature(other))

    def bits_apart(self, path: bytes, other: bytes) -> int:
        """Of the 64 of the perceptual hash."""
        return int(self.rows[path]["phash"] ^ self.rows[other]["phash"]).bit_count()


def command(*words: str, folder: Path) -> tuple[str, str, int]:
    """stdout, stderr and peak memory (kB) of `pfgdata`, which must succeed."""
    with (folder / "out").open("w+b") as out, (folder / "err").open("w+b") as err:
        process = subprocess.Popen(
            [sys.executable, "-m", "pfgdata", *words],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
            stdout=out,
            stderr=err,
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0, (folder / "err").read_text(errors="replace")
    return (folder / "out").read_text(), (folder / "err").read_text(), usage.ru_maxrss


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """The corpus, ingested with the demo tagger by the command."""
    folder = tmp_path_factory.mktemp("nasty")
    (folder / "nasty").mkdir()
    build(folder / "nasty")
    words = ("ingest", "nasty", "--store", "feats", "--tagger", "demo", "--json")
    out, errors, memory = command(*words, folder=folder)
    lines, _, _ = command("query", "true", "--store", "feats", "--json", folder=folder)
    store = Store.open(folder / "feats")
    images, failures = store.snapshot().images(), store.snapshot().failures()
    return Outcome(
        folder=folder,
        report=json.loads(out),
        errors=errors,
        memory=memory,
        rows={key_of(row).path: row for row in images.to_pylist()},
        failures={key_of(row).path: row for row in failures.to_pylist()},
        lines=[json.loads(line) for line in lines.splitlines()],
        store=store,
    )


@pytest.mark.parametrize("file", FILES, ids=lambda file: repr(file.path)[2:-1])
def test_each_file_is_a_row_a_failure_or_ignored(outcome: Outcome, file: File) -> None:
    row, failure, expected = outcome.rows.get(file.path), outcome.failures.get(file.path), file.expected
    if expected is None:
        assert row is None and failure is None
    elif isinstance(expected, Row):
        assert failure is None and row is not None
        assert (row["format"], row["width"], row["height"]) == (
            expected.format,
            expected.width,
            expected.height,
        )
        assert expected.frames is None or row["frames"] == expected.frames
    else:
        assert row is None and failure is not None and failure["kind"] == expected.kind
        assert re.search(expected.reason, failure["reason"]) and failure["reason"].isprintable()


def test_the_report_adds_up_and_the_store_is_sound(outcome: Outcome) -> None:
    report, ignored = outcome.report, [file for file in FILES if file.expected is None]
    assert report["found"] == report["tagged"] + report["copied"] + report["failed"]
    assert report["found"] == len(FILES) - len(ignored) == len(outcome.rows) + len(outcome.failures)
    assert report["failed"] == len(report["failures"]) == len(outcome.failures)
    links = sum(isinstance(file.make, Link) for file in ignored)
    assert (report["links"], report["ignored"]) == (links, len(ignored) - links)
    assert verify(outcome.store.path, deep=True) == []


def test_no_bomb_takes_memory(outcome: Outcome) -> None:
    assert outcome.memory < MOST_MEMORY


def test_a_second_run_has_nothing_to_do(outcome: Outcome) -> None:
    folder = outcome.folder / "nasty"
    tagger = tagger_for(outcome.store, IngestJob())
    report = ingest(plan_segments([folder], outcome.store.roots()), outcome.store, tagger)
    assert (report.tagged, report.copied, report.unchanged) == (0, 0, len(ACCEPTED))


def test_names_survive_the_round_trip_to_json(outcome: Outcome) -> None:
    assert sorted(line["path"] for line in outcome.lines) == sorted(map(shown, ACCEPTED))
    for path, line in zip(sorted(ACCEPTED), outcome.lines, strict=True):  # in the order of the bytes
        assert line["path"] == shown(path) and line["root"] == str(outcome.folder / "nasty")
        if line["path"].encode() == path:
            assert (outcome.folder / line["file"]).exists()


def test_a_name_is_never_sql_a_command_or_a_letter_to_the_terminal(outcome: Outcome) -> None:
    names = sorted(path for path in ACCEPTED if path.startswith(b"names/"))
    literals = (shown(name).replace("'", "''") for name in names)
    found = run_query(
        outcome.store.snapshot(),
        "path in ('" + "', '".join(literals) + "')",
        thresholds=Thresholds(),
        columns=["path"],
        roots={},
    )
    assert found["path"].to_pylist() == list(map(shown, names))
    assert not list(outcome.folder.rglob("pwned*"))
    assert all(line.isprintable() for line in outcome.errors.splitlines())
    assert "Warning" not in outcome.errors  # of a library


def test_a_turned_picture_is_the_upright_one(outcome: Outcome) -> None:
    upright = b"exif/orient_1.jpg"
    turned = [path for path in BY_PATH if path.startswith(b"exif/orient_")]
    assert len(turned) == 11
    for path in turned:
        assert outcome.bits_apart(path, upright) <= 4 and outcome.likeness(path, upright) > 0.99, path


def test_pictures_of_every_mode_look_alike(outcome: Outcome) -> None:
    for path in (b"ext/ok.avif", b"ext/two_pictures.jpg", b"ext/trailing_garbage.jpg", b"mode/cmyk.jpg"):
        assert outcome.bits_apart(path, b"ext/is_png.jpg") <= 4, path
        assert outcome.likeness(path, b"ext/is_png.jpg") > 0.98, path
    for path in (b"anim/anim.png", b"anim/anim.webp", b"anim/anim.gif", b"anim/apng_hidden_default.png"):
        assert outcome.likeness(path, b"ext/is_png.jpg") > 0.98, path
    for path in (b"mode/grey16.png", b"mode/interlaced.png", b"ext/float32.tiff"):
        assert outcome.bits_apart(path, b"mode/grey8.png") == 0, path
        assert outcome.likeness(path, b"mode/grey8.png") > 0.9999, path


def test_the_colour_under_full_transparency_does_not_show(outcome: Outcome) -> None:
    assert outcome.likeness(b"size/fully_transparent.png", b"size/white.png") > 0.9999


def test_a_colour_profile_is_honoured(outcome: Outcome) -> None:
    assert outcome.likeness(b"icc/cmyk_profile_on_rgb.jpg", b"exif/orient_1.jpg") > 0.9999
    assert outcome.likeness(b"icc/swapped_rb.png", b"ext/is_png.jpg") < 0.999


def test_where_a_picture_was_taken_is_not_stored(outcome: Outcome) -> None:
    for path in outcome.store.path.rglob("*"):
        assert not path.is_file() or b"Secret" not in path.read_bytes()


def test_one_bad_image_never_changes_its_neighbours(tmp_path: Path) -> None:
    """With a real model, where neighbours in a batch might move each other's last bits."""
    damage = {"0002.png": b"", "0005.png": b"no image", "0010.png": encoded()[:-400]}
    results = []
    for name in ("good", "bad"):
        make_images(tmp_path / name, 12)
        for path in damage if name == "bad" else ():
            (tmp_path / name / path).write_bytes(damage[path])
        tagger = tagger_for(None, IngestJob(tagger="demo"))
        store = open_or_create(tmp_path / f"{name}_feats", tagger)
        options = IngestOptions(batch_size=4, threads=2)
        ingest(plan_segments([tmp_path / name], {}), store, tagger, options=options)
        snapshot = store.snapshot()
        rows = snapshot.images(["path", "tag_ids", "tag_scores", "rating_scores", "phash"]).to_pylist()
        features = snapshot.features(snapshot.everything)
        facts = [
            [row[column] for column in ("tag_ids", "tag_scores", "rating_scores", "phash")] for row in rows
        ]
        results.append(
            {
                row["path"]: (fact, feature.tobytes())
                for row, fact, feature in zip(rows, facts, features, strict=True)
            }
        )
    good, bad = results
    assert len(good) == 12 and bad == {path: fact for path, fact in good.items() if path not in damage}


def test_what_may_not_be_read_is_named_and_the_rest_is_done(closed_to_us: Path) -> None:
    make_images(closed_to_us / "images" / "closed", 2)
    make_images(closed_to_us / "images", 2, seed=1)
    (closed_to_us / "images" / "0000.png").chmod(0)
    (closed_to_us / "images" / "closed").chmod(0)
    try:
        store = new_store(closed_to_us / "feats")
        report = ingest(plan_segments([closed_to_us / "images"], {}), store, CheapTagger())
    finally:
        (closed_to_us / "images" / "closed").chmod(0o755)
    assert (report.tagged, report.failed) == (1, 1)
    assert [(one.kind, one.reason) for one in report.failures] == [("access", "permission denied")]
    assert report.unreadable == [f"{closed_to_us}/images/closed"]


def test_a_file_that_grows_while_it_is_read_is_whole_or_not_taken(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    path, stop = tmp_path / "images" / "growing.jpg", threading.Event()
    path.write_bytes(encoded())

    def grow() -> None:
        with path.open("ab") as file:
            while not stop.wait(0.0001):
                file.write(b"more")
                file.flush()

    writer = threading.Thread(target=grow)
    writer.start()
    try:
        store = new_store(tmp_path / "feats")
        for _ in range(5):
            report = ingest(plan_segments([tmp_path / "images"], store.roots()), store, CheapTagger())
            assert report.tagged + report.copied + report.failed == 1
            assert {one.reason for one in report.failures} <= {"changed while it was read"}
    finally:
        stop.set()
        writer.join()
    assert ingest(plan_segments([tmp_path / "images"], store.roots()), store, CheapTagger()).failed == 0
    assert store.snapshot().num_images == 1 and store.snapshot().failures().num_rows == 0


def hostile_tar(path: Path) -> None:
    """A tar whose members would leave it, and two of one name."""
    with tarfile.open(path, "w") as tar:
        for name in (*ESCAPES, "twice.jpg", "twice.jpg"):
            entry = tarfile.TarInfo(name)
            entry.size = len(encoded())
            tar.addfile(entry, io.BytesIO(encoded()))
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE):
            entry = tarfile.TarInfo(f"special{kind.decode()}.jpg")
            entry.type, entry.linkname = kind, "../../outside/private.png"
            tar.addfile(entry)


def hostile_zip(path: Path) -> None:
    """A zip whose members would leave it, a link, and one that inflates to more than it says."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ESCAPES:
            archive.writestr(name, encoded())
        link = zipfile.ZipInfo("link.jpg")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "../../outside/private.png")
        archive.writestr("bomb.png", bytes(50_000_000))
    data = path.read_bytes()
    size = (50_000_000).to_bytes(4, "little")
    path.write_bytes(data.replace(size, (1_000).to_bytes(4, "little")))


ESCAPES = ("../../../escaped.jpg", "/escaped_absolute.jpg", "x\\..\\..\\escaped.jpg", "a/../../escaped.jpg")


def test_members_of_archives_never_leave_them(tmp_path: Path) -> None:
    images = tmp_path / "a" / "b" / "images"
    images.mkdir(parents=True)
    (tmp_path / "a" / "outside").mkdir()
    (tmp_path / "a" / "outside" / "private.png").write_bytes(encoded("png"))
    hostile_tar(images / "hostile.tar")
    hostile_zip(images / "hostile.zip")
    before = sorted(tmp_path.rglob("*"))
    store = new_store(tmp_path / "feats")
    segments = plan_segments([images], {}, options=WalkOptions(archives=True))
    report = ingest(segments, store, CheapTagger())
    assert [path for path in sorted(tmp_path.rglob("*")) if store.path not in (path, *path.parents)] == before
    assert not Path("/escaped_absolute.jpg").exists()
    keys = [key_of(row) for row in store.snapshot().images().to_pylist()]
    names = sorted(name.encode() for name in ESCAPES)
    assert [key.member for key in keys if key.path == b"hostile.tar"] == sorted([*names, b"twice.jpg"])
    assert [key.member for key in keys if key.path == b"hostile.zip"] == names
    failures = {Path(one.file).name.partition("!")[2]: one.reason for one in report.failures}
    assert {one.kind for one in report.failures} == {"content"} and report.ignored == 0
    assert {name: reason.split(" in its archive")[0] for name, reason in failures.items()} == {
        "special1.jpg": "a hard link to what its archive does not hold",
        "special2.jpg": "a symbolic link",
        "special3.jpg": "a device",
        "special6.jpg": "a named pipe",
        "link.jpg": "a symbolic link",
        "bomb.png": "damaged",
    }


def test_links_out_of_the_corpus_are_followed_on_request_and_still_do_no_harm(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "private.png").write_bytes(encoded("png"))
    images = tmp_path / "images"
    (images / "a").mkdir(parents=True)
    targets = {
        "devzero.png": "/dev/zero",  # endless, so its kind is looked at before it is opened
        "procmem.png": "/proc/self/mem",  # a plain file by its mode, of which every read fails
        "outside.png": "../outside/private.png",
        "outside_dir": "../outside",
        "loop": ".",
        "a/up": "..",
    }
    for name, target in targets.items():
        (images / name).symlink_to(target)
    store, options = new_store(tmp_path / "feats"), IngestOptions()
    segments = plan_segments([images], {}, options=WalkOptions(follow_links=True))
    report = ingest(segments, store, CheapTagger(), options=options)
    assert {Path(one.file).name: one.kind for one in report.failures} == {
        "devzero.png": "access",
        "procmem.png": "access",
    }
    paths = store.snapshot().images(["path"])["path"].to_pylist()
    assert paths == ["outside.png", "outside_dir/private.png"]
