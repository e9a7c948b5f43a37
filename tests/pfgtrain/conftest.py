"""What all tests of pfgtrain may ask for."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pfgdata.screen import run_app
from pfgtrain.cli import app

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    """Run pfgtrain here: exit code, stdout, stderr."""

    def run_it(*args: object) -> tuple[int, str, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            run_app(app, args=[str(arg) for arg in args], name="pfgtrain")
        out, err = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return ended.value.code, out, err

    return run_it
