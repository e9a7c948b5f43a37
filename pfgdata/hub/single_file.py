"""A single-file checkpoint, unpacked once into a diffusers folder in pfg's cache: then it is a base as any.

The folder's name is the file's BLAKE3, so a moved file is found again and a changed one is another base. A
file has no configs and no tokenizer: they come from a diffusers folder of its family, here or on the hub.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from blake3 import blake3

from pfgdata.errors import ModelError, ModelNotFoundError, StoreError, refused_by_system
from pfgdata.files import Disk, cache_folder
from pfgdata.hub.checkpoints import Checkpoint, read_checkpoint
from pfgdata.hub.families import FAMILIES, FamilyFacts
from pfgdata.hub.repository import PATTERNS, NotFetched, Repository
from pfgdata.hub.tensors import write_tensors
from pfgdata.records import Progress, during, during_one

__all__ = ["unpacked"]

_FORMAT = 1  # of the unpacked folder; another one is made anew


@dataclass(frozen=True, slots=True, kw_only=True)
class _Configs:
    """The folder whose configs and tokenizer are taken; `name` is for people."""

    name: str
    folder: Path
    revision: str | None = None

    @property
    def digest(self) -> str:
        """BLAKE3, hex, of the files that decide what is unpacked, of whatever family the folder is."""
        digest = blake3()
        names = {name for family in FAMILIES for name in self._names(family)}
        for path in sorted(path for name in names if (path := self.folder / name).is_file()):
            digest.update(f"{path.relative_to(self.folder)} {path.stat().st_size}\n".encode())
            digest.update(path.read_bytes())
        return digest.hexdigest()

    def files(self, family: FamilyFacts) -> list[Path]:
        """The config files and all of the tokenizers'. Raises ModelNotFoundError if some are missing."""
        names = self._names(family)
        lacking = [name for name in family.configs if not (self.folder / name).is_file()]
        for folder in family.tokenizers:
            if not {f"{folder}/tokenizer.json", f"{folder}/vocab.json"} & names:
                lacking.append(f"{folder}/vocab.json")
        if lacking:
            raise ModelNotFoundError(
                f"{self.folder}: no configs of a base, lacks {', '.join(lacking)};"
                " pass --base-config DIR, a whole diffusers folder"
            )
        return sorted(self.folder / name for name in names)

    def _names(self, family: FamilyFacts) -> set[str]:
        """The names of the family's configs, and of the files that are here of its tokenizers."""
        tokenizers = (path for folder in family.tokenizers for path in self.folder.glob(f"{folder}/*"))
        found = (path for path in tokenizers if path.suffix in (".json", ".txt"))
        return {*family.configs, *(str(path.relative_to(self.folder)) for path in found)}


def unpacked(file: Path, *, config: Path | None, cache: Path | None, progress: Progress) -> Path:
    """The diffusers folder of the checkpoint `file`, made if it is not there or was made by other configs.

    `config` None takes any that is there, else fetches the family's configs by Hugging Face's `cache`.
    Raises ModelError if it is a checkpoint of no family, ModelNotFoundError if its configs are not to be had.
    """
    given = None if config is None else _Configs(name=str(config.absolute()), folder=config.absolute())
    with during_one(progress, "hash", unit="files"):
        folder = cache_folder() / "bases" / _digest(file)
    if _stands(folder, given):
        return folder
    checkpoint = read_checkpoint(file)
    configs = given or _fetched(checkpoint, cache=cache)
    _check_width(checkpoint, configs)
    lock, what = folder.with_suffix(".lock"), f"base {folder}"
    with _written(folder), Disk().exclusive(lock, what=what, wait=True):
        if not _stands(folder, given):  # another process may have made it while this one waited
            progress.say(f"unpacking {file} (once, into the cache: {folder})")
            _make(folder, checkpoint, configs, progress=progress)
    return folder


def _digest(file: Path) -> str:
    try:
        # measured: 2 GiB in 0.5 s on two cores, once the file is in memory
        return blake3(max_threads=blake3.AUTO).update_mmap(file).hexdigest(length=8)
    except OSError as problem:
        reason = refused_by_system(problem) or f"cannot be read ({problem.strerror}); check its permissions"
        raise ModelError(f"{file}: {reason}") from problem


