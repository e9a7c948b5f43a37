"""Checkpoints on disk: made by one rename, found by step or as the best, their files known by digest."""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from blake3 import blake3
from safetensors import SafetensorError

from pfgdata.errors import RunError, StoreError, StoreFormatError
from pfgdata.files import Disk, canonical_json, read_json
from pfgdata.records import NoProgress, Progress, during
from pfgtrain.checkpoint.record import RUN_FORMAT, RunRecord

__all__ = [
    "ADAPTER_FILE",
    "EMA_FOLDER",
    "LORA_FILE",
    "UNET_FILE",
    "CheckpointState",
    "Stateful",
    "checkpoint_of",
    "checkpoints",
    "find_checkpoint",
    "keep_for",
    "load_training_state",
    "newest_is",
    "read_state",
    "require_undamaged",
    "save_checkpoint",
    "save_training_state",
    "saved_digests",
    "weights_folder",
]

ADAPTER_FILE = "adapter.safetensors"
UNET_FILE = "unet.safetensors"  # the parameters that learned, by diffusers' names
LORA_FILE = "lora.safetensors"
EMA_FOLDER = "ema"  # holds the same files of the moving average
_OPTIMIZER_FILE = "optimizer.pt"
_STATE_FILE = "state.json"
_KEPT_FILE = "kept-for.txt"  # the run that stands on a checkpoint, which is then never pruned
_UNREADABLE = (
    OSError,
    RuntimeError,
    ValueError,
    KeyError,
    TypeError,
    pickle.UnpicklingError,
    StoreError,
)  # of torch.load and of load_state_dict
_START = "step-00000000"  # made on request alone, to compare with
_CHECKPOINT = re.compile(r"step-\d{8,}")


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointState:
    """Where in a run a checkpoint stands. Randomness is a function of it, so no generator is stored."""

    step: int  # optimizer steps done
    epoch: int  # epoch the next batch is of
    position: int  # global batches of that epoch that are done
    probe_start: float  # loss on the probe rows before the first step
    validation_loss: float | None  # on the images held out, of what generate uses; None where there are none


class Stateful(Protocol):
    """An optimizer, scheduler or gradient scaler."""

    def state_dict(self) -> dict[str, Any]:
        """Its state."""

    def load_state_dict(self, state_dict: Any) -> Any:
        """Go on from a state."""


def save_checkpoint(
    run_dir: Path,
    state: CheckpointState,
    *,
    write: Callable[[Path], None],
    limit: int | None = None,
    disk: Disk | None = None,
) -> Path:
    """Make `checkpoints/step-NNNNNNNN` of what `write` puts into the folder it is given.

    Beside the `limit` newest only the best by validation loss is kept, that of the start, and those that
    other runs stand on.

    Raises RunError when it cannot be written; the earlier checkpoints are then as they were.
    """
    disk = disk or Disk()
    folder = run_dir / "checkpoints"
    final = folder / f"step-{state.step:08d}"
    if final.exists():  # the same step of the same run: the same weights
        return final
    try:
        disk.make_folder(folder)
        disk.sweep(folder)  # a fit that was killed while saving leaves its unfinished folder
        fresh = disk.temporary(folder)
        try:
            write(fresh)
            value = {"format": RUN_FORMAT, **asdict(state), "files": _digests(fresh)}
            (fresh / _STATE_FILE).write_bytes(canonical_json(value))
            disk.commit_folder(fresh, final)
        except BaseException:
            disk.discard(fresh)
            raise
    except (OSError, RuntimeError, SafetensorError) as problem:  # a full disk: plain, torch's, safetensors'
        raise RunError(
            f"{final}: not saved ({_line(problem)}); "
            f"{_newest_is(run_dir)}; free the disk and go on with --resume"
        ) from problem
    kept = {_best(run_dir), folder / _START} if limit else set()
    for old in checkpoints(run_dir)[:-limit] if limit else []:
        if old not in kept and not (old / _KEPT_FILE).exists():
            disk.remove_folder(old)
    return final


def checkpoints(run_dir: Path) -> list[Path]:
    """The complete checkpoints of a run, oldest first."""
    folder = run_dir / "checkpoints"
    found = [path for path in folder.iterdir() if _CHECKPOINT.fullmatch(path.name)] if folder.is_dir() else []
    return sorted(found, key=lambda path: int(path.name.removeprefix("step-")))


def find_checkpoint(run_dir: Path, which: str = "latest") -> Path:
    """The `latest` complete checkpoint, the `best` by validation loss, or one by its name.

    Raises RunError when there is none such.
    """
    found = checkpoints(run_dir)
    if not found:
        raise RunError(f"{run_dir}: no checkpoint yet; go on with: pfgtrain fit --out {run_dir} --resume")
    if which == "latest":
        return found[-1]
    if which == "best":
        best = _best(run_dir)
        if best is None:
            raise RunError(f"{run_dir}: held no images out, so no checkpoint is known as the best")
        return best
    for path in found:
        if path.name == which:
            return path
    names = ", ".join(path.name for path in found)
    raise RunError(f"{run_dir}: no checkpoint {which}; there are latest, best, {names}")


