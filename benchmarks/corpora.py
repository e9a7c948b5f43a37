"""What does it cost that a corpus is in a bucket: an ingest, requests with latency, and what is in a tar?

Needs an S3 server and its AWS_ variables, and a URL to write to: `benchmarks/corpora.py s3://bench/corpora`.
The latency is that of a small proxy in front of the server, which holds back every byte for 15 ms each way.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import os
import statistics
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

sys.path.insert(0, str(Path(__file__).parent.parent))

from pfgdata.corpus import WalkCounts, WalkOptions, ordered_pool, plan_segments, read, walk
from pfgdata.files import ObjectPlace
from pfgdata.ingest import IngestOptions, ingest, open_or_create
from pfgdata.paths import Place, Url
from pfgdata.taggers import OnnxTagger

DEMO = Path(__file__).parent.parent / "pipelines" / "demo" / "images"
DELAY = 0.03  # seconds there and back
RUNS = 3


@contextmanager
def delayed(endpoint: str) -> Iterator[str]:
    """The server at `endpoint`, 30 ms further away."""
    upstream, loop = urlsplit(endpoint), asyncio.new_event_loop()

    async def pipe(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(maxsize=64)

        async def forward() -> None:
            while (item := await queue.get())[1]:
                await asyncio.sleep(max(0.0, item[0] - loop.time()))
                target.write(item[1])
                await target.drain()
            target.close()

        forwarding = asyncio.ensure_future(forward())
        while data := await source.read(1 << 16):
            await queue.put((loop.time() + DELAY / 2, data))
        await queue.put((0.0, b""))
        await forwarding

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(upstream.hostname, upstream.port)
        await asyncio.gather(pipe(reader, back), pipe(there, writer), return_exceptions=True)

    server = loop.run_until_complete(asyncio.start_server(serve, "127.0.0.1", 0))
    threading.Thread(target=loop.run_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


def timed(work: Callable[[], object], runs: int = RUNS) -> tuple[float, float]:
    """Median seconds of wall and of CPU."""
    walls, cpus = [], []
    for _ in range(runs):
        wall, cpu = time.perf_counter(), time.process_time()
        work()
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    return statistics.median(walls), statistics.median(cpus)


def ingested(place: Place, tagger: OnnxTagger) -> float:
    """Images a second of an ingest into a new store."""
    with tempfile.TemporaryDirectory() as folder:
        store = open_or_create(Path(folder) / "feats", tagger)
        options = IngestOptions(batch_size=16)
        report = ingest(plan_segments([place], {}), store, tagger, options=options)
        assert report.tagged == report.found
        return report.found / report.seconds


def ingests(url: str, far: Url) -> None:
    """From a disk, from the bucket, and from the bucket 30 ms away."""
    target = ObjectPlace.at(f"{url}/demo")
    images = sorted(path for path in DEMO.rglob("*") if path.is_file())
    for path in images:
        target.put(path.relative_to(DEMO).as_posix(), path.read_bytes())
    tagger = OnnxTagger.load("demo")
    places: dict[str, Place] = {"disk": DEMO, "bucket": Url(f"{url}/demo")}
    rates: dict[str, list[float]] = {name: [] for name in places}
    for _ in range(RUNS):
        for name, place in places.items():
            rates[name].append(ingested(place, tagger))
    for name, found in rates.items():
        print(f"ingest of {len(images)} from {name}: {statistics.median(found):.1f} images/s", flush=True)
    requests(far)


def requests(far: Url) -> None:
    """Reading, by threads that wait for the server."""
    (segment,) = plan_segments([far], {})
    keys = [one.key for one in walk(segment, counts=WalkCounts())]
    for threads in (2, 8, 32, 64):

        def reading(threads: int = threads) -> None:
            for _ in ordered_pool(keys, lambda key: read(far, key), threads=threads, ahead=2 * threads):
                pass

        reading()
        wall, cpu = timed(reading)
        each = 1000 * cpu / len(keys)
        print(f"{threads} readers: {len(keys) / wall:.0f} images/s, CPU {each:.2f} ms", flush=True)


def write_tar(path: Path, members: int, size: int) -> Path:
    """A tar of `members` JPEGs by name, and its index beside it."""
    data = os.urandom(size)
    with tarfile.open(path, "w") as tar:
        for number in range(members):
            info = tarfile.TarInfo(f"{number:07d}.jpg")
            info.size = size
            tar.addfile(info, io.BytesIO(data))
    with tarfile.open(path) as tar:
        files = {one.name: {"offset": one.offset_data, "size": one.size, "sha256": "0" * 64} for one in tar}
    path.with_suffix(".json").write_text(json.dumps({"filesize": path.stat().st_size, "files": files}))
    return path


def listed(place: Place) -> None:
    """Walk it."""
    counts = WalkCounts()
    for segment in plan_segments([place], {}, options=WalkOptions(archives=True)):
        for _ in walk(segment, counts=counts):
            pass
    assert counts.found


def tars(url: str) -> None:
    """What is in a tar: by its headers, by its index; here and in the bucket."""
    with tempfile.TemporaryDirectory() as folder:
        here = write_tar(Path(folder) / "small.tar", 50_000, 600)
        index = here.with_suffix(".json")
        wall, cpu = timed(lambda: listed(here))
        print(f"50,000 members by the index: {wall:.2f} s, CPU {cpu:.2f} s")
        index.unlink()
        wall, cpu = timed(lambda: listed(here))
        print(f"50,000 members by reading the tar: {wall:.2f} s, CPU {cpu:.2f} s")
        here = write_tar(Path(folder) / "large.tar", 1_000, 100_000)
        for name in ("with", "without"):
            place = ObjectPlace.at(f"{url}/{name}")
            place.put("large.tar", here)
            if name == "with":
                place.put("large.json", here.with_suffix(".json"))
            os.environ["PFG_CACHE"] = f"{folder}/cache-{name}"
            wall, cpu = timed(lambda name=name: listed(Url(f"{url}/{name}/large.tar")), runs=1)  # type: ignore[misc]
            print(f"a tar of 100 MB in the bucket, {name} an index: {wall:.2f} s, CPU {cpu:.2f} s")


def main() -> None:
    """Ask it all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--requests", action="store_true", help="only the reading, at the endpoint there is")
    asked = parser.parse_args()
    far = Url(f"{asked.url}/demo")
    if asked.requests:
        requests(far)
        return
    ingests(asked.url, far)
    with delayed(os.environ["AWS_ENDPOINT_URL"]) as endpoint:
        print(f"and {1000 * DELAY:.0f} ms away:", flush=True)
        command = [sys.executable, __file__, asked.url, "--requests"]  # a client is made once a process
        subprocess.run(command, env={**os.environ, "AWS_ENDPOINT_URL": endpoint}, check=True)
    tars(asked.url)


if __name__ == "__main__":
    main()
