"""A dataset on the hub as a corpus, from a small server that speaks its endpoints."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from pfgdata.corpus.sources import stamp
from tests.pfgdata.corpus.hub_server import Hub, oid, serve
from tests.pfgdata.corpus.packing import make_tar
from tests.pfgdata.corpus.test_tar_index import write_index

# In a process of its own: huggingface_hub reads HF_ENDPOINT and HF_HUB_OFFLINE when it is imported.
SCRIPT = """
import json, sys
from pfgdata.corpus import WalkCounts, plan_segments, read, walk
from pfgdata.errors import ImageError, PfgError
from pfgdata.paths import Url

def seen(url):
    try:
        segments = plan_segments([Url.of(url)], {})
        return [one for segment in segments for one in images(segment)]
    except PfgError as problem:
        return str(problem)

def images(segment):
    for one in walk(segment, counts=WalkCounts()):
        try:
            got = read(segment.location, one.key)
            data, stat = got.data.hex(), [got.size, got.mtime_ns]
        except ImageError as problem:
            data, stat = None, f"{problem.kind}: {problem}"
        yield [one.key.root, one.key.name, [one.size, one.mtime_ns], data, stat]

print(json.dumps([seen(url) for url in sys.argv[1:]]))
"""


def seen(hub: Hub, url: str, cache: Path, **environment: str) -> Any:
    """What a walk of `url` finds and reads, or the one line that it ends with."""
    return seen_each(hub, [url], cache, **environment)[0]


def seen_each(hub: Hub, urls: list[str], cache: Path, **environment: str) -> list[Any]:
    told = {"HF_ENDPOINT": hub.endpoint, "HF_HUB_OFFLINE": "0", "PFG_CACHE": str(cache)}
    told["HF_HOME"] = str(cache)
    plain = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    command, told = [sys.executable, "-c", SCRIPT, *urls], {**plain, **told, **environment}
    run = subprocess.run(command, env=told, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert "secret" not in run.stdout + run.stderr
    found: list[Any] = json.loads(run.stdout)
    return found


@pytest.fixture
def tars(tmp_path: Path) -> dict[str, bytes]:
    """Two tars, of which one has an index, and images beside them."""
    members = [(b"%02d.jpg" % n, bytes([n]) * 700) for n in range(6)]
    one, two = make_tar(tmp_path / "1.tar", members), make_tar(tmp_path / "2.tar", members[:2])
    index = write_index(one)
    return {
        "README.md": b"a dataset",
        "data/1.tar": one.read_bytes(),
        "data/1.json": index.read_bytes(),
        "data/2.tar": two.read_bytes(),
        "data/a.png": b"small",
        "data/b c#1.png": b"large" * 99,
    }


def test_a_dataset_is_walked_and_read(tars: dict[str, bytes], tmp_path: Path) -> None:
    with serve(Hub(tars)) as hub:
        found = seen(hub, "hf://datasets/ORG/NAME@main/data", tmp_path / "cache")
        assert not hub.leaked  # the token, to the other host
    assert {root for root, *_ in found} == {"hf://datasets/ORG/NAME@main/data"}
    names = [f"1.tar!{n:02d}.jpg" for n in range(6)] + ["2.tar!00.jpg", "2.tar!01.jpg", "a.png", "b c#1.png"]
    assert [name for _, name, *_ in found] == names
    contents = [bytes([n]).hex() * 700 for n in (0, 1, 2, 3, 4, 5, 0, 1)] + [
        b"small".hex(),
        (b"large" * 99).hex(),
    ]
    assert [data for *_, data, _ in found] == contents
    assert all(walked == read for _, _, walked, _, read in found)
    assert found[0][2] == [700, stamp(oid(tars["data/1.tar"]))]
    assert found[8][2] == [5, stamp("git-" + oid(b"small"))]


def test_a_single_tar_of_a_dataset_can_be_named(tars: dict[str, bytes], tmp_path: Path) -> None:
    with serve(Hub(tars)) as hub:
        found = seen(hub, "hf://datasets/ORG/NAME/data/2.tar", tmp_path / "cache")
    assert [one[:2] for one in found] == [["hf://datasets/ORG/NAME/data", f"2.tar!0{n}.jpg"] for n in (0, 1)]


def test_a_folder_named_in_another_script_is_cut_from_its_files_whole(tmp_path: Path) -> None:
    with serve(Hub({"画像/猫/a.png": b"small", "画像/b.png": b"other"})) as hub:
        found = seen(hub, "hf://datasets/ORG/NAME/画像", tmp_path / "cache")
    assert [(name, data) for _, name, _, data, _ in found] == [
        ("b.png", b"other".hex()),
        ("猫/a.png", b"small".hex()),
    ]


def test_limits_are_waited_for_as_told_and_cut_lines_go_on(tars: dict[str, bytes], tmp_path: Path) -> None:
    busy = [(429, {"Retry-After": "1"}), (429, {"ratelimit": '"api";r=0;t=0'}), (503, {"Retry-After": "0"})]
    begun = time.monotonic()
    with serve(Hub(tars, busy=busy, cut=1)) as hub:
        found = seen(hub, "hf://datasets/ORG/NAME/data/2.tar", tmp_path / "cache")
        assert not hub.busy
        assert not hub.cut
    assert time.monotonic() - begun >= 1  # what the first refusal asked for
    assert [data for *_, data, _ in found] == [bytes([n]).hex() * 700 for n in (0, 1)]


def test_the_token_of_the_environment_opens_a_gated_dataset(tars: dict[str, bytes], tmp_path: Path) -> None:
    with serve(Hub(tars, token="hf_secret")) as hub:
        url = "hf://datasets/ORG/NAME/data/b c#1.png"
        closed = seen(hub, url.partition("/b c")[0], tmp_path / "cache")
        opened = seen(hub, url.partition("/b c")[0], tmp_path / "cache", HF_TOKEN="hf_secret")
        assert not hub.leaked
    assert "is gated; accept its terms on its page, then hf auth login, or set HF_TOKEN" in closed
    assert len(opened) == 10


LINES = {
    "hf://datasets/ORG/NAME@v9": "the dataset has no revision v9",
    "hf://datasets/ORG/OTHER": "the hub has no such dataset, or it is private",
    "hf://datasets/ORG/NAME/nowhere": "nothing lies there; check the name",
    "hf://datasets/ORG/NAME/no.tar": "gone, or never there; check the name",
    "hf://ORG/NAME": "names no dataset; write hf://datasets/ORG/NAME",
}


def test_what_is_not_there_is_one_line(tars: dict[str, bytes], tmp_path: Path) -> None:
    with serve(Hub(tars)) as hub:
        told = seen_each(hub, list(LINES), tmp_path / "cache")
    for url, line in zip(LINES.values(), told, strict=True):
        assert url in line
        assert "\n" not in line


def test_a_hub_that_is_not_asked_or_not_there_is_one_line(tmp_path: Path) -> None:
    url = "hf://datasets/ORG/NAME"
    assert "HF_HUB_OFFLINE is set" in seen(
        Hub({}, endpoint="http://127.0.0.1:9"), url, tmp_path, HF_HUB_OFFLINE="1"
    )