def _stands(folder: Path, configs: _Configs | None) -> bool:
    """Whether `folder` is whole, and made by `configs` where they are given."""
    try:
        made = json.loads((folder / "made.json").read_bytes())
    except (OSError, ValueError):
        return False
    same = configs is None or made["config"]["digest"] == configs.digest
    return bool(made["format"] == _FORMAT and same)


def _fetched(checkpoint: Checkpoint, *, cache: Path | None) -> _Configs:
    name = checkpoint.family.repository
    try:
        folder = Repository(name, revision=None, cache=cache).fetch(PATTERNS["config"])
    except NotFetched as reason:
        raise ModelNotFoundError(
            f"{checkpoint.file}: looks like {checkpoint.family.title}, but a single file has no configs, and"
            f" those of {name} did not come ({reason}); pass --base-config DIR (any diffusers folder of that"
            " family: configs and tokenizer are enough)"
        ) from reason
    return _Configs(name=name, folder=folder, revision=folder.name)


def _check_width(checkpoint: Checkpoint, configs: _Configs) -> None:
    configs.files(checkpoint.family)
    texts = [_read(configs.folder / part / "config.json") for part in checkpoint.family.text_encoders]
    width = sum(int(text.get("hidden_size", 0)) for text in texts)
    if width != checkpoint.width:
        raise ModelError(
            f"{checkpoint.file}: looks like {checkpoint.family.title}, its context is"
            f" {checkpoint.width} wide; {configs.folder} is for {width};"
            " pass --base-config DIR of that family"
        )


@contextmanager
def _written(folder: Path) -> Iterator[None]:
    """Turn what a full or closed disk raises into one ModelError."""
    from safetensors import SafetensorError

    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        yield
    except (OSError, SafetensorError, StoreError) as problem:  # the last one of the lock
        why = getattr(problem.__cause__ or problem, "strerror", None) or str(problem)
        raise ModelError(
            f"{folder.parent} cannot be written ({why}); set PFG_CACHE to a folder with room for the base"
        ) from problem


def _make(folder: Path, checkpoint: Checkpoint, configs: _Configs, *, progress: Progress) -> None:
    """Unpack into a sibling, and put it where the old one was."""
    disk, new, old = Disk(), folder.with_suffix(".new"), folder.with_suffix(".old")
    for rest in (new, old):  # of a process that was killed
        disk.discard(rest)
    try:
        _write(new, checkpoint, configs, digest=folder.name, progress=progress)
        if folder.exists():
            disk.rename(folder, old)
        disk.commit_folder(new, folder)
    finally:
        for rest in (new, old):
            disk.discard(rest)


def _write(new: Path, checkpoint: Checkpoint, configs: _Configs, *, digest: str, progress: Progress) -> None:
    """Write the whole folder `new`; nothing of it if a part does not fit its config."""
    family = checkpoint.family
    models = {part: _load(part, checkpoint, configs) for part in reversed(family.models)}
    for part in (*family.tokenizers, "scheduler"):
        (new / part).mkdir(parents=True)
        for path in configs.files(family):
            if path.parent.name == part:
                shutil.copyfile(path, new / part / path.name)
    predicts = _write_scheduler(new, checkpoint)
    if not family.one_prediction and checkpoint.prediction_type is None:
        progress.say(
            f"{checkpoint.file.name} does not say what its UNet predicts: {predicts}, as {configs.name};"
            " --prediction-type of pfgtrain overrules"
        )
    with during(progress, "unpack", total=len(models), unit="parts"):
        for part, model in models.items():
            _save(part, model, new / part)
            progress.advance()
    _write_made(new, digest, checkpoint, configs)


def _write_scheduler(folder: Path, checkpoint: Checkpoint) -> str:
    """Put into the scheduler's config what the file says of itself; the prediction type that stands there."""
    path = folder / "scheduler" / "scheduler_config.json"
    config = _read(path)
    if checkpoint.prediction_type:
        config["prediction_type"] = checkpoint.prediction_type
    if checkpoint.zero_terminal_snr:
        config["rescale_betas_zero_snr"] = True
    path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    return str(config.get("prediction_type", "epsilon"))  # diffusers' default


