"""Every kind of file that the writers here can make shows the same picture to us and to libvips."""

from __future__ import annotations

import ctypes.util
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from pfgdata.errors import ContentError
from pfgdata.images import decode
from tests.pfgdata.images import vips
from tests.pfgdata.images.makers import Made, every_file

_Answer = npt.NDArray[np.float64] | str  # RGBA, colours multiplied by alpha, or why there is none

# Whole pictures that Pillow cannot read, so they are named failures: grey of 16 bits beside a second sample,
# and a BigTIFF whose numbers begin with their highest byte.
REFUSED = {"tiff rgb 8 big >", "tiff rgb 8 big > packed"} | {
    f"tiff grey 16 extra {extra} {order}{packed}"
    for extra in range(3)
    for order in "<>"
    for packed in ("", " packed")
}


@pytest.mark.slow
def test_every_kind_of_file_shows_what_libvips_shows(capsys: pytest.CaptureFixture[str]) -> None:
    if ctypes.util.find_library("vips") is None:
        assert "CI" not in os.environ, "libvips is not installed, which .ci/run does"
        pytest.skip("libvips is not installed: apt-get install libvips-tools")
    files = list(every_file())
    # in a process of its own: its libheif beside that of pillow-heif crashes
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        theirs = list(pool.map(_theirs, files, chunksize=64))
    verdicts = {
        made.name: _verdict(made, _ours(made), said) for made, said in zip(files, theirs, strict=True)
    }
    refused = [name for name, verdict in verdicts.items() if verdict == "refused"]
    wrong = [f"{name}: {verdict}" for name, verdict in verdicts.items() if verdict not in ("same", "refused")]
    same = len(verdicts) - len(refused) - len(wrong)
    with capsys.disabled():
        print(f"\n{len(files)} files: {same} as libvips has them, {len(refused)} refused, {len(wrong)} wrong")
    assert not wrong, "\n".join(wrong[:40])
    assert {name.split(",")[0] for name in refused} == REFUSED
    assert same > 2000


def _theirs(made: Made) -> _Answer:
    try:
        return _multiplied(vips.pixels_by_vips(made.data, has_alpha=made.has_alpha))
    except vips.NotRead as problem:
        return str(problem)


def _ours(made: Made) -> _Answer:
    try:
        return _multiplied(decode(made.data).array)
    except ContentError as problem:
        return str(problem)


def _verdict(made: Made, ours: _Answer, theirs: _Answer) -> str:
    if isinstance(theirs, str):
        return f"libvips: {theirs}"
    if isinstance(ours, str):
        return "refused"
    if ours.shape != theirs.shape:
        return f"{ours.shape[:2]} here, {theirs.shape[:2]} there"
    off = float(np.abs(ours - theirs).max())
    return "same" if off <= made.within else f"{off:.1f} off, over {made.within:g}"


def _multiplied(array: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """RGBA [H, W, 4], 0..255, of RGB or RGBA: what is clear has no colour."""
    values = array.astype(np.float64)
    alpha = values[..., 3:] if values.shape[2] == 4 else np.full_like(values[..., :1], 255)
    return np.concatenate([values[..., :3] * alpha / 255, alpha], axis=2)
