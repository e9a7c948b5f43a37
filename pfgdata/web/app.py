"""The addresses of the browse page: what is asked there, and which of our functions answers.

Each answer is JSON but for pictures and the page's own files. A user's mistake is one line and status 400.
Nothing here blocks the event loop: questions stand in one line, thumbnails have threads of their own.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from pfgdata.errors import ImageError, PfgError, QueryError
from pfgdata.screen import one_line_error
from pfgdata.store import OWN_FEATURE, Store, ThumbnailCache
from pfgdata.web.about import about_store
from pfgdata.web.answer import JSONAnswer
from pfgdata.web.ask import Ask
from pfgdata.web.catalog import Rows, id_of
from pfgdata.web.completion import Completion, Names
from pfgdata.web.desk import Desk, DeskOptions, Kept, Shown
from pfgdata.web.detail import Likeness, detail
from pfgdata.web.facets import Facets
from pfgdata.web.guard import Rules
from pfgdata.web.jobs import Jobs, duplicates_of
from pfgdata.web.page_files import page_routes
from pfgdata.web.pictures import Pictures
from pfgdata.web.questions import Line, waited
from pfgdata.web.saving import asked_in, save, say
from pfgdata.web.trouble import told

__all__ = ["BROWSE_RULES", "browse_app"]

BROWSE_RULES = Rules(body=2**24)  # 430,000 images picked by hand, 39 bytes each
_NO_IMAGE = "no image of this store has that content_id"
_ROWS = 512  # at most, of one request
_FOREVER = "private, max-age=31536000, immutable"


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
        self._jobs = Jobs(desk)
        self._made: _Parts | None = None
        self._works.begin(self._warm)

    def routes(self) -> list[Route]:
        return [
            *page_routes("pfgdata"),
            Route("/api/store", self.store),
            Route("/api/select", self.select),
            Route("/api/count", self.count),
            Route("/api/rows/{selection}", self.rows),
            Route("/api/facets/{selection}", self.facet),
            Route("/api/complete", self.complete),
            Route("/api/image/{content_id}", self.image),
            Route("/api/similar/{content_id}", self.similar),
            Route("/api/copies/{content_id}", self.copies),
            Route("/api/selections", self.save, methods=["POST"]),
            Route("/api/verdicts", self.verdict, methods=["POST"]),
            Route("/api/duplicates", self.find_duplicates, methods=["POST"]),
            Route("/api/duplicates/{job}", self.duplicates),
            Route("/api/duplicates/{job}", self.cancel, methods=["DELETE"]),
            Route("/thumb/{name}", self.thumbnail),
            Route("/picture/{content_id}", self.picture),
        ]

    async def store(self, request: Request) -> Response:
        def work() -> dict[str, Any]:
            self._renew()
            self._parts(self._desk.shown).facets.forget_own()
            return about_store(self._desk)

        return await self._asked(request, work)

    async def select(self, request: Request) -> Response:
        ask, fresh = self._ask(request), bool(request.query_params.get("fresh"))

        def work() -> dict[str, Any]:
            if fresh:  # the page is loaded: it asks this before it asks for the store
                self._renew()
            return self._desk.select(ask)

        return await self._asked(request, work)

    async def count(self, request: Request) -> Response:
        ask = self._ask(request)
        return await self._asked(request, lambda: self._desk.count(ask))

    async def rows(self, request: Request) -> Response:
        kept = self._kept(request)
        start, count = _whole(request, "start", 0), _whole(request, "count", _ROWS)
        if count > _ROWS:
            raise QueryError(f"count {count}: at most {_ROWS} rows at a time")
        return JSONAnswer({"rows": kept.shown.catalog.described(kept.rows[start : start + count])})

    async def facet(self, request: Request) -> Response:
        kept, name = self._kept(request), request.query_params.get("facet", "")
        facets = self._parts(kept.shown).facets
        return JSONAnswer(await self._works.run(request, lambda: facets.answer(name, kept)))

    async def complete(self, request: Request) -> Response:
        query, parts = request.query_params, self._parts(self._desk.shown)
        text, language = query.get("text", ""), query.get("language", "sql")
        at = _whole(request, "at", len(text))
        store = self._desk.store

        def work() -> dict[str, Any]:
            values = parts.facets.values
            names = Names(own=store.columns(), selections=store.selections(), values=values)
            return parts.completion.answer(text, at, language, names)

        return JSONAnswer(await self._works.run(request, work))

    async def image(self, request: Request) -> Response:
        parts, ask = self._parts(self._desk.shown), self._ask(request)

        def work() -> dict[str, Any]:
            rows = _rows(parts.shown, request)
            return detail(parts.shown, parts.facets.own, rows, ask.thresholds)

        return JSONAnswer(await self._works.run(request, work))

    async def similar(self, request: Request) -> Response:
        parts, ask, k = self._parts(self._desk.shown), self._ask(request), _whole(request, "k", 24)
        label = request.query_params.get("features") or OWN_FEATURE

        def work() -> dict[str, Any]:
            return parts.likeness.answer(_rows(parts.shown, request), k, ask, label=label)

        return JSONAnswer(await self._works.run(request, work))

    async def copies(self, request: Request) -> Response:
        shown, ask = self._desk.shown, self._ask(request)

        def work() -> dict[str, Any]:
            return duplicates_of(self._desk, shown, _rows(shown, request), ask)

        return JSONAnswer(await self._works.run(request, work))

    async def save(self, request: Request) -> Response:
        asked = await _object(request)
        return await self._asked(request, lambda: save(self._desk, asked))

    async def verdict(self, request: Request) -> Response:
        asked = await _object(request)
        return JSONAnswer(await self._works.run(request, lambda: say(self._desk, asked)))

    async def find_duplicates(self, request: Request) -> Response:
        asked = await _object(request)
        ask, radius = asked_in(self._desk, asked), asked.get("radius", 8)
        if not isinstance(radius, int) or isinstance(radius, bool):
            raise QueryError(f"radius {radius!r}: is no whole number")
        return JSONAnswer({"job": await self._works.run(request, lambda: self._jobs.begin(ask, radius))})

    async def duplicates(self, request: Request) -> Response:
        return _job(self._jobs.answer(request.path_params["job"]))

    async def cancel(self, request: Request) -> Response:
        return _job(self._jobs.cancel(request.path_params["job"]))

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

        def interrupt() -> None:
            self._desk.shown.session.interrupt()  # the work itself may have renewed it

        return JSONAnswer(await self._questions.run(request, work, interrupt=interrupt))

    def _renew(self) -> None:
        """Show the store as it is now."""
        if self._desk.renew():
            self._works.begin(self._warm)

    def _warm(self) -> None:
        """Load what the first page asks for, before it does."""
        self._parts(self._desk.shown).facets.warm()

    def _parts(self, shown: Shown) -> _Parts:
        if self._made is None or self._made.shown is not shown:
            self._made = _Parts(self._desk, shown)
        return self._made

    def _ask(self, request: Request) -> Ask:
        return Ask.of(dict(request.query_params), self._desk.options.thresholds)

    def _kept(self, request: Request) -> Kept:
        kept = self._desk.kept(request.path_params["selection"])
        if kept is None:
            raise HTTPException(410, "this selection was let go; ask again")
        return kept


class _Parts:
    """What is made of one moment of a store beside its catalog, each when it is first asked for."""

    def __init__(self, desk: Desk, shown: Shown) -> None:
        self.shown = shown
        self.facets = Facets(desk, shown)
        self.likeness = Likeness(desk, shown)
        self._usual = desk.options.thresholds

    @cached_property
    def completion(self) -> Completion:
        """Its counts are those of the thresholds that an ask may leave out."""
        return Completion(self.shown.snapshot.vocabulary, self.facets.tags.totals(self._usual))


async def _object(request: Request) -> dict[str, Any]:
    found = await run_in_threadpool(_json, await request.body())
    if not isinstance(found, dict):
        raise QueryError("the request is no JSON object")
    return found


def _json(body: bytes) -> Any:
    """The value that `body` is as JSON; None where it is none."""
    try:
        found = json.loads(body)
        json.dumps(found, ensure_ascii=False).encode()  # half a surrogate pair is JSON, and no text
    except (ValueError, RecursionError):
        return None
    return found


def _job(answer: dict[str, Any] | None) -> Response:
    if answer is None:
        raise HTTPException(404, "no such search; it was let go, or never begun")
    return JSONAnswer(answer)


def _whole(request: Request, name: str, usual: int) -> int:
    text = request.query_params.get(name, str(usual))
    if not (text.isascii() and text.isdigit() and len(text) < 12):
        raise QueryError(f"{name} {text!r}: is no whole number from 0 on")
    return int(text)


def _rows(shown: Shown, request: Request) -> Rows:
    """The rows of the content_id in the path."""
    rows = shown.catalog.find(_content_id(request.path_params["content_id"]))
    if not len(rows):
        raise HTTPException(404, _NO_IMAGE)
    return rows


def _content_id(text: str) -> bytes:
    found = id_of(text)
    if found is None:
        raise HTTPException(404, _NO_IMAGE)
    return found


def _error(status: int, error: str) -> Response:
    return JSONAnswer({"error": error, "at": None, "near": []}, status)


async def _of_the_user(request: Request, problem: Exception) -> Response:
    assert isinstance(problem, PfgError)
    typed = request.query_params.get("where") or request.query_params.get("tags")
    return JSONAnswer(told(problem, typed), 410 if isinstance(problem, ImageError) else 400)


async def _of_the_disk(request: Request, problem: Exception) -> Response:
    return _error(400, one_line_error(problem).removeprefix("error: "))


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
    OSError: _of_the_disk,
    HTTPException: _of_http,
    ClientDisconnect: _left,
    Exception: _ours,
}
