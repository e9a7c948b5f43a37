"""The client of objects: in memory, and against a real S3 server (marker cluster)."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from threading import Barrier, Thread

import pytest
from blake3 import blake3

from pfgdata.errors import ConfigError, PlaceError
from pfgdata.files import ObjectPlace, TakenError
from pfgdata.files.aws_profile import profile_settings
from pfgdata.files.lease import Lease
from pfgdata.urls import UrlPath, is_url
from tests.seaweed import S3Server


@pytest.fixture
def memory() -> ObjectPlace:
    from obstore.store import MemoryStore

    return ObjectPlace("memory://bucket/pre", MemoryStore(), "pre")


def _use(place: ObjectPlace, folder: Path) -> None:
    """The life of some objects, with names that a URL would have to escape."""
    names = ["a/one", "a/b/two é %20?#", "c"]
    etags = {name: place.put(name, name.encode()) for name in names}
    assert [one.key for one in place.list()] == sorted(names)
    assert [one.key for one in place.list("a")] == sorted(names[:2])
    folders, objects = place.children()
    assert folders == ["a"] and [one.key for one in objects] == ["c"]
    assert place.children("a")[0] == ["b"]
    assert place.info("c").etag == etags["c"] and place.info("c").size == 1
    assert place.below("a").read("one") == b"a/one"
    assert place.read_ranges("a/one", [(0, 1), (2, 5), (4, 5)]) == [b"a", b"one", b"e"]
    big = os.urandom(12_000_000)
    (folder / "big").write_bytes(big)
    place.put("big", folder / "big")
    assert place.fetch("big", folder / "back") == blake3(big).hexdigest() == place.digest("big")
    assert (folder / "back").read_bytes() == big
    place.copy("big", "a/big")
    assert place.info("a/big").size == len(big)
    place.delete("a/big", "big", "never there")
    with pytest.raises(FileNotFoundError, match="no such object"):
        place.read("a/big")
    with pytest.raises(FileNotFoundError):
        place.info("big")


def _conditions(place: ObjectPlace) -> None:
    first = place.put("x", b"1", if_none_match=True)
    assert place.put("x", b"1", if_none_match=True) == first  # the answer of the first try was lost
    with pytest.raises(TakenError):
        place.put("x", b"2", if_none_match=True)
    second = place.put("x", b"3", if_match=first)
    with pytest.raises(TakenError):
        place.put("x", b"4", if_match=first)
    assert place.read("x") == b"3" and place.info("x").etag == second
    with pytest.raises(TakenError):
        place.put("y", b"4", if_match=first)


def test_objects_are_written_listed_read_and_deleted(memory: ObjectPlace, tmp_path: Path) -> None:
    _use(memory, tmp_path)


def test_a_condition_that_does_not_hold_writes_nothing(memory: ObjectPlace) -> None:
    _conditions(memory)


def test_what_is_no_place_is_refused_in_one_line() -> None:
    assert is_url("s3://b/x") and is_url(Path("s3://b/x")) and not is_url("feats") and not is_url("./s3:/x")
    for text, words in {
        "ftp://b/x": "is no place of objects",
        "s3:///x": "is no place of objects",
        "s3://key:secret@b/x": "credentials do not belong in a URL",
        "s3://b/../x": "mean nothing in a bucket",
    }.items():
        with pytest.raises(ConfigError, match=words) as told:
            ObjectPlace.at(text)
        assert "secret" not in str(told.value) and "\n" not in str(told.value)


def test_a_url_travels_as_a_path_and_is_shown_as_it_was_written() -> None:
    store = UrlPath("s3://bucket/feats")
    shard = store / "shards" / "00000001-aa" / "shard.json"
    assert str(shard) == "s3://bucket/feats/shards/00000001-aa/shard.json" == os.fspath(shard)
    assert shard.parent.parent.parent == store and isinstance(shard.parent, UrlPath)
    assert (shard.name, shard.suffix, shard.with_name("x").name) == ("shard.json", ".json", "x")
    assert shard.relative_to(store).parts == ("shards", "00000001-aa", "shard.json")
    assert str(shard.relative_to(store)) == "shards/00000001-aa/shard.json"
    assert store.absolute() == store.resolve() == UrlPath(Path("s3://bucket/feats")) == store
    assert store.is_absolute() and is_url(Path(store)) and pickle.loads(pickle.dumps(store)) == store


def test_a_missing_client_is_told_with_the_extra_that_brings_it() -> None:
    code = (
        "import sys; sys.modules['obstore'] = None; sys.modules['obstore.store'] = None\n"
        "from pfgdata.files import ObjectPlace\n"
        "try: ObjectPlace.at('s3://bucket/x')\n"
        "except Exception as problem: print(type(problem).__name__, problem)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.startswith("ConfigError s3://bucket") and "pip install 'pfg[remote]'" in said


def test_the_profile_of_aws_configure_is_read_below_the_environment(tmp_path: Path) -> None:
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws" / "credentials").write_text(
        "[default]\naws_access_key_id = A\naws_secret_access_key = S\n[other]\naws_access_key_id=B\n"
    )
    (tmp_path / ".aws" / "config").write_text("[profile other]\nregion = eu-x\nendpoint_url = http://e:1\n")
    home = {"HOME": str(tmp_path)}
    assert profile_settings(home) == {"access_key_id": "A", "secret_access_key": "S"}
    assert profile_settings({**home, "AWS_PROFILE": "other"}) == {
        "access_key_id": "B",
        "region": "eu-x",
        "endpoint": "http://e:1",
    }
    assert profile_settings({**home, "AWS_ACCESS_KEY_ID": "mine"}) == {}
    assert profile_settings({"HOME": str(tmp_path / "none")}) == {}


def test_a_server_that_does_not_answer_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "keykeykey")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secretsecret")
    with pytest.raises(PlaceError, match=r"s3://bucket/x/y: http://127.0.0.1:9 does not answer") as told:
        ObjectPlace.at("s3://bucket/x").read("y")
    assert "keykey" not in str(told.value) and "secret" not in str(told.value)


@pytest.mark.cluster
def test_a_disk_of_this_machine_that_fails_is_no_missing_object(memory: ObjectPlace, tmp_path: Path) -> None:
    memory.put("whole", b"bytes")
    with pytest.raises(PlaceError, match="reading failed"):
        memory.fetch("whole", tmp_path / "gone" / "file")
    with pytest.raises(OSError, match="No space left on device") as full:
        memory.fetch("whole", Path("/dev/full"))
    assert not isinstance(full.value, PlaceError)


@dataclass(frozen=True, slots=True)
class LosesAnswers(ObjectPlace):
    """A place whose answer to one renewal of a lease is lost, though it was done."""

    lost: list[str] = field(default_factory=list)

    def put(
        self, key: str, data: bytes | Path, *, if_none_match: bool = False, if_match: str | None = None
    ) -> str:
        etag = ObjectPlace.put(self, key, data, if_none_match=if_none_match, if_match=if_match)
        if if_match and not self.lost:
            self.lost.append(etag)
            raise PlaceError("cut off")
        return etag


def test_what_stands_before_the_at_of_a_server_is_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://someone:secret@127.0.0.1:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "y")
    with pytest.raises(PlaceError, match=r"http://127\.0\.0\.1:9 does not answer") as problem:
        ObjectPlace.at("s3://bucket/x").info("key")
    assert "secret" not in str(problem.value)


def test_a_renewal_whose_answer_was_lost_loses_no_lease(memory: ObjectPlace) -> None:
    place = LosesAnswers(memory.url, memory.store, memory.prefix)
    lease = Lease(place, "lock", seconds=0.4)
    with lease.held(what="store", wait=False, say=lambda _: None, stop=lambda: False):
        until = time.monotonic() + 10
        while lease._renewed < 5 and time.monotonic() < until and not lease.lost:
            time.sleep(0.05)
        assert place.lost and not lease.lost and lease._renewed >= 5
    assert memory.read("lock") == b""


@pytest.mark.cluster
def test_a_real_server_is_used_as_the_one_in_memory(bucket: str, tmp_path: Path) -> None:
    _use(ObjectPlace.at(f"{bucket}/pre"), tmp_path)
    _conditions(ObjectPlace.at(f"{bucket}/conditions"))


@pytest.mark.cluster
def test_forty_races_of_sixteen_have_one_winner_each(bucket: str) -> None:
    place = ObjectPlace.at(bucket)

    def race(number: int) -> int:
        gate, won = Barrier(16), list[int]()

        def put(who: int) -> None:
            gate.wait()
            try:
                place.put(f"commits/{number}.json", f"writer {who}".encode(), if_none_match=True)
            except TakenError:
                return
            won.append(who)

        threads = [Thread(target=put, args=(who,)) for who in range(16)]
        for one in threads:
            one.start()
        for one in threads:
            one.join()
        assert len(won) == 1 and place.read(f"commits/{number}.json") == f"writer {won[0]}".encode()
        return won[0]

    with ThreadPoolExecutor(10) as races:  # a loser may wait for seconds at this server
        assert len(list(races.map(race, range(40)))) == 40


@pytest.mark.cluster
def test_what_the_server_refuses_is_told_in_one_line(
    s3_server: S3Server, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ObjectPlace.at(bucket).put("x", b"1")

    def told(url: str, **settings: str) -> str:
        with monkeypatch.context() as there:
            for name, value in {**s3_server.environment(), **settings}.items():
                there.setenv(name, value)
            with pytest.raises(PlaceError) as refused:
                if settings.get("AWS_ACCESS_KEY_ID") == "readerkey" and url == bucket:
                    ObjectPlace.at(url).put("y", b"2")
                else:
                    list(ObjectPlace.at(url).list())
        text = str(refused.value)
        assert "\n" not in text and "secret" not in text and len(text) < 300
        return text

    reader = {"AWS_ACCESS_KEY_ID": "readerkey", "AWS_SECRET_ACCESS_KEY": "readersecret"}
    assert "there is no bucket s3://no-such-bucket" in told("s3://no-such-bucket/x", **reader)
    assert "no permission for writing" in told(bucket, **reader)
    assert "refuses the credentials" in told(bucket, AWS_ACCESS_KEY_ID="nobody")
    assert "refuses the credentials" in told(bucket, AWS_SECRET_ACCESS_KEY="another")
