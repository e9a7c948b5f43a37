"""A process that has read a store ends well, however late the threads of Arrow and DuckDB are.

One of them that waits for the interpreter lock while the interpreter ends aborts the process (exit 134). On
an idle machine they are never that late; here they are made so.
"""

from __future__ import annotations

import collections
import ctypes
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from pfgdata.query import Thresholds, select
from pfgdata.store import Shadow, Store
from tests.conftest import make_images, new_store
from tests.pfgdata.store.small_shards import contents

ENDS = 6  # where a thread of Arrow's held bytes of Python's, half of them or more were aborted
HELD = 100_000  # microseconds; a thread that is late has come to the interpreter lock by then
RUNS = 24  # of a whole command; of those that read so, one to three in a hundred were aborted


@pytest.fixture
def used_store(tmp_path: Path) -> Store:
    """A store with a hidden row and a column."""
    store = new_store(tmp_path / "feats")
    with store.writer() as writer:
        first = writer.commit(contents(b"a", b"b"))
        writer.commit(contents(b"a", shadows=(Shadow(first.id, "images", 0),)))
        writer.write_column("caption", pa.table({"path": ["a", "b"], "value": ["one", "two"]}))
    return store


def see(path: Path) -> None:
    """Look which rows are hidden."""
    assert Store.open(path).snapshot().num_images == 2


def read_column(path: Path) -> None:
    """Read the column."""
    assert Store.open(path).read_column("caption").num_rows == 2


def ask(path: Path) -> None:
    """Select rows, some being hidden."""
    store = Store.open(path)
    thresholds = Thresholds()
    assert len(select(store.snapshot(), "width > 0", thresholds)) == 2


def delay_other_threads() -> None:
    """From now on, this process's other threads come after this one, and get the interpreter lock last."""
    for thread in (int(task.name) for task in Path("/proc/self/task").iterdir()):
        os.sched_setaffinity(thread, {min(os.sched_getaffinity(0))})
        if thread != os.getpid():
            os.setpriority(os.PRIO_PROCESS, thread, 19)
    sys.setswitchinterval(60)


def end_often(name: str, path: str) -> None:
    """Let forked processes do `name` last of all, and print what each one's exit code was."""
    hold = ctypes.PyDLL(None).usleep  # unlike time.sleep it keeps the interpreter lock
    for _ in range(ENDS):
        child = os.fork()
        if not child:
            Store.open(Path(path))  # starts the threads, which reads a small file
            delay_other_threads()
            globals()[name](Path(path))
            hold(HELD)
            sys.exit()
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets a thread's priority be set")
@pytest.mark.parametrize("look", [see, read_column, ask])
def test_a_process_that_ends_while_threads_are_late_ends_well(used_store: Store, look: object) -> None:
    name = getattr(look, "__name__", "")
    script = f"from {__name__} import end_often; end_often({name!r}, {str(used_store.path)!r})"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["0"] * ENDS, done.stderr


@pytest.mark.slow
def test_short_ingests_beside_a_busy_core_all_end_well(tmp_path: Path) -> None:
    """Runs that find little or nothing new, over a store with hidden rows and captions."""
    images, store = tmp_path / "images", tmp_path / "feats"
    for path in make_images(images, 3):
        path.with_suffix(".txt").write_text("a caption")
    command = [sys.executable, "-m", "pfgdata", "ingest", str(images), "--store", str(store)]
    ended: collections.Counter[int] = collections.Counter()
    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        for number in range(RUNS):
            more = ["--tagger", "demo", "--sidecars"] if number == 0 else []
            if number == 1:
                make_images(images, 1, seed=1)
            ended[subprocess.run([*command, *more], capture_output=True, check=False).returncode] += 1
    finally:
        busy.kill()
        busy.wait()
    assert ended == {0: RUNS}
