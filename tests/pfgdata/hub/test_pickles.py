"""A .ckpt that holds more than tensors: they are read, the rest is a stub, and no pickle can do anything."""

from __future__ import annotations

import argparse
import collections
import datetime
import json
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pfgdata.hub.pickles import pickled_tensors

WATCHED = """
import json, sys
from pathlib import Path
from pfgdata.hub.pickles import pickled_tensors

pickled_tensors(Path(sys.argv[1]))  # what is imported lazily is imported now
"name".encode("cp437")  # of members of a zip
events, watching = [], True

def hook(event, args):
    if watching:
        events.append([event, str(args[0]) if args else "", str(args[1])[:8] if len(args) > 1 else ""])

sys.addaudithook(hook)
said = []
for file in sys.argv[2:]:
    try:
        said.append(sorted(pickled_tensors(Path(file))))
    except Exception as problem:
        said.append(type(problem).__name__)
watching = False
print(json.dumps({"said": said, "events": events}))
"""


class Settings(dict[str, Any]):
    """As Lightning's AttributeDict: items, and attributes beside them."""


class Callbacks(list[Any]):
    """As a list of callbacks."""


class Slotted:
    __slots__ = ("x",)


def lightning_state(tensors: dict[str, torch.Tensor]) -> dict[str, Any]:
    """What a trainer keeps: weights; classes as keys, containers of its own, scalars, times, functions."""
    settings, slotted, callbacks = Settings(lr=1e-4), Slotted(), Callbacks(["a", "b"])
    settings.note = slotted.x = torch.ones(2)  # type: ignore[attr-defined]
    weights = collections.OrderedDict(tensors)
    weights._metadata = {"": {"version": 1}}  # type: ignore[attr-defined]
    return {
        "callbacks": {Settings: {"best": np.float64(0.5), "path": Path("/x")}, "all": callbacks},
        "hyper_parameters": settings,
        "args": argparse.Namespace(x=1),
        "many": collections.defaultdict(list, a=[1], b=[slotted]),
        "recent": collections.deque([1, 2]),
        "when": [
            datetime.datetime(2023, 1, 1),
            {1, 2},
            frozenset({3}),
            b"bytes",
            1 + 2j,
            range(3),
            torch.load,
        ],
        "pytorch-lightning_version": "1.4.2",
        "state_dict": weights,
    }


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize("in_zip", [True, False])
def test_the_tensors_of_a_lightning_checkpoint_are_read_bit_for_bit(
    in_zip: bool, protocol: int, tmp_path: Path
) -> None:
    shared = torch.arange(60, dtype=torch.float32)
    tensors = {
        "plain": torch.randn(3, 4),
        "half": torch.randn(5).half(),
        "bfloat": torch.randn(7).bfloat16(),
        "numbers": torch.arange(3),
        "flags": torch.tensor([True, False]),
        "scalar": torch.tensor(4.5),
        "empty": torch.zeros(0, 3),
        "part": shared[10:30].view(4, 5),
        "turned": shared.view(6, 10).T,
        "parameter": torch.nn.Parameter(torch.randn(2)),
        "odd": torch.arange(3, dtype=torch.uint8),  # what follows it in an old file is not aligned
        "after": torch.randn(3).double(),
    }
    file = tmp_path / "m.ckpt"
    torch.save(
        lightning_state(tensors),
        file,
        _use_new_zipfile_serialization=in_zip,
        pickle_protocol=protocol,
    )
    found = pickled_tensors(file)
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert (found[name].dtype, found[name].stride()) == (tensor.dtype, tensor.stride())
        assert torch.equal(found[name], tensor)


def _op(text: str) -> bytes:
    """A pickle that runs the Python expression `text`, were it let."""
    return b"cbuiltins\neval\n(S" + repr(text).encode() + b"\ntR."


def hostile(marker: str) -> dict[str, bytes]:
    """Pickles that would make the folder `marker`, by each opcode that calls, builds or looks up."""
    command = f"__import__('os').mkdir({marker!r})"
    path = b"S" + repr(marker).encode() + b"\n"
    state = b"}(S'state_dict'\n}S'x'\n"
    return {
        "reduce": b"cos\nmkdir\n(" + path + b"tR.",
        "eval": _op(command),
        "exec": _op(f"exec({command!r})"),
        "inst": b"(" + path + b"ios\nmkdir\n.",
        "obj": b"(cos\nmkdir\n" + path + b"o.",
        "stack global": b"\x80\x04\x8c\x02os\x8c\x05mkdir\x93" + path + b"\x85R.",
        "new object": b"\x80\x02cos\nmkdir\n(" + path + b"t\x81.",
        "getattr": b"cbuiltins\ngetattr\n(cbuiltins\n__import__\n(S'os'\ntRS'mkdir'\ntR(" + path + b"tR.",
        "dotted name": b"\x80\x04\x8c\x02os\x8c\x0dpath.os.mkdir\x93" + path + b"\x85R.",
        "through torch": b"ctorch.serialization\nos.mkdir\n(" + path + b"tR.",
        "partial": b"cfunctools\npartial\n(cos\nmkdir\n" + path + b"tR)R.",
        "build on the rebuilder": b"ctorch._utils\n_rebuild_tensor_v2\n(N}S'__call__'\ncos\nmkdir\nstb"
        + path
        + b"\x85R.",
        "build on the stub": b"cos\nmkdir\n(N}S'__new__'\ncos\nmkdir\nstbcos\nmkdir\n(" + path + b"tR.",
        "build on the table": b"ccollections\nOrderedDict\n(N}S'__init__'\ncos\nsystem\nstb"
        + path
        + b"\x85R.",
        "append": b"cx\ny\n)R(cos\nmkdir\n" + path + b"e.",
        "persistent": b"(S'module'\ncos\nmkdir\n" + path + path + b"tQ.",
        "persistent text": b"Pstorage\n.",
        "extension": b"\x80\x02\x82\x01(" + path + b"tR.",
        "in a state dict": state + b"cos\nmkdir\n(" + path + b"tRssS'b'\ncos\nsystem\n(S'true'\ntRs.",
        "no end": b"cos\nmkdir\n(" + path + b"tR",
        "great memo": b"Nr\xff\xff\xff\x7f.",
        "great bytes": b"\x80\x05\x96\xff\xff\xff\xff\xff\xff\xff\x0f.",
        "holds itself": b"}q\x00S'state_dict'\nh\x00s.",
        "nothing": b"",
    }


