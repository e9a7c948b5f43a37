"""A run on disk: its record (run.json), its metrics.jsonl, its checkpoints.

A checkpoint is a folder that appears by one rename, so the newest is always complete; a disk that fills up
while saving costs the checkpoint being written and nothing else.
"""

from __future__ import annotations

import json
import pickle
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from safetensors import SafetensorError

from pfgdata.errors import RunError, StoreError, StoreFormatError
from pfgdata.records import TaggerIdentity
from pfgdata.store import Disk, canonical_json, read_json

__all__ = [
    "ADAPTER_FILE",
    "EMA_FOLDER",
    "LORA_FILE",
    "UNET_FILE",
    "CheckpointState",
    "RunRecord",
    "Stateful",
    "append_metrics",
    "checkpoints",
    "find_checkpoint",
    "is_run",
    "load_training_state",
    "read_metrics",
    "read_state",
    "save_checkpoint",
    "save_training_state",
    "trim_metrics",
    "weights_folder",
]

RUN_FORMAT = 2  # of run.json and the checkpoint folder; a reader refuses any other
ADAPTER_FILE = "adapter.safetensors"
UNET_FILE = "unet.safetensors"  # the parameters that learned, by diffusers' names
LORA_FILE = "lora.safetensors"
EMA_FOLDER = "ema"  # holds the same files of the moving average
_OPTIMIZER_FILE = "optimizer.pt"
_STATE_FILE = "state.json"
_RECORD_FILE = "run.json"
_METRICS_FILE = "metrics.jsonl"
_UNREADABLE = (
    OSError,
    RuntimeError,
    ValueError,
    KeyError,
    TypeError,
    pickle.UnpicklingError,
    StoreError,
)  # of torch.load and of load_state_dict
_CHECKPOINT = re.compile(r"step-\d{8,}")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """What a run was made with, and so what its weights mean: generate and resume hold on to it."""

    tagger: TaggerIdentity
    feature_dim: int
    base_name: str  # `demo`, an absolute folder or file, a run's folder, or a hub id
    base_revision: str | None  # the hub's commit, or a run's checkpoint
    base_fingerprint: str  # tells two bases of one name apart
    base_family: Literal["sd1", "sd2"]
    latents_id: str
    vae_digest: str
    scaling_factor: float  # of the VAE: what stored latents are multiplied by
    resolution: int  # pixels
    prompt: str
    caption: str | None  # whose texts it learned with; None: the prompt's alone
    captions_digest: str | None  # of those of a column
    text_layer: int  # hidden layer of the text encoder that is read, from 0, the embedded words
    uncond: Literal["zeros", "eos"]
    num_tokens: int  # 0: no adapter
    adapter_kind: Literal["linear", "mlp"]
    cross_attention_dim: int
    prediction_type: Literal["epsilon", "v_prediction"]
    train: Literal["unet", "adapter", "lora"]
    store: str  # its path, absolute
    selection_digest: str  # of the images selected
    selection_count: int  # distinct images
    selection_expression: str | None
    thresholds: dict[str, float]
    trained_digest: str  # of those among them that have latents and are not held out
    trained_count: int
    held_out_count: int
    versions: dict[str, str | None]  # None: not installed, as pfg run from a checkout
    created: str  # ISO, UTC
    processes: int = 1  # over which a global batch is split; its rows are train_batch_size times this

    def write(self, run_dir: Path, *, disk: Disk | None = None) -> None:
        """Write run.json; a folder with one is a run."""
        data = canonical_json({"format": RUN_FORMAT, **asdict(self)})
        (disk or Disk()).replace_file(run_dir / _RECORD_FILE, data)

    @classmethod
    def read(cls, run_dir: Path) -> RunRecord:
        """Read run.json. Raises RunError when there is none, or it is damaged or of another version."""
        path = run_dir / _RECORD_FILE
        try:
            value = read_json(path, error=StoreFormatError, advice="restore it from a backup")
        except (FileNotFoundError, NotADirectoryError):
            raise RunError(f"{run_dir}: no run here; make one with: pfgtrain fit --out {run_dir}") from None
        except StoreError as problem:
            raise RunError(str(problem)) from problem
        found = value.pop("format", None)
        if found != RUN_FORMAT:
            newer = isinstance(found, int) and found > RUN_FORMAT
            advice = "upgrade pfg" if newer else "use the pfg it was made with, or start a new run"
            raise RunError(f"{path}: of format {found}, this pfgtrain reads {RUN_FORMAT}; {advice}")
        try:
            return cls(**{**value, "tagger": TaggerIdentity(**value["tagger"])})
        except (TypeError, KeyError) as problem:
            raise RunError(f"{path}: not a record of this version ({problem}); start a new run") from problem

    def differs_from(self, other: RunRecord) -> list[str]:
        """Names of the fields that decide what the weights mean and are not equal."""
        mine, theirs = asdict(self), asdict(other)
        for record, side in ((self, mine), (other, theirs)):
            side["tagger"] = record.tagger.decisive
        return [name for name in mine if name not in _FOR_PEOPLE and mine[name] != theirs[name]]


