"""A client of a served page, as plain as it can be: what it sends is what the test says."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from pfgdata.web import Place

__all__ = ["Answer", "Client"]


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> str:
        return str(self.json["error"])


@dataclass(frozen=True)
class Client:
    """Asks one served page, each time over a connection of its own."""

    place: Place

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.place.port}"

    def send(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Exactly that request."""
        connection = http.client.HTTPConnection("127.0.0.1", self.place.port, timeout=30)
        try:
            connection.request(method, path, body, dict(headers or {}))
            answer = connection.getresponse()
            found = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(answer.status, found, answer.read())
        finally:
            connection.close()

    def get(self, path: str, **asked: Any) -> Answer:
        """The address with `asked` as its query string."""
        return self.send("GET", f"{quote(path)}?{urlencode(asked)}" if asked else quote(path))

    def post(self, path: str, value: Any, method: str = "POST") -> Answer:
        """JSON, as the page itself sends it."""
        headers = {"Origin": self.origin, "Content-Type": "application/json"}
        return self.send(method, path, json.dumps(value).encode(), headers)

    def select(self, **asked: Any) -> Any:
        """A selection that must be answered."""
        answer = self.get("/api/select", **asked)
        assert answer.status == 200, answer.body
        return answer.json

    def rows(self, **asked: Any) -> list[str]:
        """The content_ids of a selection, in its order."""
        found = self.get(f"/api/rows/{self.select(**asked)['id']}")
        return [row[0] for row in found.json["rows"]]

    def finished(self, job: str) -> Any:
        """The answer of a search for duplicates, when it has ended."""
        for _ in range(600):
            answer = self.get(f"/api/duplicates/{job}").json
            if answer["state"] != "running":
                return answer
            time.sleep(0.05)
        raise AssertionError("the search does not end")
