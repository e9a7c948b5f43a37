"""The files of the browse page: small modules that import each other, data that never becomes markup."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import pfgdata

STATIC = Path(pfgdata.__file__).parent / "web" / "static"
OURS = sorted(STATIC.glob("*.js"))
MAX_LINES = 350


def test_the_page_has_modules() -> None:
    assert len(OURS) > 20


@pytest.mark.parametrize("module", OURS, ids=lambda path: path.name)
def test_a_module_says_what_it_owns_and_is_short(module: Path) -> None:
    text = module.read_text("utf-8")
    assert text.startswith("// ")
    assert len(text.splitlines()) <= MAX_LINES


@pytest.mark.parametrize("module", OURS, ids=lambda path: path.name)
def test_a_module_makes_no_markup_or_code_of_text(module: Path) -> None:
    text = module.read_text("utf-8")
    found = re.findall(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", text)
    assert found == []


@pytest.mark.parametrize("module", OURS, ids=lambda path: path.name)
def test_what_a_module_imports_is_there(module: Path) -> None:
    text = module.read_text("utf-8")
    for names, source in re.findall(r"import (?:\* as \w+|\{([^}]*)\}) from '\./([^']+)'", text):
        there = (STATIC / source).read_text("utf-8")
        for name in filter(None, (one.strip() for one in names.split(","))):
            exported = rf"export (?:async )?(?:const|function|class) {name}\b|[{{, ]\w* ?as {name}\b"
            assert re.search(exported, there), f"{source} exports no {name}"
            assert len(re.findall(rf"\b{name}\b", text)) > 1, f"{name} is imported and not used"


def test_the_page_fetches_all_modules_at_once_and_nothing_from_elsewhere() -> None:
    page = (STATIC / "index.html").read_text("utf-8")
    preloaded = re.findall(r'rel="modulepreload" href="/static/([^"]+)"', page)
    assert sorted(preloaded) == sorted([*(path.name for path in OURS), "vendor/htm-preact.js"])
    assert not re.findall(r"https?://", page)
    assert "<style" not in page and "style=" not in page


def test_the_vendored_module_has_its_licences_beside_it() -> None:
    licences = (STATIC / "vendor" / "LICENSE.txt").read_text("utf-8")
    assert "Apache License" in licences and "MIT" in licences
