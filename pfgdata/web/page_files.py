"""The files of a page, as routes: what lies in a package's `web/static`, and the one stylesheet of all pages.

They are read once. Only what was found there has a name, so that no name leads out of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.resources import files
from importlib.resources.abc import Traversable

from blake3 import blake3
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pfgdata.pages import stylesheet

__all__ = ["page_routes"]

_TYPES = {
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "svg": "image/svg+xml",
    "webp": "image/webp",
}


def page_routes(package: str) -> list[Route]:
    """`/` (index.html), `/static/NAME` and `/static/pages.css` of `package`, each with its digest as ETag."""
    found = dict(_walk(files(package) / "web" / "static", ""))
    found["pages.css"] = stylesheet().encode()
    tags = {name: f'"{blake3(data).hexdigest(length=8)}"' for name, data in found.items()}

    def answer(name: str, request: Request) -> Response:
        if name not in found:
            raise HTTPException(404, "no such file of the page")
        headers = {"cache-control": "no-cache", "etag": tags[name]}
        if request.headers.get("if-none-match") == tags[name]:
            return Response(status_code=304, headers=headers)
        kind = _TYPES[name.rpartition(".")[2]]
        return Response(found[name], headers={**headers, "content-type": kind})

    async def page(request: Request) -> Response:
        return answer("index.html", request)

    async def static(request: Request) -> Response:
        return answer(request.path_params["name"], request)

    return [Route("/", page), Route("/static/{name:path}", static)]


def _walk(folder: Traversable, below: str) -> Iterator[tuple[str, bytes]]:
    for one in folder.iterdir():
        name = f"{below}{one.name}"
        if one.is_dir():
            yield from _walk(one, f"{name}/")
        elif name.rpartition(".")[2] in _TYPES:
            yield name, one.read_bytes()
