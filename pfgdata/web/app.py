"""The addresses of the browse page: what is asked there, and which of our functions answers.

Each answer is JSON but for pictures and the page's own files. A user's mistake is one line and status 400.
Nothing here blocks the event loop: questions stand in one line, thumbnails have threads of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from blake3 import blake3
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from pfgdata.errors import ImageError, PfgError, QueryError
from pfgdata.pages import stylesheet
from pfgdata.store import Store, ThumbnailCache
from pfgdata.web.about import about_store
from pfgdata.web.ask import Ask
from pfgdata.web.catalog import id_of
from pfgdata.web.desk import Desk, DeskOptions, Kept
from pfgdata.web.pictures import Pictures
from pfgdata.web.questions import Line, waited
from pfgdata.web.trouble import told

__all__ = ["browse_app"]

_NO_IMAGE = "no image of this store has that content_id"
_ROWS = 512  # at most, of one request
_FOREVER = "private, max-age=31536000, immutable"
_TYPES = {
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "svg": "image/svg+xml",
    "png": "image/png",
    "ico": "image/x-icon",
    "json": "application/json",
}


def browse_app(store: Store, options: DeskOptions) -> Starlette:
    """The ASGI app that browses `store`; serve it behind a Guard."""
    return Starlette(routes=_Browser(Desk(store, options)).routes(), exception_handlers=_HANDLERS)


class _Browser:
    """The endpoints over one desk."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        cache = ThumbnailCache(desk.shown.snapshot, most=desk.options.thumbnails)
        self._pictures = Pictures(cache, follow_links=desk.options.follow_links)
        self._questions = Line("question")
        self._works = Line("work", threads=2)
        self._works.begin(lambda: desk.shown.catalog)

    def routes(self) -> list[Route]:
        return [
            Route("/", self.page),
            Route("/static/{name:path}", self.static),
            Route("/api/store", self.store),
            Route("/api/select", self.select),
            Route("/api/count", self.count),
            Route("/api/rows/{selection}", self.rows),
            Route("/thumb/{name}", self.thumbnail),
            Route("/picture/{content_id}", self.picture),
        ]

    async def page(self, request: Request) -> Response:
        return _static("index.html", request)

    async def static(self, request: Request) -> Response:
        return _static(request.path_params["name"], request)

    async def store(self, request: Request) -> Response:
        def work() -> dict[str, Any]:
            self._desk.renew()
            return about_store(self._desk)

        return await self._asked(request, work)

    async def select(self, request: Request) -> Response:
        ask = self._ask(request)
        return await self._asked(request, lambda: self._desk.select(ask))

    async def count(self, request: Request) -> Response:
        ask = self._ask(request)
        return await self._asked(request, lambda: self._desk.count(ask))

    async def rows(self, request: Request) -> Response:
        kept = self._kept(request)
        start, count = _whole(request, "start", 0), _whole(request, "count", _ROWS)
        if count > _ROWS:
            raise QueryError(f"count {count}: at most {_ROWS} rows at a time")
        return JSONResponse({"rows": kept.shown.catalog.described(kept.rows[start : start + count])})

    async def thumbnail(self, request: Request) -> Response:
        content_id = _content_id(request.path_params["name"].removesuffix(".jpg"))
        running = self._pictures.thumbnail(self._desk.shown, content_id)
        data = await waited(request, running, lambda: self._pictures.let_go(content_id))
        if data is None:
            raise HTTPException(404, _NO_IMAGE)
        return Response(data, media_type="image/jpeg", headers={"cache-control": _FOREVER})

    async def picture(self, request: Request) -> Response:
        content_id = _content_id(request.path_params["content_id"])
        shown = self._desk.shown
        found = await self._works.run(request, lambda: self._pictures.picture(shown, content_id))
        if found is None:
            raise HTTPException(404, _NO_IMAGE)
        headers = {"cache-control": _FOREVER, "content-security-policy": "default-src 'none'; sandbox"}
        return Response(found.data, media_type=found.kind, headers=headers)

    async def _asked(self, request: Request, work: Callable[[], Any]) -> Response:
        """What a work that asks the session answers; it is interrupted where its client goes."""
        session = self._desk.shown.session
        return JSONResponse(await self._questions.run(request, work, interrupt=session.interrupt))

    def _ask(self, request: Request) -> Ask:
        return Ask.of(_values(request), self._desk.options.thresholds)

    def _kept(self, request: Request) -> Kept:
        kept = self._desk.kept(request.path_params["selection"])
        if kept is None:
            raise HTTPException(410, "this selection was let go; ask again")
        return kept


def _values(request: Request) -> dict[str, str]:
    """The query string, each name once."""
    return dict(request.query_params)


def _whole(request: Request, name: str, usual: int) -> int:
    text = request.query_params.get(name, str(usual))
    if not (text.isascii() and text.isdigit() and len(text) < 12):
        raise QueryError(f"{name} {text!r}: is no whole number from 0 on")
    return int(text)


def _content_id(text: str) -> bytes:
    found = id_of(text)
    if found is None:
        raise HTTPException(404, _NO_IMAGE)
    return found


def _static(name: str, request: Request) -> Response:
    """A file of the page. Only what lies in the folder has a name, so that no name leads out of it."""
    if name == "pages.css":
        data = stylesheet().encode()
    else:
        folder = Path(str(files("pfgdata") / "web" / "static"))
        known = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
        if name not in known:
            raise HTTPException(404, "no such file of the page")
        data = known[name].read_bytes()
    tag = f'"{blake3(data).hexdigest(length=8)}"'
    headers = {"cache-control": "no-cache", "etag": tag}
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    kind = _TYPES.get(name.rpartition(".")[2], "application/octet-stream")
    return Response(data, headers={**headers, "content-type": kind})


def _error(status: int, error: str) -> Response:
    return JSONResponse({"error": error, "at": None, "near": []}, status)


async def _of_the_user(request: Request, problem: Exception) -> Response:
    assert isinstance(problem, PfgError)
    typed = request.query_params.get("where") or request.query_params.get("tags")
    return JSONResponse(told(problem, typed), 410 if isinstance(problem, ImageError) else 400)


async def _of_http(request: Request, problem: Exception) -> Response:
    assert isinstance(problem, HTTPException)
    return _error(problem.status_code, problem.detail)


async def _left(request: Request, problem: Exception) -> Response:
    return Response(status_code=499)  # nobody reads it


async def _ours(request: Request, problem: Exception) -> Response:
    line = " ".join(f"{type(problem).__name__}: {problem}".split())
    return _error(500, f"a fault of pfg: {line}; PFG_DEBUG=1 shows where")


_HANDLERS: Mapping[Any, Any] = {
    PfgError: _of_the_user,
    HTTPException: _of_http,
    ClientDisconnect: _left,
    Exception: _ours,
}