def test_no_pickle_imports_runs_or_writes_anything(tmp_path: Path) -> None:
    marker = str(tmp_path / "ran")
    good = tmp_path / "good.ckpt"
    torch.save({"state_dict": {"x": torch.ones(2)}}, good)
    files = []
    for name, code in hostile(marker).items():
        in_zip, old = tmp_path / f"{name}.zip.ckpt", tmp_path / f"{name}.ckpt"
        with zipfile.ZipFile(in_zip, "w") as archive:
            archive.writestr("m/data.pkl", code)
        with old.open("wb") as file:  # as before torch 1.6: magic, version, system, the state, keys
            before: list[Any] = [0x1950A86A20F9469CFC6C, 1001, {}]
            for part in before:
                pickle.dump(part, file, protocol=2)
            file.write(code + pickle.dumps([], protocol=2))
        bare = tmp_path / f"{name}.bare.ckpt"
        bare.write_bytes(code)
        files += [str(path) for path in (in_zip, old, bare)]
    ran = subprocess.run(
        [sys.executable, "-c", WATCHED, str(good), *files],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    told = json.loads(ran.stdout)
    assert len(told["said"]) == len(files)
    assert all(said in ("UnpicklingError", [], ["b"]) for said in told["said"]), told["said"]
    assert not Path(marker).exists()
    opened = [event for event in told["events"] if event[0] == "open"]
    assert {path for _, path, _ in opened} == set(files)
    assert {mode for _, _, mode in opened} <= {"rb", "r"}
    allowed = {"open"}
    assert {event[0] for event in told["events"]} <= allowed, {tuple(event) for event in told["events"]}


def test_the_same_pickles_do_run_where_they_are_let(tmp_path: Path) -> None:
    """The oracle: Python's own reader makes the folder of most of them."""
    made = []
    for number, name in enumerate(hostile("")):
        if name in ("great memo", "great bytes", "in a state dict"):
            continue
        marker = tmp_path / str(number)
        code = hostile(str(marker))[name]
        run = "import pickle, sys; pickle.loads(bytes.fromhex(sys.argv[1]))"
        subprocess.run([sys.executable, "-c", run, code.hex()], capture_output=True, timeout=60, check=False)
        made += [name] if marker.exists() else []
    assert {"reduce", "eval", "exec", "inst", "obj", "stack global", "getattr", "dotted name"} <= set(made)


@pytest.mark.parametrize(
    "change",
    [{"offset": 4}, {"offset": -1}, {"size": (4,)}, {"size": (-1,)}, {"stride": (9,)}, {"stride": (-1,)}],
)
def test_a_tensor_that_reaches_beyond_its_storage_is_no_tensor(
    change: dict[str, Any], tmp_path: Path
) -> None:
    class Forged(torch.nn.Module):
        def __reduce__(self) -> Any:
            view = {"offset": 0, "size": (3,), "stride": (1,), **change}
            storage = torch.storage.TypedStorage(
                wrap_storage=torch.arange(3.0).untyped_storage(), dtype=torch.float32, _internal=True
            )
            return torch._utils._rebuild_tensor_v2, (
                storage,
                *view.values(),
                False,
                collections.OrderedDict(),
            )

    torch.save({"x": Forged(), "secret": torch.arange(100.0)}, tmp_path / "m.ckpt")
    with pytest.raises(pickle.UnpicklingError, match=r"x (is cut short|has negative sides)"):
        pickled_tensors(tmp_path / "m.ckpt")


def test_a_file_cut_anywhere_is_said_to_be_no_whole_one(tmp_path: Path) -> None:
    for in_zip in (True, False):
        torch.save({"x": torch.ones(1000)}, tmp_path / "whole.ckpt", _use_new_zipfile_serialization=in_zip)
        whole = (tmp_path / "whole.ckpt").read_bytes()
        for length in range(0, len(whole), 37):
            (tmp_path / "cut.ckpt").write_bytes(whole[:length])
            with pytest.raises(pickle.UnpicklingError):
                pickled_tensors(tmp_path / "cut.ckpt")