def weights_folder(
    checkpoint: Path,
    record: RunRecord,
    *,
    ema: bool = True,
    compare: bool = True,
    progress: Progress | None = None,
) -> Path:
    """Where the weights of a checkpoint of the run of `record` stand: its average, if it has one and `ema`.

    Raises RunError if what the run trained is not there, or is damaged: with `compare` all of it is read.
    """
    averaged = ema and record.use_ema
    folder = checkpoint / EMA_FOLDER if averaged else checkpoint
    trained = {"unet": [UNET_FILE], "lora": [LORA_FILE], "adapter": []}[record.train]
    files = [*([ADAPTER_FILE] if record.num_tokens else []), *trained]
    for file in files:
        if not (folder / file).is_file():
            other = ", use --no-ema" if averaged else ""
            raise RunError(f"{folder}: lacks {file}; copy it back{other}, or take another checkpoint")
    if compare:
        names = [(folder / file).relative_to(checkpoint).as_posix() for file in files]
        require_undamaged(checkpoint, names, progress=progress)
    return folder


def checkpoint_of(weights: Path) -> Path:
    """The checkpoint whose `weights_folder` this is."""
    return weights.parent if weights.name == EMA_FOLDER else weights


def saved_digests(weights: Path) -> list[str]:
    """The BLAKE3 of the weights in such a folder, as they were saved; no weight is read."""
    known = _read(checkpoint_of(weights))["files"]
    names = [
        path.relative_to(checkpoint_of(weights)).as_posix() for path in sorted(weights.glob("*.safetensors"))
    ]
    return [str(known[name]) for name in names]


def newest_is(run_dir: Path) -> str:
    """Which checkpoint is the newest, in the words of an error."""
    saved = checkpoints(run_dir)
    return f"the newest checkpoint is {saved[-1].name}" if saved else "no checkpoint was made yet"


def require_undamaged(
    checkpoint: Path, files: Sequence[str] | None = None, *, progress: Progress | None = None
) -> None:
    """Raise RunError unless `files` of a checkpoint (all that it was saved with) are as they were saved."""
    known = _read(checkpoint).get("files", {})
    progress = progress or NoProgress()
    names = list(known) if files is None else files
    with during(progress, "hash", total=len(names), unit="files"):
        for name in names:
            path = checkpoint / name
            if not path.is_file() or _digest(path) != known.get(name):
                raise RunError(
                    f"{path}: missing, or not as it was saved; copy it back, or delete {checkpoint} to go on"
                    " from the checkpoint before it"
                )
            progress.advance()


def keep_for(checkpoint: Path, run_dir: Path, *, disk: Disk | None = None) -> None:
    """Note that the run in `run_dir` stands on `checkpoint`: however many its own run keeps, it stays."""
    path = checkpoint / _KEPT_FILE
    told = path.read_text("utf-8") if path.exists() else ""
    (disk or Disk()).replace_file(path, f"{told}{run_dir.absolute()}\n".encode())


def _digests(folder: Path) -> dict[str, str]:
    """The files below `folder` and their BLAKE3."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): _digest(path) for path in files}


def _digest(path: Path) -> str:
    hasher = blake3(max_threads=blake3.AUTO)
    hasher.update_mmap(path)
    return hasher.hexdigest()


def _best(run_dir: Path) -> Path | None:
    """The checkpoint of the lowest validation loss, the earlier of equal ones; None if none has any."""
    known: dict[Path, float] = {}
    for path in checkpoints(run_dir):
        try:
            loss = read_state(path).validation_loss
        except RunError:  # damaged: it is not the best
            continue
        if loss is not None:
            known[path] = loss
    return min(known, key=lambda path: known[path]) if known else None


def read_state(checkpoint: Path) -> CheckpointState:
    """Where in its run a checkpoint stands. Raises RunError if it does not say, or is of another version."""
    value = _read(checkpoint)
    value.pop("files", None)
    try:
        return CheckpointState(**value)
    except TypeError as problem:
        raise _cannot_go_on(checkpoint, checkpoint / _STATE_FILE, problem) from problem


def _read(checkpoint: Path) -> dict[str, Any]:
    path = checkpoint / _STATE_FILE
    try:
        value = read_json(path, error=StoreFormatError, advice="the checkpoint is damaged")
        if value.pop("format", None) != RUN_FORMAT:
            raise StoreFormatError("of another version of pfgtrain")
    except _UNREADABLE as problem:
        raise _cannot_go_on(checkpoint, path, problem) from problem
    return value


def _cannot_go_on(checkpoint: Path, path: Path, problem: Exception) -> RunError:
    return RunError(
        f"{path}: cannot be gone on from ({_line(problem)[:160]}); delete {checkpoint} to go on from the"
        " checkpoint before it"
    )


def save_training_state(folder: Path, parts: Mapping[str, Stateful]) -> None:
    """Write the states of the optimizer and its companions into a checkpoint's folder."""
    torch.save({name: part.state_dict() for name, part in parts.items()}, folder / _OPTIMIZER_FILE)


def load_training_state(folder: Path, parts: Mapping[str, Stateful]) -> None:
    """Put `parts` back to the state in the checkpoint `folder`.

    Raises RunError naming the file when it cannot be read or is of other parts. No pickled code is run.
    """
    path = folder / _OPTIMIZER_FILE
    try:
        states = torch.load(path, map_location="cpu", weights_only=True)
        for name, part in parts.items():
            part.load_state_dict(states[name])
    except _UNREADABLE as problem:
        raise _cannot_go_on(folder, path, problem) from problem


def _newest_is(run_dir: Path) -> str:
    found = checkpoints(run_dir)
    return f"{found[-1].name} is the newest" if found else "there is no earlier one"


def _line(problem: Exception) -> str:
    """The first line of what `problem` says, or its kind where it says nothing."""
    return f"{type(problem).__name__}: {(str(problem).splitlines() or ['no further word'])[0]}"
