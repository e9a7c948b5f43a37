"""JSON that a page is answered with: a path that is no UTF-8 is told too, by halves of surrogate pairs."""

from __future__ import annotations

import json
from typing import Any

from starlette.responses import JSONResponse

__all__ = ["JSONAnswer"]


class JSONAnswer(JSONResponse):
    """`content` as JSON of ASCII alone: such a path has no bytes of UTF-8."""

    def render(self, content: Any) -> bytes:
        """The bytes. Raises ValueError for a number that JSON does not have."""
        return json.dumps(content, allow_nan=False, separators=(",", ":")).encode()
