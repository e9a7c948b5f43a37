"""One look for every page that pfg writes or serves: its stylesheet, and the frame of a page in one file.

Text is escaped by whoever puts it into a page; a page has no script and takes nothing from the network.
"""

from __future__ import annotations

from html import escape
from importlib.resources import files

__all__ = ["page_html", "stylesheet"]


def stylesheet() -> str:
    """The CSS of all pages: light and dark as the reader's system says."""
    return (files("pfgdata") / "assets" / "pages.css").read_text("utf-8")


def page_html(title: str, body: str, *, style: str = "") -> str:
    """A whole page in one file: `title` is text, `body` HTML, `style` CSS that only this page has."""
    head = (
        '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
    )
    return f"{head}<title>{escape(title)}</title>\n<style>\n{stylesheet()}{style}</style>\n{body}\n</html>\n"
