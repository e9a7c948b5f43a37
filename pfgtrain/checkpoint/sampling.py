"""sampling.json: how a run's pictures are best drawn; generate and evaluate take it where nothing is said."""

from __future__ import annotations

import json
import math
import tempfile
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from pfgdata.errors import RunError, refused_by_system
from pfgdata.files import Disk

__all__ = ["SAMPLING_FILE", "Sampling"]

SAMPLING_FILE = "sampling.json"  # plain, so that a user may write it
_UNUSABLE = (ValueError, OverflowError, RecursionError, TypeError, AttributeError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """What `evaluate --tune --keep` chose for a run, and the guidance rescale that it was chosen with."""

    guidance_scale: float
    pfg_scale: float
    guidance_rescale: float = 0.0

    @classmethod
    def of(cls, options: object) -> Sampling:
        """What `options`, of an evaluation or of pictures, say of it."""
        return cls(**{one.name: getattr(options, one.name) for one in fields(cls)})

    def write(self, run_dir: Path, *, disk: Disk | None = None) -> None:
        """Keep it in the run's folder. Raises RunError if it cannot be written."""
        path = run_dir / SAMPLING_FILE
        try:
            (disk or Disk()).replace_file(path, f"{json.dumps(asdict(self))}\n".encode())
        except OSError as error:
            raise _not_written(path, error) from error

    @staticmethod
    def require_room(run_dir: Path) -> None:
        """Raise the RunError of `write` if the run's folder takes no file; it stays as it is."""
        try:
            with tempfile.TemporaryFile(dir=run_dir):
                pass
        except OSError as error:
            raise _not_written(run_dir / SAMPLING_FILE, error) from error

    @classmethod
    def read(cls, run_dir: Path) -> Sampling | None:
        """What the run's folder holds, None if nothing. Raises RunError if it is no such file."""
        path = run_dir / SAMPLING_FILE
        try:
            value = json.loads(path.read_bytes())
            found = cls(**{key: float(number) for key, number in value.items()})
        except FileNotFoundError:
            return None
        except (OSError, *_UNUSABLE) as problem:
            reason = refused_by_system(problem) or f"cannot be used ({problem}); mend or delete it"
            raise RunError(f"{path}: {reason}") from None
        if not 0 <= found.guidance_rescale <= 1:
            raise RunError(
                f"{path}: guidance_rescale is {found.guidance_rescale}, must be from 0 to 1; mend it"
            )
        if not all(math.isfinite(number) for number in asdict(found).values()):
            raise RunError(f"{path}: holds a number that is not finite; mend or delete it")
        return found


def _not_written(path: Path, error: OSError) -> RunError:
    return RunError(f"{path}: not written ({error.strerror}); leave out --keep")