def _load(part: str, checkpoint: Checkpoint, configs: _Configs) -> Any:
    """The part as a model of diffusers or transformers, every weight from the file, in its dtype there."""
    import torch
    from diffusers.loaders.single_file_utils import SingleFileComponentError

    dtype = getattr(torch, checkpoint.dtype(part))
    try:
        model = _loader(part, checkpoint.family)(dict(checkpoint.tensors), str(configs.folder), dtype)
    except NotImplementedError as problem:  # torch, asked to move a weight that diffusers left on `meta`
        raise ModelError(f"{_misfit(part, checkpoint, configs)}: some tensors are not in it") from problem
    except (
        *(SingleFileComponentError, OSError, ValueError, RuntimeError),
        *(LookupError, TypeError, AttributeError),  # a block or a tensor that the conversion expects
    ) as problem:
        why = " ".join(str(problem).split())[:160]
        raise ModelError(f"{_misfit(part, checkpoint, configs)} ({why})") from problem
    lacking = [name for name, values in model.named_parameters() if values.is_meta]
    if lacking:
        raise ModelError(
            f"{_misfit(part, checkpoint, configs)}: {len(lacking)} tensors are not in it, {lacking[0]} first"
        )
    held = sum(
        tensor.numel()
        for name, tensor in checkpoint.tensors.items()
        if name.startswith(checkpoint.family.prefixes["unet"])
    )
    if part == "unet" and held != sum(values.numel() for values in model.parameters()):
        raise ModelError(f"{_misfit(part, checkpoint, configs)}: it holds more than the config has room for")
    return model


def _save(part: str, model: Any, folder: Path) -> None:
    """Write what the model's own `save_pretrained` would."""
    folder.mkdir()
    is_text = part.startswith("text_encoder")
    if is_text:
        model.config.architectures = [type(model).__name__]
        model.config.to_json_file(folder / "config.json")
    else:
        model.save_config(folder)
    name = "model" if is_text else "diffusion_pytorch_model"
    write_tensors(folder / f"{name}.safetensors", model.state_dict(), header={"format": "pt"})


def _loader(part: str, family: FamilyFacts) -> Any:
    """What makes a model of tensors, the configs' folder and a dtype; absent weights stay on `meta`."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from diffusers.loaders.single_file_utils import create_diffusers_clip_model_from_ldm
    from transformers import CLIPTextModel, CLIPTextModelWithProjection

    kind = {"unet": UNet2DConditionModel, "vae": AutoencoderKL}.get(part)
    text = CLIPTextModelWithProjection if part in family.projects else CLIPTextModel

    def load(tensors: dict[str, Any], folder: str, dtype: Any) -> Any:
        options = {"config": folder, "subfolder": part, "torch_dtype": dtype, "local_files_only": True}
        if kind is not None:
            return kind.from_single_file(tensors, low_cpu_mem_usage=True, **options)
        return create_diffusers_clip_model_from_ldm(text, tensors, **options)

    return load


def _misfit(part: str, checkpoint: Checkpoint, configs: _Configs) -> str:
    return (
        f"{checkpoint.file}: its {part} does not fit {part}/config.json of {configs.name};"
        f" pass --base-config DIR, a diffusers folder of the same {checkpoint.family.title} model"
    )


def _write_made(folder: Path, digest: str, checkpoint: Checkpoint, configs: _Configs) -> None:
    made = {
        "format": _FORMAT,
        "file": {"name": checkpoint.file.name, "size": checkpoint.file.stat().st_size, "blake3": digest},
        "family": checkpoint.family.title,
        "dtype": {part: checkpoint.dtype(part) for part in checkpoint.family.models},
        "config": {"name": configs.name, "revision": configs.revision, "digest": configs.digest},
        "versions": {library: version(library) for library in ("diffusers", "torch", "transformers")},
    }
    (folder / "made.json").write_text(json.dumps(made, indent=2) + "\n", encoding="utf-8")


def _read(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as problem:
        raise ModelError(f"{path}: no JSON ({problem}); fetch it again") from problem
    if not isinstance(config, dict):
        raise ModelError(f"{path}: a config is a JSON object; fetch it again")
    return config