_FOR_PEOPLE = frozenset(
    {"store", "versions", "created", "selection_expression", "thresholds", "base_name", "base_revision"}
)  # the base is held on to by its VAE, family, width and prediction type; it may have moved


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

    Beside the `limit` newest only the best by validation loss is kept.

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
            (fresh / _STATE_FILE).write_bytes(canonical_json({"format": RUN_FORMAT, **asdict(state)}))
            disk.commit_folder(fresh, final)
        except BaseException:
            disk.discard(fresh)
            raise
    except (OSError, RuntimeError, SafetensorError) as problem:  # a full disk: plain, torch's, safetensors'
        raise RunError(
            f"{final}: not saved ({_line(problem)}); "
            f"{_newest_is(run_dir)}; free the disk and go on with --resume"
        ) from problem
    kept = _best(run_dir) if limit else None
    for old in checkpoints(run_dir)[:-limit] if limit else []:
        if old != kept:
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


def weights_folder(checkpoint: Path, *, ema: bool = True, record: RunRecord | None = None) -> Path:
    """Where the weights of a checkpoint stand: its moving average, if there is one and `ema` asks for it.

    Raises RunError if `record` says that it holds a file which is not there.
    """
    average = checkpoint / EMA_FOLDER
    folder = average if ema and average.is_dir() else checkpoint
    if record is not None:
        trained = {"unet": [UNET_FILE], "lora": [LORA_FILE], "adapter": []}[record.train]
        for file in [*([ADAPTER_FILE] if record.num_tokens else []), *trained]:
            if not (folder / file).is_file():
                raise RunError(f"{folder}: lacks {file}; take another checkpoint, or copy it back")
    return folder


def is_run(folder: Path) -> bool:
    """Whether `folder` holds a run."""
    return (folder / _RECORD_FILE).is_file()


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
    path = checkpoint / _STATE_FILE
    try:
        value = read_json(path, error=StoreFormatError, advice="the checkpoint is damaged")
        if value.pop("format", None) != RUN_FORMAT:
            raise StoreFormatError("of another version of pfgtrain")
        return CheckpointState(**value)
    except _UNREADABLE as problem:
        raise RunError(
            f"{path}: cannot be gone on from ({_line(problem)}); "
            f"delete {checkpoint} to go on from the checkpoint before it"
        ) from problem


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
        raise RunError(
            f"{path}: cannot be gone on from ({_line(problem)}); "
            f"delete {folder} to go on from the checkpoint before it"
        ) from problem


def append_metrics(run_dir: Path, lines: Sequence[Mapping[str, Any]]) -> None:
    """Add lines to metrics.jsonl, one an optimizer step; its `step` counts from 1."""
    with (run_dir / _METRICS_FILE).open("a", encoding="utf-8") as file:
        file.writelines(f"{json.dumps(line)}\n" for line in lines)


def read_metrics(run_dir: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl, up to the first that a crash cut short or filled with zeros."""
    path = run_dir / _METRICS_FILE
    lines: list[dict[str, Any]] = []
    for line in path.read_bytes().split(b"\n")[:-1] if path.exists() else []:
        try:
            value = json.loads(line)
        except ValueError:  # JSONDecodeError, and bytes that are no text
            break
        if not isinstance(value, dict) or "step" not in value:
            break
        lines.append(value)
    return lines


def trim_metrics(run_dir: Path, *, step: int, disk: Disk | None = None) -> None:
    """Drop the lines after `step`: a resumed run trains those steps again."""
    kept = [line for line in read_metrics(run_dir) if line["step"] <= step]
    data = "".join(f"{json.dumps(line)}\n" for line in kept)
    (disk or Disk()).replace_file(run_dir / _METRICS_FILE, data.encode())


def _newest_is(run_dir: Path) -> str:
    found = checkpoints(run_dir)
    return f"{found[-1].name} is the newest" if found else "there is no earlier one"


def _line(problem: Exception) -> str:
    """The first line of what `problem` says, or its kind where it says nothing."""
    return f"{type(problem).__name__}: {(str(problem).splitlines() or ['no further word'])[0]}"
