"""Pages on this machine: a guarded server for any app, and the page that browses a store.

`Guard` and `serve` know nothing of stores. What needs the extra `web` (Starlette, uvicorn) is imported when
it is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pfgdata.lazy import lazy_imports

if TYPE_CHECKING:
    from pfgdata.web.answer import JSONAnswer
    from pfgdata.web.app import BROWSE_RULES, browse_app
    from pfgdata.web.desk import DeskOptions
    from pfgdata.web.guard import Guard, Place, Rules
    from pfgdata.web.page_files import page_routes
    from pfgdata.web.server import ServeOptions, serve, serving

__all__ = [
    "BROWSE_RULES",
    "DeskOptions",
    "Guard",
    "JSONAnswer",
    "Place",
    "Rules",
    "ServeOptions",
    "browse_app",
    "page_routes",
    "serve",
    "serving",
]

if not TYPE_CHECKING:
    __getattr__ = lazy_imports(__name__)
