"""What learns, part by part: its parameters and the file of a checkpoint that they stand in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from pfgdata.errors import RunError
from pfgdata.hub import write_tensors
from pfgtrain.adapter import read_shapes, read_tensors

__all__ = ["Part"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Parameters that learn at one rate and stand in one file of a checkpoint."""

    name: str  # adapter, unet or lora
    file: str
    parameters: Mapping[str, Tensor]  # by the file's keys
    fixed: Mapping[str, Tensor] = field(default_factory=dict)  # what the file holds beside them
    header: Mapping[str, str] | None = None

    @property
    def size(self) -> int:
        """Numbers that learn."""
        return sum(parameter.numel() for parameter in self.parameters.values())

    def write(self, folder: Path) -> None:
        """Write the values into the part's file, float32, or bf16 where they are that."""
        held = {**self.parameters, **self.fixed}
        state = {key: _kept(value.detach()).cpu() for key, value in held.items()}
        write_tensors(folder / self.file, state, header=self.header)

    @torch.no_grad()
    def read(self, folder: Path) -> None:
        """Take the values from the part's file. Raises RunError if it is of other parameters."""
        self.require_fit(folder)
        state = read_tensors(folder / self.file)
        for key, value in {**self.parameters, **self.fixed}.items():
            value.copy_(state[key])

    def require_fit(self, folder: Path) -> None:
        """Raise RunError if the part's file is, by its header, of other parameters."""
        path = folder / self.file
        mine = {key: tuple(value.shape) for key, value in {**self.parameters, **self.fixed}.items()}
        if mine != read_shapes(path):
            raise RunError(f"{path}: holds other weights than this run's {self.name} has; start a new run")


def _kept(value: Tensor) -> Tensor:
    return value if value.dtype == torch.bfloat16 else value.float()
