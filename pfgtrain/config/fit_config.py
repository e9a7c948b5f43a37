"""The keys of a fit, a sentence each. Names are diffusers' own scripts', then peft's, then kohya's."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_type_hints

from pfgdata.errors import ConfigError
from pfgtrain.config.features import require_features
from pfgtrain.config.optimizers import TABLES, Adafactor, AdamW, AdamW8bit
from pfgtrain.config.tables import read_table, require_text, toml_of, toml_value

__all__ = ["LR_SCHEDULERS", "FitConfig"]

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
        "base",  # it may have moved; its fingerprint is on record
        "base_config",
        "checkpoint_at_start",
        "checkpointing_steps",
        "checkpoints_total_limit",
        "logging_steps",
        "max_skipped_steps",
        "num_validation_images",
        "offload_ema",
    }
)
_LENGTHS = frozenset({"max_train_steps", "num_train_epochs"})  # free too, unless learning rates follow them
_POLYNOMIAL_END = 1e-7  # lr_end of diffusers.optimization.get_scheduler, which must lie below the peak
_RATE_OF = {"unet": "learning_rate", "adapter": "adapter_learning_rate", "lora": "lora_learning_rate"}


@dataclass(frozen=True, slots=True, kw_only=True)
class FitConfig:
    """Everything a fit is asked to do. Raises ConfigError naming the key when a value cannot be."""

    base: str | None = None
    """`demo`, a diffusers folder, a single file, a hub id, or a run; default: what the latents are of."""
    base_config: str | None = None
    """A diffusers folder of the family of a single file, for the configs it lacks; default: the hub's."""
    init: str | None = None
    """Weights to start from: a run, or an adapter's .pt or .safetensors; default: fresh from the seed."""
    latents: str | None = None
    """Id (or a unique beginning of it) of the latent set; default: the store's only one for the base."""
    resolution: int | None = None
    """Pixels; picks among several latent sets of one base; default: any."""
    where: str | None = None
    """SQL condition, as in pfgdata query, that selects what is trained on; default: every image."""
    threshold: float = 0.35
    """Score, 0..1, from which a general tag counts in `where` and stands in a caption."""
    character_threshold: float = 0.85
    """Score, 0..1, from which a character tag counts in `where` and stands in a caption."""

    train: Literal["unet", "adapter", "lora"] = "unet"
    """What learns beside the adapter: the UNet, nothing, or a LoRA of the UNet."""
    unet_blocks: Literal["all", "cross_attention", "up_blocks"] = "all"
    """The part of the UNet that learns, or that the LoRA is laid on."""
    r: int = 16
    """Rank of the LoRA."""
    lora_alpha: float = 16.0
    """Scale of the LoRA: what it adds is multiplied by lora_alpha / r."""
    target_modules: list[str] = field(default_factory=lambda: ["to_q", "to_k", "to_v", "to_out.0"])
    """Ends of the names of the UNet's layers that the LoRA is laid on."""
    features: str | None = None
    """Sets that adapters read: wd14:5,dino:4, or one adapter on both, wd14+clip:5; default: the tagger's."""
    allow_missing: bool = False
    """Train images that lack a vector of `features` with the pad in the place of its tokens."""
    num_tokens: int | None = None
    """Tokens made of one feature; web UIs stop at 20; 0: no adapter; default: what `init` makes, or 5."""
    adapter_kind: Literal["linear", "mlp"] = "linear"
    """Linear, as the article and every web UI have it, or Linear-ReLU-Linear, which only pfgtrain reads."""
    adapter_hidden_dim: int | None = None
    """Width between the layers of an `mlp`; default: the feature's."""
    standardize_features: bool = False
    """Give the adapter features less their mean, over their deviation, of the images trained on."""

    prompt: str = "illustration of *"
    """The text every image shares; encoded once, always to 77 positions; of no use with `caption`."""
    caption: str | None = None
    """Text of each image's own: `tags`, or a column of the store; default: the prompt for all."""
    caption_dropout_rate: float = 0.0
    """Share of rows, 0..1, trained with an empty text, their tokens kept."""
    shuffle_caption: bool = False
    """Put the parts of a caption in another order each time."""
    keep_tokens: int = 0
    """Parts at the start of a caption that `shuffle_caption` leaves in place."""
    caption_separator: str = ","
    """What stands between the parts of a caption."""
    clip_skip: int | None = None
    """Layer of the text encoder that is read, as kohya and A1111 count: 1 the last; default: the base's."""
    uncond: Literal["zeros", "eos"] = "zeros"
    """What stands for the tokens on the unconditional side: zeros, or copies of the last text position."""
    empty_prompt: Literal["encoded", "zeros"] = "encoded"
    """The empty text of the unconditional side: encoded, as in web UIs, or zeros, as diffusers draws SDXL."""
    condition_dropout: float = 0.1
    """Share of rows, 0..1, trained on generate's unconditional row: an empty text and the pad."""
    pfg_dropout: float = 0.0
    """Share of rows, 0..1, trained with the pad in place of their tokens, their text kept."""
    feature_dropout: str | None = None
    """The same of single adapters of `features`, and apart from it: `dino=0.2,wd14=0.1`."""
    prediction_type: Literal["epsilon", "v_prediction"] | None = None
    """What the UNet predicts; default: what the base's scheduler says."""
    snr_gamma: float | None = None
    """Min-SNR cap of the loss weight (5.0 is usual); default: every timestep weighs the same.

    For v_prediction the weight is (min(snr, gamma) + 1) / (snr + 1), where diffusers' script has
    min(snr, gamma) / (snr + 1)."""

    learning_rate: float = 5e-6
    """Peak learning rate of the UNet; unused unless train = "unet"."""
    adapter_learning_rate: float = 1e-4
    """Peak learning rate of the adapter."""
    lora_learning_rate: float = 1e-4
    """Peak learning rate of the LoRA."""
    lr_scheduler: str = "constant"
    """Shape of the learning rate over optimizer steps, one of LR_SCHEDULERS."""
    lr_warmup_steps: int = 0
    """Optimizer steps over which the learning rate rises from 0 (not with `constant`)."""
    lr_num_cycles: int = 1
    """Restarts of `cosine_with_restarts`."""
    lr_power: float = 1.0
    """Exponent of `polynomial`."""
    optimizer: Literal["adamw", "adamw8bit", "adafactor"] = "adamw"
    """What moves the weights; its own keys stand in the table of its name."""
    adamw: AdamW = field(default_factory=AdamW)
    """AdamW's own keys: the table `[fit.adamw]` of a recipe, `[adamw]` of a file of such keys alone."""
    adamw8bit: AdamW8bit = field(default_factory=AdamW8bit)
    """The own keys of AdamW with moments of 8 bits, by bitsandbytes."""
    adafactor: Adafactor = field(default_factory=Adafactor)
    """Adafactor's own keys: a factored second moment, almost no memory."""
    max_grad_norm: float = 1.0
    """Gradients of one optimizer step are scaled down to this norm; 0: never."""
    max_skipped_steps: int = 20
    """Optimizer steps in a row that may be left out, their gradient not finite, before the fit gives up."""
    use_ema: bool = False
    """Keep a moving average of all that learns; generate, validation and export then use it."""
    ema_decay: float = 0.9999
    """Share of the average, 0..1, that stays at each step; reached after a rise."""
    use_ema_warmup: bool = False
    """Let the decay rise as 1 - (1 + step / ema_inv_gamma)^-ema_power, not as (1 + step) / (10 + step)."""
    ema_inv_gamma: float = 1.0
    """Steps that the unit of `use_ema_warmup` takes."""
    ema_power: float = 2 / 3
    """Exponent of `use_ema_warmup`; 3/4 reaches 0.999 in 10,000 steps, 2/3 in 31,600."""
    offload_ema: bool = False
    """Keep the average in main memory: less of the GPU's, slower steps."""
    full_bf16: bool = False
    """Hold the UNet that learns in bf16, 2 bytes a number, each step rounded up or down by chance."""
    fused_backward_pass: bool = False
    """Move each parameter in the backward pass and free its gradient at once: no memory for gradients."""
    cache_captions: bool = False
    """Encode each caption once, before the first step, into main memory as float16."""

    train_batch_size: int = 4
    """Images per process and forward pass; all of one bucket."""
    gradient_accumulation_steps: int = 1
    """Forward passes per optimizer step."""
    max_train_steps: int | None = None
    """Optimizer steps in all; default: what `num_train_epochs` need."""
    num_train_epochs: int = 10
    """Times each image is seen (the article's run: 10)."""
    mixed_precision: Literal["auto", "no", "fp16", "bf16"] = "auto"
    """Dtype of the forward pass and of frozen parts; auto: bf16 on a GPU that has it, else no (float32)."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, a quarter (SDXL: a third) more operations."""
    seed: int = 0
    """Order, noise, timesteps and dropout are functions of this and the position in the run."""

    checkpointing_steps: int = 500
    """Optimizer steps between checkpoints; the end of the run always makes one."""
    checkpoint_at_start: bool = False
    """Make a checkpoint before the first step too: what the run's pictures are to be compared with."""
    checkpoints_total_limit: int | None = None
    """Checkpoints to keep, newest first, and the best by validation loss beside them; default: all."""
    logging_steps: int = 10
    """Optimizer steps between looks at the loss (each is a wait for the device)."""
    validation_split: float = 0.02
    """Share of the characters, 0..1, whose images are never trained on but tell the best checkpoint; 0: none.

    Whether a character is held out follows from its name alone, so that runs hold out the same; a character
    with over a tenth of the images, and images without one, are split by their content_id."""
    num_validation_images: int = 4
    """Held-out images that each checkpoint is shown to draw, into the run's pictures/; 0: none."""

    def __post_init__(self) -> None:
        for name in get_type_hints(FitConfig):
            value = getattr(self, name)
            for text in value if isinstance(value, list) else [value]:
                if isinstance(text, str):
                    require_text(name, text)
        for name in _UNIT_INTERVAL:
            _require(0.0 <= getattr(self, name) <= 1.0, self, name, "0 to 1")
        for name in _BELOW_ONE:
            _require(getattr(self, name) < 1.0, self, name, "below 1")
        for name in _POSITIVE:
            value = getattr(self, name)
            _require(value is None or (math.isfinite(value) and value > 0), self, name, "above 0")
        for name in _NOT_NEGATIVE:
            value = getattr(self, name)
            _require(value is None or (math.isfinite(value) and value >= 0), self, name, "0 or more")
        require_features(
            self.features,
            self.feature_dropout,
            allow_missing=self.allow_missing,
            num_tokens=self.num_tokens,
        )
        self._check_what_learns()
        self._check_memory()
        self._check_learning_rates()

    @classmethod
    def of(cls, table: Mapping[str, Any], *, source: str) -> FitConfig:
        """A config of a TOML table. Raises ConfigError naming `source` for an unknown key or a wrong type."""
        return read_table(cls, table, source=source, tables=TABLES)

    def to_toml(self) -> str:
        """The config as a TOML file that `load_config` reads back to an equal one."""
        return toml_of(dataclasses.asdict(self))

    def changed_from(self, other: FitConfig) -> list[str]:
        """Keys that differ and that a resumed run must not change."""
        free = _FREE_ON_RESUME | (_LENGTHS if self.lr_scheduler.startswith("constant") else frozenset())
        names = [field.name for field in dataclasses.fields(self) if field.name not in free]
        return [name for name in names if getattr(self, name) != getattr(other, name)]

    @property
    def learning_parts(self) -> tuple[str, ...]:
        """The parts that learn, in the order of their parameter groups: adapter, then unet or lora."""
        adapter = () if self.num_tokens == 0 else ("adapter",)
        return adapter if self.train == "adapter" else (*adapter, self.train)

    def peak_rate(self, part: str) -> tuple[str, float]:
        """The key of the learning rate of a part that learns, and its value."""
        return _RATE_OF[part], getattr(self, _RATE_OF[part])

    def _check_what_learns(self) -> None:
        _require(
            bool(self.learning_parts), self, "num_tokens", 'possible with train = "adapter": nothing learns'
        )
        drops = self.condition_dropout + self.pfg_dropout + self.caption_dropout_rate
        _require(
            drops <= 1.0,
            self,
            "condition_dropout",
            f"possible: with pfg_dropout and caption_dropout_rate it makes {drops:g} of all rows",
        )
        if self.num_tokens == 0:
            for name in ("pfg_dropout", "standardize_features"):
                _require(
                    not getattr(self, name), self, name, "possible with num_tokens = 0: there is no adapter"
                )
        if not self.caption:
            for name in ("shuffle_caption", "keep_tokens"):
                _require(not getattr(self, name), self, name, "of use without a caption; name one by caption")
        _require(bool(self.target_modules), self, "target_modules", "a list of names")

    def _check_memory(self) -> None:
        """Refuse what does not go together, or saves nothing."""
        for name, possible, wanted in (
            ("full_bf16", self.train == "unet", 'of use without train = "unet": all else stays float32'),
            (
                "full_bf16",
                self.mixed_precision in ("auto", "bf16"),
                'possible without mixed_precision = "bf16"',
            ),
            ("fused_backward_pass", self.gradient_accumulation_steps == 1, "possible with accumulation"),
            ("fused_backward_pass", not self.max_grad_norm, "possible with max_grad_norm; set that to 0"),
            ("fused_backward_pass", self.mixed_precision != "fp16", 'possible with mixed_precision = "fp16"'),
            ("cache_captions", bool(self.caption), "of use without a caption; name one by caption"),
            ("cache_captions", not self.shuffle_caption, "possible with shuffle_caption: they never recur"),
        ):
            _require(possible or not getattr(self, name), self, name, wanted)

    def _check_learning_rates(self) -> None:
        _require(
            self.lr_scheduler in LR_SCHEDULERS, self, "lr_scheduler", f"one of {', '.join(LR_SCHEDULERS)}"
        )
        _require(
            not self.lr_warmup_steps or self.lr_scheduler != "constant",
            self,
            "lr_warmup_steps",
            "used by lr_scheduler = 'constant'; take 'constant_with_warmup'",
        )
        for part in self.learning_parts[-1:]:
            name, rate = self.peak_rate(part)
            _require(
                self.lr_scheduler != "polynomial" or rate > _POLYNOMIAL_END,
                self,
                name,
                f"above {_POLYNOMIAL_END:g}, where lr_scheduler = 'polynomial' ends",
            )


_UNIT_INTERVAL = (
    "threshold",
    "character_threshold",
    "condition_dropout",
    "pfg_dropout",
    "caption_dropout_rate",
    "ema_decay",
    "validation_split",
)
_BELOW_ONE = ("validation_split",)
_POSITIVE = (
    "resolution",
    "r",
    "lora_alpha",
    "adapter_hidden_dim",
    "clip_skip",
    "snr_gamma",
    "lr_num_cycles",
    "lr_power",
    "ema_inv_gamma",
    "ema_power",
    "train_batch_size",
    "gradient_accumulation_steps",
    "max_train_steps",
    "num_train_epochs",
    "checkpointing_steps",
    "checkpoints_total_limit",
    "logging_steps",
)
_NOT_NEGATIVE = (
    "num_tokens",
    "keep_tokens",
    "learning_rate",
    "adapter_learning_rate",
    "lora_learning_rate",
    "lr_warmup_steps",
    "max_grad_norm",
    "max_skipped_steps",
    "num_validation_images",
    "seed",
)


def _require(condition: bool, config: FitConfig, name: str, wanted: str) -> None:
    if not condition:
        raise ConfigError(f"{name} = {toml_value(getattr(config, name))} is not {wanted}")
