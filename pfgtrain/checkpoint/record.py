"""run.json: what a run was made with, and so what its weights mean. A folder with one is a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from pfgdata.errors import RunError, StoreError, StoreFormatError
from pfgdata.files import Disk, canonical_json, read_json
from pfgdata.records import Factor, LatentScale, TaggerIdentity, factor
from pfgdata.urls import UrlPath, is_url
from pfgtrain.config import FeaturePlan

__all__ = ["RUN_FORMAT", "RunRecord", "is_run"]

RUN_FORMAT = 2  # of run.json and the checkpoint folder; a reader refuses any other

_RECORD_FILE = "run.json"
_OF_SEVERAL = ("features", "missing_vectors")  # left out where they say nothing, as before there were any


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """What a run was made with, and so what its weights mean: generate and resume hold on to it."""

    tagger: TaggerIdentity
    feature_dim: int
    base_name: str  # `demo`, an absolute folder or file, a run's folder, or a hub id
    base_revision: str | None  # the hub's commit, or a run's checkpoint
    base_fingerprint: str  # tells two bases of one name apart
    base_family: str  # sd1, sd2, sdxl
    latents_id: str
    vae_digest: str
    scaling_factor: Factor  # of the VAE: what stored latents are multiplied by
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
    use_ema: bool  # each checkpoint holds a moving average too
    selections: dict[str, dict[str, Any]] = field(default_factory=dict)  # what each @NAME selected by meant
    shift_factor: Factor = 0.0  # what is taken off stored latents first
    empty_prompt: Literal["encoded", "zeros"] = "encoded"  # what "" is on the unconditional side
    processes: int = 1  # over which a global batch is split; its rows are train_batch_size times this
    features: list[dict[str, Any]] = field(default_factory=list)  # a FeaturePlan's; none: the tagger's alone
    missing_vectors: str | None = None  # digest of which images lack a vector of which set; None: none does

    def __post_init__(self) -> None:
        """Make tuples of what JSON gives."""
        for name in ("scaling_factor", "shift_factor"):
            object.__setattr__(self, name, factor(getattr(self, name)))

    @property
    def scale(self) -> LatentScale:
        """What makes the UNet's latents of stored ones."""
        return LatentScale(scaling=self.scaling_factor, shift=self.shift_factor)

    @property
    def features_read(self) -> FeaturePlan:
        """What its adapters read, in the order of their tokens."""
        if self.features:
            return FeaturePlan.of(self.features)
        return FeaturePlan.of_tagger(feature_dim=self.feature_dim, num_tokens=self.num_tokens)

    @property
    def store_path(self) -> Path | None:
        """Where its store lies, a folder or a place in a bucket; None of a run that was given away."""
        path = UrlPath(self.store) if is_url(self.store) else Path(self.store)
        return path if path.is_absolute() else None  # a run given away knows the last name alone

    def write(self, run_dir: Path, *, disk: Disk | None = None) -> None:
        """Write run.json; a folder with one is a run."""
        value = {"format": RUN_FORMAT, **asdict(self), "tagger": self.tagger.as_dict()}
        data = canonical_json({key: one for key, one in value.items() if one or key not in _OF_SEVERAL})
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
            record = cls(**{**value, "tagger": TaggerIdentity.of(value["tagger"])})
            FeaturePlan.of(record.features)
            return record
        except (TypeError, KeyError) as problem:
            raise RunError(f"{path}: not a record of this version ({problem}); start a new run") from problem

    def differs_from(self, other: RunRecord) -> list[str]:
        """Names of the fields that decide what the weights mean and are not equal."""
        mine, theirs = asdict(self), asdict(other)
        for record, side in ((self, mine), (other, theirs)):
            side["tagger"] = record.tagger.decisive
            side["features"] = record.features_read.decisive if record.features else []
        return [name for name in mine if name not in _FOR_PEOPLE and mine[name] != theirs[name]]

    def selections_since(self, other: RunRecord) -> list[str]:
        """How the selections that both were selected by differ from those of `other`: a text for each."""
        names = [name for name in self.selections if name in other.selections]
        pairs = [(name, other.selections[name], self.selections[name]) for name in names]
        return [f"@{name} was {_told(old)}, is {_told(new)}" for name, old, new in pairs if old != new]


def _told(meaning: Mapping[str, Any]) -> str:
    if meaning["frozen"] is not None:
        return f"frozen ({meaning['frozen'][:8]})"
    at = [f"{meaning['thresholds'][kind]:g}" for kind in ("general", "character")]
    return f"{meaning['text']!r} at {'/'.join(at)}"


_FOR_PEOPLE = frozenset(
    {
        *("store", "versions", "created", "base_name", "base_revision"),
        *("selection_expression", "thresholds", "selections"),
    }
)  # the base is held on to by its VAE, family, width and prediction type; it may have moved


def is_run(folder: Path) -> bool:
    """Whether `folder` holds a run."""
    return (folder / _RECORD_FILE).is_file()
