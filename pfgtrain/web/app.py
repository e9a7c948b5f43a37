"""The page's server: requests to the desk and its answers. What may ask at all, the guard of pfgdata decides.

No path that a browser sends is opened: files are looked up by name among those that travel with pfg, that
this session made, or that a question of its store found. What decodes or asks runs beside the event loop.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from pfgdata.errors import ConfigError, PfgError
from pfgdata.web import JSONAnswer, Rules, page_routes
from pfgtrain.web.asked import text_of
from pfgtrain.web.bounds import Bounds
from pfgtrain.web.desk import Desk, samples
from pfgtrain.web.stored import StoredGuides

__all__ = ["RULES", "drawing_app"]

RULES = Rules(body=Bounds().upload, types=("application/json", "application/octet-stream"))
_KEPT = {"cache-control": "private, max-age=31536000, immutable"}  # of bytes that their address stands for
_JSON_BYTES = 2**20

Answer = Callable[[Request], Awaitable[Response]]


def drawing_app(desk: Desk, store: StoredGuides | None = None) -> Starlette:
    """The page of `desk`, and of a store to pick guides from."""
    routes = [
        *page_routes("pfgtrain"),
        Route("/api/about", _about(desk, store)),
        Route("/api/state", _state(desk)),
        Route("/api/guides", _upload(desk), methods=["POST"]),
        Route("/api/guides/{id}", _drop_guide(desk), methods=["DELETE"]),
        Route("/guides/{id}.jpg", _guide(desk)),
        Route("/api/samples", _take_sample(desk), methods=["POST"]),
        Route("/api/drawings", _draw(desk), methods=["POST"]),
        Route("/api/drawings/{id:int}", _remove_drawing(desk), methods=["DELETE"]),
        Route("/api/drawings/{id:int}/cancel", _cancel_drawing(desk), methods=["POST"]),
        Route("/pictures/{name}", _picture(desk)),
    ]
    if store is not None:
        routes += _of_store(desk, store)
    return Starlette(routes=routes, exception_handlers={PfgError: _refused, 404: _missing, 405: _missing})


def _about(desk: Desk, store: StoredGuides | None) -> Answer:
    async def answer(_: Request) -> Response:
        return JSONAnswer({**desk.about(), "store": store.name if store else None})

    return answer


def _state(desk: Desk) -> Answer:
    async def answer(request: Request) -> Response:
        return JSONAnswer(desk.state(request.query_params.get("since")))

    return answer


def _upload(desk: Desk) -> Answer:
    async def answer(request: Request) -> Response:
        if not request.headers.get("content-type", "").startswith("application/octet-stream"):
            raise ConfigError("send the bytes of one image, as application/octet-stream")
        name = request.query_params.get("name", "guide")
        guide = await run_in_threadpool(desk.keep_guide, await request.body(), name)
        return JSONAnswer({"id": guide.id}, status_code=201)

    return answer


def _drop_guide(desk: Desk) -> Answer:
    async def answer(request: Request) -> Response:
        return _gone_or_done(desk.drop_guide(request.path_params["id"]))

    return answer


def _guide(desk: Desk) -> Answer:
    async def answer(request: Request) -> Response:
        guide = desk.shelf.get(request.path_params["id"])
        return _jpeg(None if guide is None else guide.thumbnail)

    return answer


def _take_sample(desk: Desk) -> Answer:
    async def answer(request: Request) -> Response:
        name = text_of((await _object(request)).get("name"), "name", most=200)
        if (read := samples().get(name)) is None:
            raise ConfigError(f"no guide to try is called {name}")
        guide = await run_in_threadpool(desk.keep_guide, read(), name)
        return JSONAnswer({"id": guide.id}, status_code=201)

    return answer


def _draw(desk: Desk) -> Answer:
    async def answer(request: Request) -> Response:
        asked = await _object(request)
        guides = asked.get("guides")
        if not isinstance(guides, list) or not all(isinstance(one, str) for one in guides):
            raise ConfigError("guides: must be a list of ids")
        ids = await run_in_threadpool(desk.draw, guides, asked.get("settings", {}))
        return JSONAnswer({"drawings": ids}, status_code=201)

    return answer


def _remove_drawing(desk: Desk) -> Answer:
    async def answer(request: Request) -> Response:
        return _gone_or_done(desk.drawings.remove(request.path_params["id"]))

    return answer


def _cancel_drawing(desk: Desk) -> Answer:
    async def answer(request: Request) -> Response:
        return _gone_or_done(desk.drawings.cancel(request.path_params["id"]))

    return answer


def _picture(desk: Desk) -> Answer:
    async def answer(request: Request) -> Response:
        path = desk.drawings.file(request.path_params["name"])
        if path is None or not path.is_file():
            return _missing(request, None)
        return FileResponse(path, media_type="image/png", headers=_KEPT)

    return answer


def _of_store(desk: Desk, store: StoredGuides) -> list[Route]:
    async def search(request: Request) -> Response:
        asked = request.query_params
        start = asked.get("start", "0")
        found = await run_in_threadpool(
            store.search,
            tags=asked.get("tags", "").strip(),
            where=asked.get("where", "").strip(),
            start=int(start) if start.isdecimal() and len(start) < 10 else 0,
        )
        return JSONAnswer(found)

    async def small(request: Request) -> Response:
        return _jpeg(await run_in_threadpool(store.thumbnail, request.path_params["id"]))

    async def take(request: Request) -> Response:
        image = text_of((await _object(request)).get("id"), "id", most=40)
        found = await run_in_threadpool(store.take, image)
        if found is None:
            raise ConfigError("that image is not of a search here; search again")
        guide = await run_in_threadpool(desk.keep_guide, found[1], found[0])
        return JSONAnswer({"id": guide.id}, status_code=201)

    return [
        Route("/api/store", search),
        Route("/thumb/{id}.jpg", small),
        Route("/api/store/guides", take, methods=["POST"]),
    ]


async def _object(request: Request) -> Mapping[str, Any]:
    """The JSON object that a request brings. Raises ConfigError for what is none."""
    if not request.headers.get("content-type", "").startswith("application/json"):
        raise ConfigError("send JSON, as application/json")
    data = await request.body()
    if len(data) > _JSON_BYTES:
        raise ConfigError("that is too much JSON")
    try:
        found = json.loads(data)
        json.dumps(found, ensure_ascii=False).encode()  # half a surrogate pair is JSON, and no text
    except (ValueError, RecursionError):
        raise ConfigError("that is no JSON") from None
    if not isinstance(found, dict):
        raise ConfigError("send a JSON object")
    return found


def _jpeg(data: bytes | None) -> Response:
    if data is None:
        return JSONAnswer({"error": "there is no such image"}, status_code=404)
    return Response(data, media_type="image/jpeg", headers=_KEPT)


def _gone_or_done(found: bool) -> Response:
    return JSONAnswer({} if found else {"error": "it is no longer here"}, status_code=200 if found else 404)


def _refused(_: Request, problem: Exception) -> Response:
    return JSONAnswer({"error": str(problem)}, status_code=400)


def _missing(_: Request, problem: Exception | None) -> Response:
    status = getattr(problem, "status_code", 404)
    return JSONAnswer({"error": "there is nothing here"}, status_code=status)
