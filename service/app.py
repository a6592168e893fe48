"""The application: every route of the service around one engine.

WebSocket  /v1/stream       service.stream     frame sets in, replies out
WebSocket  /v1/watch, GET / service.watch      the live page
HTTP       /v1/profiles/... service.profile_routes  heads of each wearer, consent, deletion
HTTP       /v1/calibration/... service.calibration_routes  a page calibrates the wearer of a connected headset
HTTP       everything else  service.http_rim   single frame sets, bundle, health, metrics
"""

import gc
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from importlib.metadata import version
from typing import Any, Final

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, Match, WebSocketRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from calibration.profiles import Profiles
from model_export.contract import read_bundle
from model_export.runtime import Runtime
from service import calibration_routes, http_rim, profile_routes
from service.access import AccessMiddleware, refuse
from service.engine import Engine, EngineConfig
from service.errors import ErrorCode, RequestError, WireError
from service.heads import Heads
from service.metrics import Metrics
from service.parts import Parts
from service.settings import Settings, from_environment
from service.standalone import StandaloneExport
from service.stream import Streams
from service.watch import watch_routes
from service.wearers import Wearers

TITLE: Final = "mien"
_DESCRIPTION: Final = (
    "Expression units and gaze from the eye and mouth cameras of a headset. Headsets stream over the WebSocket /v1/stream "
    "(docs/protocol.md, docs/asyncapi.yaml); this document describes HTTP: single frame sets, profiles, bundle, health, metrics."
)

_log = logging.getLogger("mien.app")


def create_app(settings: Settings | None = None) -> FastAPI:
    """The application, its runtime warm; the engine's thread starts and stops with the application's lifespan.

    `settings`: by default from the environment. Raises BundleError when the bundle is refused, SettingsError for a setting.
    """
    settings = from_environment() if settings is None else settings
    bundle = read_bundle(settings.bundle)
    runtime = Runtime(bundle, provider=settings.provider, threads=settings.threads)
    heads = Heads(bundle.head)
    engine = Engine(runtime, heads, EngineConfig(place_faces=settings.place_faces), bundle.resting, bundle.eye_pair)
    wearers = Wearers(None if settings.profiles is None else Profiles(settings.profiles), heads)
    metrics = Metrics(bundle.name, bundle.digest, lambda: runtime.provider, lambda: engine.drops)
    streams = Streams(engine, wearers, settings, metrics, bundle)
    routes: list[BaseRoute] = [WebSocketRoute("/v1/stream", streams, name="stream")]
    if settings.watch:
        routes += watch_routes(engine, bundle.name, bundle.digest, streams.calibration_log)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        wearers.bring_all()
        engine.start()
        # What exists by now lives as long as the process: a collection that never looks at it again is 20 times shorter.
        gc.collect()
        gc.freeze()
        _log.info("ready bundle=%s digest=%s provider=%s", bundle.name, bundle.digest[:16], runtime.provider)
        yield
        engine.stop()

    app = routed_app(routes, lifespan=lifespan)
    standalone = StandaloneExport(settings.bundle, bundle)
    app.state.parts = Parts(settings, bundle, engine, metrics, streams, wearers, runtime, standalone)
    app.add_middleware(HeadMiddleware)
    app.add_middleware(
        AccessMiddleware, answered_hosts=settings.answered_hosts, allowed_origins=settings.allowed_origins
    )
    return app


def routed_app(routes: Sequence[BaseRoute] = (), **options: Any) -> FastAPI:
    """The HTTP routes with their errors and their OpenAPI document, without an engine; `routes` come after them."""
    # FastAPI's own pages of documentation load scripts from elsewhere; /openapi.json is what programs read.
    app = FastAPI(title=TITLE, description=_DESCRIPTION, docs_url=None, redoc_url=None, **options)
    app.version = version("mien-expression-units")
    app.include_router(http_rim.router)
    app.include_router(profile_routes.router)
    app.include_router(calibration_routes.router)
    app.router.routes.extend(routes)
    app.router.default = partial(_nothing_here, app.router.default)
    for error, handler in _HANDLERS.items():
        app.add_exception_handler(error, handler)
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]  # the way FastAPI documents
    return app


