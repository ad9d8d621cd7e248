"""The HTTP door. Importing it needs the extra `serve`."""

from __future__ import annotations

from typing import Any

from pydantic import TypeAdapter

from livedex.errors import LivedexError, MissingExtra
from livedex.model import Retrieval
from livedex.serve import wire
from livedex.serve.guard import Guard
from livedex.serve.wire import Failure, RetrieveRequest, ServedIndex

try:
    from fastapi import FastAPI, Request, Response
    from fastapi.exceptions import RequestValidationError
    from starlette.exceptions import HTTPException
    from starlette.middleware import Middleware
except ModuleNotFoundError as error:
    raise MissingExtra("Serving over HTTP", "serve") from error

_REFUSALS: dict[int | str, dict[str, Any]] = {"default": {"model": wire.Refusal, "description": "Refused"}}
_MESSAGES = {
    404: "There is nothing at this path. See /openapi.json.",
    405: "This path is asked in another way. See /openapi.json.",
}


def create_app(index: ServedIndex, *, version: str = "", host: str = "localhost") -> FastAPI:
    """An ASGI application over an open index, which it neither opens nor closes.

    Refuses requests for other hosts than this machine's loopback and `host`.
    """
    app = FastAPI(
        title="livedex",
        version=version or "0",
        # FastAPI's pages of documentation load scripts from a CDN: offline they stay white, and online they would run
        # somebody else's code on an address that may read the index. The description they show is at /openapi.json.
        docs_url=None,
        redoc_url=None,
        middleware=[Middleware(Guard, host=host)],
        exception_handlers={
            LivedexError: _failed,
            RequestValidationError: _invalid,
            HTTPException: _refused,
        },
    )
    _add_search(app, index)
    _add_state(app, index)
    return app


def _add_search(app: FastAPI, index: ServedIndex) -> None:
    @app.post("/v1/retrieve", response_model=Retrieval, responses=_refusals(422))
    async def retrieve(question: RetrieveRequest) -> Response:
        """The chunks of a view that answer a query best, with what they were read from and how fresh it was."""
        async with wire.in_time():
            return _answer(wire.RETRIEVAL, await index.retrieve(question.view, question.asked()))


def _add_state(app: FastAPI, index: ServedIndex) -> None:
    @app.get("/v1/views", response_model=wire.Views, responses=_REFUSALS)
    async def views() -> Response:
        """What each view holds, what it can be filtered by, and how fresh it is."""
        async with wire.in_time():
            return _answer(wire.VIEWS, wire.Views(await index.describe()))

    @app.get("/healthz", response_model=wire.Health)
    async def healthz() -> Response:
        """The process answers. Asks nothing of the store, so that a restart of that restarts no more than itself."""
        return _answer(wire.HEALTH, wire.Health())

    @app.get("/readyz", response_model=wire.Ready, responses=_refusals(503))
    async def readyz() -> Response:
        """Every view has been built and can be read."""
        async with wire.in_time(wire.READY_SECONDS):
            reasons = await index.unready()
        if reasons:
            said = " ".join(f"{view}: {reason}" for view, reason in reasons.items())
            return _failure(Failure.named(503, said))
        return _answer(wire.READY, wire.Ready(tuple(index.descriptions)))


def _refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return _REFUSALS | dict.fromkeys(statuses, _REFUSALS["default"])


async def _failed(request: Request, error: Exception) -> Response:
    assert isinstance(error, LivedexError)
    return _failure(Failure.of(error))


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if not (media_type.startswith("application/") and media_type.endswith("json")):
        # Also what a form on a foreign page cannot send without asking first.
        return _failure(Failure.named(415, "Send the body as JSON, with Content-Type: application/json."))
    return _failure(Failure.named(422, wire.explain(error.errors(), RetrieveRequest)))


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    message = _MESSAGES.get(error.status_code, str(error.detail))
    return _failure(Failure.named(error.status_code, message), dict(error.headers or {}))


def _answer(shape: TypeAdapter[Any], value: Any) -> Response:
    return Response(shape.dump_json(value), media_type="application/json")


def _failure(failure: Failure, headers: dict[str, str] | None = None) -> Response:
    body = wire.REFUSAL.dump_json(failure.refusal)
    return Response(body, failure.status, {**(headers or {}), **failure.headers}, "application/json")
