"""A browser's requests in miniature: what the page sends, with its Origin, and what comes back."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from pfgdata.web import Place

BYTES = "application/octet-stream"


@dataclass
class Client:
    """Asks one place; `status` and `headers` are of the last answer."""

    place: Place
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def origin(self) -> str:
        return f"http://{self.place.host}:{self.place.port}"

    def raw(self, method: str, path: str, body: bytes = b"", **headers: str) -> bytes:
        """The bytes of an answer; a header is named with _ for -, and an empty one is not sent."""
        connection = http.client.HTTPConnection(self.place.host, self.place.port, timeout=60)
        sent = {"origin": self.origin, "content-type": "application/json"} | headers
        named = {name.replace("_", "-"): value for name, value in sent.items() if value}
        try:
            connection.request(method, path, body, named)
            answer = connection.getresponse()
            self.status, self.headers = answer.status, {k.lower(): v for k, v in answer.getheaders()}
            return answer.read()
        finally:
            connection.close()

    def get(self, path: str) -> Any:
        return json.loads(self.raw("GET", path))

    def post(self, path: str, value: object) -> Any:
        return json.loads(self.raw("POST", path, json.dumps(value).encode()))

    def delete(self, path: str) -> Any:
        return json.loads(self.raw("DELETE", path))

    def upload(self, data: bytes, name: str) -> Any:
        return json.loads(
            self.raw("POST", f"/api/guides?name={quote(name, safe='')}", data, **{"content-type": BYTES})
        )

    def until(self, wanted: Callable[[Any], bool], *, seconds: float = 240) -> Any:
        """The first state for which `wanted` is true."""
        ends = time.monotonic() + seconds
        while not wanted(state := self.get("/api/state")):
            assert time.monotonic() < ends, state
            time.sleep(0.02)
        return state

    def drawn(self, number: int) -> Any:
        """A drawing, once it has ended."""

        def found(state: Any) -> Any:
            return next(one for one in state["drawings"] if one["id"] == number)

        def ended(state: Any) -> bool:
            return found(state)["state"] not in ("waiting", "drawing")

        return found(self.until(ended))
