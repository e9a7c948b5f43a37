"""The browser of the tests marked `browser`: one for each file or session that asks."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from selenium import webdriver

from docs.chromium import chromium, missing

__all__ = ["browser_for_tests"]


def browser_for_tests(profile: Path, *, logs: Sequence[str]) -> Iterator[webdriver.Chrome]:
    """A chromium that keeps `logs`; without one the test is skipped, and fails in CI."""
    if (why := missing()) is not None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(why)
    with chromium(profile, size=(1440, 900), logs=logs) as driver:
        driver.set_script_timeout(60)
        yield driver
