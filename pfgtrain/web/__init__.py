"""The page that draws: guides in a browser to pictures, by one model that one thread owns.

Torch is imported by that thread alone, after the address is printed; the page shows how far it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pfgdata.lazy import lazy_imports

if TYPE_CHECKING:
    from pfgtrain.web.app import RULES, drawing_app
    from pfgtrain.web.bounds import Bounds
    from pfgtrain.web.desk import Desk
    from pfgtrain.web.job import WebJob
    from pfgtrain.web.stored import StoredGuides

__all__ = ["RULES", "Bounds", "Desk", "StoredGuides", "WebJob", "drawing_app"]

if not TYPE_CHECKING:
    __getattr__ = lazy_imports(__name__)
