"""The ASGI application of a gateway.

app = make_application(Gateway(settings, router, keys))
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response
from starlette.routing import Route as HttpRoute
from starlette.routing import Router as HttpRouter
from starlette.types import ASGIApp, Receive, Scope, Send

from tasks.runtime.origin_guard import refusal_of
from tasks.serve.app.body import Disconnected, read_body, read_object
from tasks.serve.app.call import Call
from tasks.serve.app.chat import read_chat
from tasks.serve.app.completions import read_completions
from tasks.serve.app.exchange import Job, answering
from tasks.serve.app.gateway import DRAINING, Gateway
from tasks.serve.app.models import find_model, list_models
from tasks.serve.app.predict import read_predict
from tasks.serve.app.writer import Writer, send_exchange
from tasks.serve.errors import ApiError
from tasks.serve.settings import Role

logger = logging.getLogger(__name__)

OPEN = ("/health", "/ready")
"""Paths without a key and for any host name: probes of a container use its address."""
CLIENT_CLOSED = 499
"""The status of a request in the metrics whose client did not wait for the response."""

Reader = Callable[[Mapping[str, Any], Call], tuple[Job, Writer]]
Handler = Callable[[Call], Awaitable[None]]


def make_application(gateway: Gateway) -> ASGIApp:
    def post(path: str, handler: Handler, role: Role) -> HttpRoute:
        return HttpRoute(path, Endpoint(gateway, path, handler, role), methods=["POST"])

    def get(path: str, handler: Handler, role: Role | None) -> HttpRoute:
        return HttpRoute(path, Endpoint(gateway, path, handler, role), methods=["GET"])

    routes = [
        get("/health", _send_health, None),
        get("/ready", _send_readiness, None),
        get("/metrics", _send_metrics, "admin"),
        get("/v1/models", list_models, "predict"),
        get("/v1/models/{name:path}", find_model, "predict"),
        post("/v1/chat/completions", _answers(read_chat), "predict"),
        post("/v1/completions", _answers(read_completions), "predict"),
        post("/v1/predict", _answers(read_predict), "predict"),
        post("/v1/feedback", _submit_feedback, "feedback"),
    ]
    return _guarded(gateway, HttpRouter(routes, redirect_slashes=False, default=_no_such_route))


class Endpoint:
    """A route: the key, the body, the response or error, and its metrics.

    Args:
        path: as in the metrics.
        role: that the key needs; None: no key.
    """

    def __init__(self, gateway: Gateway, path: str, handler: Handler, role: Role | None) -> None:
        self.gateway, self.path, self.handler, self.role = gateway, path, handler, role

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        call = Call(self.gateway, scope, receive, send)
        began = time.monotonic()
        if self.role is None:
            await self._respond(call)
        else:
            self.gateway.open_requests += 1
            try:
                await self._respond(call)
            finally:
                self.gateway.open_requests -= 1
        metrics = self.gateway.metrics
        metrics.requests.labels(self.path, str(call.status or CLIENT_CLOSED)).inc()
        metrics.seconds.labels(self.path).observe(time.monotonic() - began)

    async def _respond(self, call: Call) -> None:
        try:
            if self.role is not None:
                if self.gateway.is_draining:
                    raise DRAINING
                call.caller = self.gateway.keys.require(call.scope["headers"], self.role)
            await self.handler(call)
        except ApiError as error:
            await call.fail(error)
        except Disconnected:
            pass
        except Exception:
            logger.exception(f"serve: {self.path} failed")
            await call.fail(
                ApiError(500, "internal_error", "The server failed at this request; its log has the reason.")
            )


def _answers(read: Reader) -> Handler:
    """The handler of a route whose requests a version answers."""

    async def respond(call: Call) -> None:
        job, writer = read(read_object(await _body(call)), call)

        async def answer() -> None:
            async with answering(call.gateway, job, call.id) as exchange:
                await send_exchange(call, exchange, writer)

        await call.until_disconnected(answer())

    return respond


async def _submit_feedback(call: Call) -> None:
    feedback = call.gateway.feedback
    if feedback is None:
        raise ApiError(404, "feedback_off", "This server records no requests, so that it takes no feedback.")
    document = read_object(await _body(call))
    await call.send_json(await feedback.submit(document, call.caller, call.header(b"idempotency-key") or ""))


async def _body(call: Call) -> bytes:
    return await read_body(call.receive, call.header(b"content-length"), call.gateway.settings.limits)


async def _send_health(call: Call) -> None:
    await call.send_json({"status": "ok"})


async def _send_readiness(call: Call) -> None:
    """200 while the champion answers, also where there is a problem; else 503."""
    state = call.gateway.router.readiness
    is_ready = state.is_ready and not call.gateway.is_draining
    problems = [*state.problems, *(["the server is shutting down"] if call.gateway.is_draining else [])]
    body = {"status": "ready" if is_ready else "not ready", "version": state.version, "problems": problems}
    await call.send_json(body, 200 if is_ready else 503)


async def _send_metrics(call: Call) -> None:
    await call.send_bytes(call.gateway.metrics.text(), "text/plain; version=0.0.4; charset=utf-8")


def _guarded(gateway: Gateway, app: ASGIApp) -> ASGIApp:
    """Refuses requests from web pages, with another host name or from another origin; `app` responds to the others."""

    async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        refusal = None if scope["path"] in OPEN else refusal_of(scope["headers"], gateway.host_names)
        try:
            if refusal is not None:
                raise ApiError(
                    refusal[0], "host_not_allowed" if refusal[0] == 421 else "origin_not_allowed", refusal[1]
                )
            await app({**scope, "app": app}, receive, send)  # with "app" a route raises its errors
        except HTTPException as error:  # a method that the route lacks
            failure = ApiError(error.status_code, "method_not_allowed", f"{scope['path']}: {error.detail}.")
            await JSONResponse(failure.body, failure.status, error.headers)(scope, receive, send)
        except ApiError as error:
            await JSONResponse(error.body, error.status, dict(error.headers))(scope, receive, send)

    return guarded


async def _no_such_route(scope: Scope, receive: Receive, send: Send) -> None:
    path = HttpRequest(scope).url.path[:200]
    error = ApiError(404, "unknown_url", f"There is no {scope['method']} {path} here. See docs/serving.md.")
    response: Response = JSONResponse(error.body, error.status)
    await response(scope, receive, send)
