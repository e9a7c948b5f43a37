"""What an export will write, decided from the run's record alone: names, refusals, what a user must know."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pfgdata.errors import ConfigError
from pfgdata.records import Progress
from pfgdata.taggers import DEFAULT_TAGGER
from pfgtrain.base import Family, family_named
from pfgtrain.checkpoint import RunRecord, find_checkpoint, read_state, weights_folder
from pfgtrain.generate import without_folders

__all__ = ["FORMATS", "ExportOptions", "ExportPlan", "Format", "plan_export"]

Format = Literal["adapter", "checkpoint", "unet", "diffusers", "lora", "run"]
FORMATS: tuple[Format, ...] = ("adapter", "checkpoint", "unet", "diffusers", "lora", "run")

WEB_UI_TOKENS = 20  # where the slider of pfg-webui ends
WEB_UI_PREPROCESS = "webui"  # how pfg-webui and pfg-ComfyUI make a guide image square
WEB_UI_UNCOND = "zeros"  # since 2023-03-26


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportOptions:
    """What to export of a run. Raises ConfigError for a format or dtype there is none of."""

    formats: tuple[str, ...] = ()  # of FORMATS; none: what the run trained
    checkpoint: str = "latest"  # latest, best, or a checkpoint's name
    use_ema: bool = True  # the moving average where the run kept one
    dtype: Literal["float16", "float32"] = "float16"  # of whole models; adapters and LoRAs stay float32
    force: bool = False  # replace files that are there with other content

    def __post_init__(self) -> None:
        for name in self.formats:
            if name not in FORMATS:
                raise ConfigError(f"--as {name}: no such format; there are {', '.join(FORMATS)}")
        if self.dtype not in ("float16", "float32"):
            raise ConfigError(f"--dtype {self.dtype}: must be float16 or float32")


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportPlan:
    """What will be written, and of what."""

    run_dir: Path
    name: str  # of the run's folder; every file's name begins with it
    record: RunRecord
    step: int
    weights: Path  # the folder of the checkpoint's weights, or of their moving average
    is_average: bool
    formats: tuple[Format, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The files and folders that will be there, below the target folder."""
        return tuple(name for kind in self.formats for name in self.names_of(kind))

    def names_of(self, kind: Format) -> tuple[str, ...]:
        """The names of one format's files."""
        name, numbered = self.name, f"{self.name}-n{self.record.num_tokens}"
        checkpoint = [f"{name}.safetensors", *([f"{name}.yaml"] if self.needs_yaml else [])]
        return {
            # web UIs list each file of the folder they are given: the .pt stands in one alone
            "adapter": (
                f"{numbered}-to-copy/{numbered}.pt",
                f"{numbered}.safetensors",
                f"{numbered}.json",
            ),
            "checkpoint": tuple(checkpoint),
            "unet": (f"{name}-unet.safetensors",),
            "diffusers": (f"{name}-diffusers",),
            "lora": (f"{name}-lora.safetensors", f"{name}-lora-diffusers.safetensors"),
            "run": (f"{name}-run",),
        }[kind]

    @property
    def family(self) -> Family:
        """That of the run's base. Raises RunError if it is not known here."""
        return family_named(self.record.base_family)

    @property
    def needs_yaml(self) -> bool:
        """Whether a checkpoint means something that its file alone does not say, and a .yaml can."""
        if self.family.ldm.text_config is None:
            return False
        usual = self.family.facts.scaling_factor
        return self.record.prediction_type == "v_prediction" or self.record.scaling_factor != usual

    @property
    def for_web_uis(self) -> bool:
        """Whether web UIs make the features that the adapter reads: theirs are of one tagger."""
        if not self.record.features_read.is_tagger_alone:
            return False
        return without_folders(self.record.tagger.name).rpartition("/")[2] == DEFAULT_TAGGER

    @property
    def architecture(self) -> str:
        """The model by its name in Stability's ModelSpec."""
        return self.family.ldm.architectures[self.record.prediction_type]

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user of the files should know, a line each."""
        return tuple(_notes(self))

    def as_dict(self) -> dict[str, object]:
        """Plain values, for --json."""
        return {
            "step": self.step,
            "average": self.is_average,
            "formats": list(self.formats),
            "names": list(self.names),
            "notes": list(self.notes),
        }


def plan_export(run_dir: Path, options: ExportOptions, *, progress: Progress | None = None) -> ExportPlan:
    """What `options` ask of the run in `run_dir`; no weight is read.

    Raises ConfigError, naming it, for a format that cannot hold this run, RunError for a run without weights.
    """
    record = RunRecord.read(run_dir)
    checkpoint = find_checkpoint(run_dir, options.checkpoint)
    weights = weights_folder(checkpoint, record, ema=options.use_ema, progress=progress)
    formats = _formats(record, options.formats)
    for kind in formats:
        _require_possible(kind, record, run_dir)
    return ExportPlan(
        run_dir=run_dir,
        name=run_dir.resolve().name or "run",
        record=record,
        step=read_state(checkpoint).step,
        weights=weights,
        is_average=weights != checkpoint,
        formats=formats,
    )


def _formats(record: RunRecord, asked: tuple[str, ...]) -> tuple[Format, ...]:
    """The formats asked for, each once, in the order of FORMATS; or what holds all that the run trained."""
    if asked:
        return tuple(kind for kind in FORMATS if kind in asked)
    wanted: set[Format] = set()
    if _reads_several(record):
        return ("diffusers",)
    if record.num_tokens:
        wanted.add("adapter" if record.adapter_kind == "linear" else "diffusers")
    if record.train == "unet":
        wanted.add("checkpoint")
    if record.train == "lora":
        wanted.add("lora")
    return tuple(kind for kind in FORMATS if kind in wanted)


def _reads_several(record: RunRecord) -> bool:
    return len(record.features_read.sets) > 1


def _require_possible(kind: Format, record: RunRecord, run_dir: Path) -> None:
    if kind not in ("diffusers", "run") and _reads_several(record):
        raise ConfigError(
            f"{run_dir}: reads several feature sets ({record.features_read.text}), which no web UI computes"
            f" and no two-key file can say; not --as {kind}, but --as diffusers or --as run"
        )
    if kind == "adapter" and not record.num_tokens:
        raise ConfigError(f"{run_dir}: has no adapter (num_tokens = 0); leave out --as adapter")
    if kind == "adapter" and record.adapter_kind != "linear":
        raise ConfigError(
            f"{run_dir}: its adapter is of kind {record.adapter_kind}, which the two-key file of web UIs"
            " cannot hold; --as diffusers can"
        )
    if kind == "checkpoint" and (record.shift_factor != 0.0 or isinstance(record.scaling_factor, tuple)):
        raise ConfigError(
            f"{run_dir}: its VAE's latents are shifted or scaled by channel, which no reader of a single file"
            " is told; --as diffusers can say it"
        )
    family = family_named(record.base_family)
    usual = family.facts.scaling_factor
    if kind == "checkpoint" and family.ldm.text_config is None and record.scaling_factor != usual:
        raise ConfigError(
            f"{run_dir}: its VAE's latents are scaled by {record.scaling_factor}, readers of a single"
            f" {family.facts.title} file take {usual} for granted; --as diffusers can say it"
        )
    if kind == "lora" and record.train != "lora":
        raise ConfigError(f'{run_dir}: trained no LoRA (train = "{record.train}"); leave out --as lora')


def _notes(plan: ExportPlan) -> Iterator[str]:
    record, tagger = plan.record, plan.record.tagger
    if "adapter" not in plan.formats:
        return
    if record.num_tokens > WEB_UI_TOKENS and plan.family.ldm.pfg_webui:
        yield (f"{record.num_tokens} tokens: the slider of pfg-webui ends at {WEB_UI_TOKENS}")
    if not plan.for_web_uis:
        (source,) = record.features_read.sets  # of an adapter's files there is one
        of = without_folders(source.extractor or tagger.name)
        yield (
            f"the adapter reads features of {of}, web UIs take them from"
            f" {DEFAULT_TAGGER}: only pfgtrain can use it"
        )
    elif tagger.preprocess != WEB_UI_PREPROCESS:
        yield (
            f"web UIs make guide images square by preprocessing {WEB_UI_PREPROCESS}, the run was trained"
            f" on {tagger.preprocess}: pictures there will differ a little"
        )
    if record.uncond != WEB_UI_UNCOND:
        yield (
            f"web UIs fill the unconditional side with {WEB_UI_UNCOND}, the run learned {record.uncond}:"
            " guidance there will differ"
        )
