"""What a fit is asked to do: one frozen dataclass, from TOML and flags, saved with its run as config.toml.

Keys are named as diffusers' own training scripts name them. A key that is not one of ours is refused, never
ignored: a misspelt `snr_gama` would otherwise cost a week of training.
"""

from __future__ import annotations

import dataclasses
import json
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from pfgdata.errors import ConfigError
from pfgdata.records import nearest

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

__all__ = [
    "CONFIG_FILE",
    "LR_SCHEDULERS",
    "RECIPE_TABLES",
    "FitConfig",
    "load_config",
    "read_fit_table",
    "read_table",
    "toml_of",
]

CONFIG_FILE = "config.toml"  # in a run's folder
T = TypeVar("T", bound="DataclassInstance")
RECIPE_TABLES = ("ingest", "query", "latents", "fit", "generate")
LR_SCHEDULERS = (  # diffusers.optimization.SchedulerType, less piecewise_constant (needs rules, not numbers)
    "constant",
    "constant_with_warmup",
    "linear",
    "cosine",
    "cosine_with_restarts",
    "polynomial",
)
_FREE_ON_RESUME = frozenset(  # what may change between the parts of one run without changing its steps so far
    {
        "checkpointing_steps",
        "checkpoints_total_limit",
        "logging_steps",
    }
)
_LENGTHS = frozenset({"max_train_steps", "num_train_epochs"})  # free too, unless learning rates follow them
_POLYNOMIAL_END = 1e-7  # lr_end of diffusers.optimization.get_scheduler, which must lie below the peak
_SYNONYMS = {  # other trainers' words (kohya's sd-scripts above all) -> ours
    "batch_size": "train_batch_size",
    "cond_dropout": "condition_dropout",
    "dropout": "condition_dropout",
    "epoch": "num_train_epochs",
    "epochs": "num_train_epochs",
    "log_every_n_steps": "logging_steps",
    "lr": "learning_rate",
    "lr_scheduler_num_cycles": "lr_num_cycles",
    "lr_scheduler_power": "lr_power",
    "max_train_epochs": "num_train_epochs",
    "min_snr_gamma": "snr_gamma",
    "network_lr": "adapter_learning_rate",
    "pfg_num_tokens": "num_tokens",
    "pfg_token_num": "num_tokens",
    "pretrained_model_name_or_path": "base",
    "save_every_n_steps": "checkpointing_steps",
    "save_last_n_steps": "checkpoints_total_limit",
    "steps": "max_train_steps",
    "tokens": "num_tokens",
    "unet_lr": "learning_rate",
    "v_parameterization": 'prediction_type = "v_prediction"',
}
_FLAGS_ONLY = {  # words for what is no key of a config
    "output_dir": "the option --out",
    "train_data_dir": "the option --shards",
    "shards": "the option --shards",
    "store": "the option --shards",
    "out": "the option --out",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class FitConfig:
    """Everything a fit is asked to do. Raises ConfigError naming the key when a value cannot be."""

    base: str | None = None
    """The diffusers base: `demo`, a folder, a hub id; default: the one the latent set was made with."""
    latents: str | None = None
    """Id (or a unique beginning of it) of the latent set; default: the store's only one for the base."""
    resolution: int | None = None
    """Pixels; picks among several latent sets of one base; default: any."""
    where: str | None = None
    """SQL expression over the store's images that selects what is trained on; default: every image."""
    threshold: float = 0.35
    """Score, 0..1, from which a general tag counts in `where`."""
    character_threshold: float = 0.85
    """Score, 0..1, from which a character tag counts in `where`."""

    train: Literal["unet", "adapter"] = "unet"
    """What learns: the whole UNet and the adapter, or the adapter alone."""
    num_tokens: int = 5
    """Tokens the adapter makes of one feature; web UIs stop at 20."""
    prompt: str = "illustration of *"
    """The text every image shares; encoded once, always to 77 positions."""
    uncond: Literal["zeros", "eos"] = "zeros"
    """What stands for the tokens on the unconditional side: zeros, or copies of the last text position."""
    condition_dropout: float = 0.1
    """Share of rows, 0..1, trained on generate's unconditional row instead of their feature."""
    prediction_type: Literal["epsilon", "v_prediction"] | None = None
    """What the UNet predicts; default: what the base's scheduler says."""
    snr_gamma: float | None = None
    """Min-SNR cap of the loss weight (5.0 is usual); default: every timestep weighs the same.

    For v_prediction the weight is (min(snr, gamma) + 1) / (snr + 1), where diffusers' script has
    min(snr, gamma) / (snr + 1)."""

    learning_rate: float = 5e-6
    """Peak learning rate of the UNet; unused with train = "adapter"."""
    adapter_learning_rate: float = 1e-4
    """Peak learning rate of the adapter."""
    lr_scheduler: str = "constant"
    """Shape of the learning rate over optimizer steps, one of LR_SCHEDULERS."""
    lr_warmup_steps: int = 0
    """Optimizer steps over which the learning rate rises from 0 (not with `constant`)."""
    lr_num_cycles: int = 1
    """Restarts of `cosine_with_restarts`."""
    lr_power: float = 1.0
    """Exponent of `polynomial`."""
    adam_beta1: float = 0.9
    """AdamW's decay of the first moment, 0..1."""
    adam_beta2: float = 0.999
    """AdamW's decay of the second moment, 0..1."""
    adam_weight_decay: float = 1e-2
    """AdamW's decoupled weight decay."""
    adam_epsilon: float = 1e-8
    """AdamW's denominator floor."""
    max_grad_norm: float = 1.0
    """Gradients of one optimizer step are scaled down to this norm; 0: never."""

    train_batch_size: int = 4
    """Images per process and forward pass; all of one bucket."""
    gradient_accumulation_steps: int = 1
    """Forward passes per optimizer step."""
    max_train_steps: int | None = None
    """Optimizer steps in all; when set, num_train_epochs does not count."""
    num_train_epochs: int = 10
    """Times each image is seen (the article's run: 10)."""
    mixed_precision: Literal["auto", "no", "fp16", "bf16"] = "auto"
    """Dtype of the forward pass and of frozen parts; auto: bf16 on a GPU that has it, else no (float32)."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: about half the memory for a fifth more time."""
    seed: int = 0
    """Order, noise, timesteps and dropout are functions of this and the position in the run."""

    checkpointing_steps: int = 500
    """Optimizer steps between checkpoints; the end of the run always makes one."""
    checkpoints_total_limit: int | None = None
    """Checkpoints to keep, newest first; default: all."""
    logging_steps: int = 10
    """Optimizer steps between looks at the loss (each is a wait for the device)."""

    def __post_init__(self) -> None:
        _require(
            self.lr_scheduler in LR_SCHEDULERS, self, "lr_scheduler", f"one of {', '.join(LR_SCHEDULERS)}"
        )
        _require(
            not self.lr_warmup_steps or self.lr_scheduler != "constant",
            self,
            "lr_warmup_steps",
            "used by lr_scheduler = 'constant'; take 'constant_with_warmup'",
        )
        peak = "learning_rate" if self.train == "unet" else "adapter_learning_rate"
        _require(
            self.lr_scheduler != "polynomial" or getattr(self, peak) > _POLYNOMIAL_END,
            self,
            peak,
            f"above {_POLYNOMIAL_END:g}, where lr_scheduler = 'polynomial' ends",
        )
        for name in _UNIT_INTERVAL:
            _require(0.0 <= getattr(self, name) <= 1.0, self, name, "0 to 1")
        for name in _POSITIVE:
            value = getattr(self, name)
            _require(value is None or (math.isfinite(value) and value > 0), self, name, "above 0")
        for name in _NOT_NEGATIVE:
            _require(math.isfinite(getattr(self, name)) and getattr(self, name) >= 0, self, name, "0 or more")

    @classmethod
    def of(cls, table: Mapping[str, Any], *, source: str) -> FitConfig:
        """A config of a TOML table. Raises ConfigError naming `source` for an unknown key or a wrong type."""
        return read_table(cls, table, source=source)

    def to_toml(self) -> str:
        """The config as a TOML file that `load_config` reads back to an equal one."""
        return toml_of({name: getattr(self, name) for name in get_type_hints(FitConfig)})

    def changed_from(self, other: FitConfig) -> list[str]:
        """Keys that differ and that a resumed run must not change."""
        free = _FREE_ON_RESUME | (_LENGTHS if self.lr_scheduler.startswith("constant") else frozenset())
        names = [field.name for field in dataclasses.fields(self) if field.name not in free]
        return [name for name in names if getattr(self, name) != getattr(other, name)]


_UNIT_INTERVAL = ("threshold", "character_threshold", "condition_dropout", "adam_beta1", "adam_beta2")
_POSITIVE = (
    "resolution",
    "num_tokens",
    "snr_gamma",
    "lr_num_cycles",
    "lr_power",
    "adam_epsilon",
    "train_batch_size",
    "gradient_accumulation_steps",
    "max_train_steps",
    "num_train_epochs",
    "checkpointing_steps",
    "checkpoints_total_limit",
    "logging_steps",
)
_NOT_NEGATIVE = (
    "learning_rate",
    "adapter_learning_rate",
    "lr_warmup_steps",
    "adam_weight_decay",
    "max_grad_norm",
    "seed",
)


def load_config(path: Path | None, overrides: Mapping[str, Any]) -> FitConfig:
    """The config of a TOML file (or the defaults) with `overrides` above it; None there means not given.

    Epochs given above a file's steps count: `max_train_steps` of the file is then dropped.
    """
    table: dict[str, Any] = {}
    if path is not None:
        table = read_fit_table(path)
        FitConfig.of(table, source=str(path))
    given = {key: value for key, value in overrides.items() if value is not None}
    if "num_train_epochs" in given:
        table.pop("max_train_steps", None)
    return FitConfig.of(table | given, source="options" if path is None else f"{path} and options")


def read_table(kind: type[T], table: Mapping[str, Any], *, source: str) -> T:
    """The dataclass `kind` of a TOML table. Raises ConfigError naming `source` and the key that is wrong.

    Its fields are numbers, texts, bools, lists of them, Literals, and any of these or None.
    """
    hints = get_type_hints(kind)
    for key, value in table.items():
        if key not in hints:
            raise ConfigError(f"{source}: unknown key {key!r}{_advice(key, tuple(hints))}")
        if not _fits(value, hints[key]):
            raise ConfigError(f"{source}: {key} = {value!r} is not {_described(hints[key])}")
    for field in dataclasses.fields(kind):
        if field.name not in table and field.default is field.default_factory is dataclasses.MISSING:
            raise ConfigError(f"{source}: {field.name} is missing; it is {_described(hints[field.name])}")
    values: dict[str, Any] = {
        key: float(value) if float in _options(hints[key]) else value for key, value in table.items()
    }
    try:
        return kind(**values)
    except ConfigError as problem:
        raise ConfigError(f"{source}: {problem}") from None


def read_fit_table(path: Path) -> dict[str, Any]:
    """The [fit] table of a recipe, or the keys of a file that holds only such keys."""
    try:
        with path.open("rb") as file:
            content = tomllib.load(file)
    except OSError as problem:
        raise ConfigError(f"{path}: cannot be read ({problem.strerror}); name a TOML file") from problem
    except ValueError as problem:  # TOMLDecodeError, and bytes that are no UTF-8
        raise ConfigError(f"{path}: not TOML ({problem})") from problem
    tables = [key for key, value in content.items() if isinstance(value, dict)]
    if not tables:
        return content
    for key in content:
        if key not in RECIPE_TABLES:
            raise ConfigError(f"{path}: unknown table [{key}]; a recipe has [{'] ['.join(RECIPE_TABLES)}]")
    if "fit" not in tables:
        raise ConfigError(f"{path}: this recipe has no table [fit]")
    return dict(content["fit"])


def toml_of(table: Mapping[str, Any]) -> str:
    """Flat `table` of text, numbers and bools as TOML; what is None is left out."""
    return "".join(f"{key} = {_toml_value(value)}\n" for key, value in table.items() if value is not None)


def _toml_value(value: str | bool | float) -> str:
    if isinstance(value, str):
        quoted = json.dumps(value, ensure_ascii=False)  # TOML knows every escape that JSON writes
        return quoted.replace("\x7f", "\\u007f")  # the one control that JSON leaves bare and TOML forbids
    return str(value).lower()  # true, 5e-06, inf: TOML's spelling too


def _require(condition: bool, config: FitConfig, name: str, wanted: str) -> None:
    if not condition:
        raise ConfigError(f"{name} = {getattr(config, name)!r} is not {wanted}")


def _advice(key: str, known: tuple[str, ...]) -> str:
    ours = _SYNONYMS.get(key)
    if ours and ours.split()[0] in known:
        return f"; here it is {ours}"
    if key in _FLAGS_ONLY and "max_train_steps" in known:
        return f"; that is {_FLAGS_ONLY[key]}"
    close = nearest(key, known)
    return f"; did you mean {' or '.join(close)}?" if close else f"; known are {', '.join(known)}"


def _fits(value: Any, hint: Any) -> bool:
    return any(_fits_one(value, option) for option in _options(hint))


def _fits_one(value: Any, hint: Any) -> bool:
    if get_origin(hint) is Literal:
        return isinstance(value, str) and value in get_args(hint)
    if get_origin(hint) is list:
        return isinstance(value, list) and all(_fits(item, get_args(hint)[0]) for item in value)
    return type(value) in ((int, float) if hint is float else (hint,))  # exact: True is an int by isinstance


def _options(hint: Any) -> tuple[Any, ...]:
    """The alternatives of `X | None`; anything else is its own only one."""
    arguments = get_args(hint)
    return arguments if type(None) in arguments else (hint,)


def _described(hint: Any) -> str:
    named = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}
    parts = []
    for option in _options(hint):
        if get_origin(option) is Literal:
            parts.append("one of " + ", ".join(get_args(option)))
        elif get_origin(option) is list:
            parts.append(f"a list, each {_described(get_args(option)[0])}")
        elif option in named:
            parts.append(named[option])
    return " or ".join(parts)
