"""What a store is, on one page: pictures, then figures; everything in one file, without a script.

Gathered by one session and one reading of the rows (`report_store`), then drawn (`report_page`): the page,
`--json` and whoever imports this have the same figures.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pfgdata.lazy import lazy_imports

if TYPE_CHECKING:
    from pfgdata.report.figures import StoreReport
    from pfgdata.report.output import require_place, write_page
    from pfgdata.report.page import report_page
    from pfgdata.report.run import ReportOptions, report_store

__all__ = ["ReportOptions", "StoreReport", "report_page", "report_store", "require_place", "write_page"]

if not TYPE_CHECKING:
    __getattr__ = lazy_imports(__name__)
