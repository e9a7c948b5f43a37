"""What a picture's pixels say of how it is drawn: its edges, its lines, its flat colours. No viewer is asked.

A blurred picture keeps its colours and loses edges, and lines first: an edge parts two sides, a line stands
apart from both.
Shapes: S, T height and width in pixels, C flat cells.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Strokes", "colour_error", "strokes"]

LINE = 64  # a line is looked for across this share of the shorter side: 2 px each way of 128
CELLS = 16  # along the shorter side: 8 px of 128, the cell of a VAE of factor 8
FLAT = (
    4.0  # of 255: the most that a flat cell's colours deviate; JPEG and a VAE leave 1 to 2 on a flat ground
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Strokes:
    """Energies are means over pixels of brightness 0..1; `flat_C3` are the colours of flat cells, 0..255."""

    edges: float
    lines: float
    flat_C3: npt.NDArray[np.float32]


def strokes(pixels_ST3: npt.NDArray[np.uint8]) -> Strokes:
    """The strokes of an RGB picture."""
    bright_ST = pixels_ST3.astype(np.float32).mean(axis=2) / 255
    both = (bright_ST, bright_ST.T)
    return Strokes(
        edges=sum(_edges(one) for one in both),
        lines=sum(_lines(one) for one in both),
        flat_C3=_flat_colours(pixels_ST3),
    )


def colour_error(left: Strokes, right: Strokes) -> float:
    """How far flat colours of one are from the nearest of the other, 0..255, both ways; nan without any.

    By colour and not by place: another view or pose of a character has its colours elsewhere.
    """
    if not len(left.flat_C3) or not len(right.flat_C3):
        return float("nan")
    apart_CC = np.abs(left.flat_C3[:, None] - right.flat_C3[None]).mean(axis=2)
    return float((apart_CC.min(axis=1).mean() + apart_CC.min(axis=0).mean()) / 2)


def _edges(bright_ST: npt.NDArray[np.float32]) -> float:
    """The mean square of the step to the next pixel, downwards."""
    return float(np.mean((bright_ST[1:] - bright_ST[:-1]) ** 2)) if len(bright_ST) > 1 else 0.0


def _lines(bright_ST: npt.NDArray[np.float32]) -> float:
    """The mean square of how far a pixel stands apart from those on both sides of it, up and down."""
    reach = max(1, min(bright_ST.shape) // LINE)
    if len(bright_ST) <= 2 * reach:
        return 0.0
    here = bright_ST[reach:-reach]
    above, below = here - bright_ST[: -2 * reach], here - bright_ST[2 * reach :]
    apart = np.where(above * below > 0, np.minimum(np.abs(above), np.abs(below)), 0.0)
    return float(np.mean(apart**2))


def _flat_colours(pixels_ST3: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    height, width = pixels_ST3.shape[:2]
    side = max(1, min(height, width) // CELLS)
    rows, columns = height // side, width // side
    cut = pixels_ST3[: rows * side, : columns * side].astype(np.float32)
    cells = cut.reshape(rows, side, columns, side, 3).swapaxes(1, 2).reshape(rows * columns, side * side, 3)
    flat = cells.std(axis=1).max(axis=1) <= FLAT
    colours: npt.NDArray[np.float32] = cells[flat].mean(axis=1)
    return colours