async def _nothing_here(default: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """A path without a route. Starlette refuses a WebSocket there with 403 and no reason: the first mistake of a new client."""
    if scope["type"] != "websocket":
        await default(scope, receive, send)
        return
    path, remedy = ascii(scope["path"])[:100], "Connect to /v1/stream."
    await refuse(
        scope, receive, send, RequestError(404, ErrorCode.NOT_FOUND, "a WebSocket of this service", path, remedy)
    )


def _openapi(app: FastAPI) -> dict[str, Any]:
    if app.openapi_schema is None:
        document = get_openapi(
            title=app.title,
            version=app.version,
            description=app.description,
            routes=app.routes,
            openapi_version="3.1.0",
        )
        schemas = document["components"]["schemas"]
        for model in http_rim.BODIES_OF_REQUESTS:
            schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
            schemas.update(schema.pop("$defs", {}))
            schemas[model.__name__] = schema
        document["components"]["schemas"] = dict(sorted(schemas.items()))
        app.openapi_schema = document
    return app.openapi_schema


class HeadMiddleware:
    """Answers HEAD as GET without the body, which Starlette does for its own routes and FastAPI does not."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return

        async def send_without_body(message: Message) -> None:
            if message["type"] == "http.response.body":
                message = {**message, "body": b""}
            await send(message)

        await self._app({**scope, "method": "GET"}, receive, send_without_body)


def _answer(request: Request, error: RequestError, headers: dict[str, str] | None = None) -> Response:
    parts = getattr(request.app.state, "parts", None)
    if isinstance(parts, Parts):
        parts.metrics.error(error.code)
    return JSONResponse({"error": error.as_dict()}, error.status, headers)


async def _request_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestError)
    headers = {"retry-after": "1"} if error.status == 503 else {}
    if error.status == 413:
        headers["connection"] = "close"  # what is left of the body is not read
    return _answer(request, error, headers)


async def _wire_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, WireError)
    status = {ErrorCode.JSON: 400, ErrorCode.TOO_LARGE: 413, ErrorCode.INTERNAL: 500}.get(ErrorCode(error.code), 422)
    code = ErrorCode(error.code)
    return _answer(request, RequestError(status, code, error.expected, error.found, error.remedy))


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    method, path = request.method, ascii(request.url.path)[:100]
    remedy = "See /openapi.json."
    if error.status_code == 405:
        # Starlette names the methods of the first route of this path alone.
        routes = (
            *request.app.routes,
            *http_rim.router.routes,
            *profile_routes.router.routes,
            *calibration_routes.router.routes,
        )
        matching = (route for route in routes if route.matches(request.scope)[0] is not Match.NONE)
        allowed = ", ".join(sorted({name for route in matching for name in getattr(route, "methods", None) or ()}))
        refusal = RequestError(405, ErrorCode.METHOD, f"the method {allowed}", method, remedy)
        return _answer(request, refusal, {"Allow": allowed})
    if error.status_code == 404:
        refusal = RequestError(404, ErrorCode.NOT_FOUND, "a path of this service", path, remedy)
    else:
        refusal = RequestError(error.status_code, ErrorCode.FIELD, "another request", str(error.detail)[:100], remedy)
    return _answer(request, refusal, dict(error.headers or {}))


async def _validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    where, found = ".".join(map(str, first["loc"])), ascii(first.get("input"))[:100]
    return _answer(request, RequestError(422, ErrorCode.FIELD, f"{where}: {first['msg']}", found, "See /openapi.json."))


async def _unexpected_error(request: Request, error: Exception) -> Response:
    # Starlette raises `error` again after this answer, and uvicorn logs it with its traceback.
    del error
    return _answer(
        request,
        RequestError(500, ErrorCode.INTERNAL, "an answer", "an error of the service", "Report it, with its log."),
    )


_HANDLERS: Final = {
    RequestError: _request_error,
    WireError: _wire_error,
    HTTPException: _http_error,
    RequestValidationError: _validation_error,
    Exception: _unexpected_error,
}
