"""Two guarded apps that are measured, and their figures at /metrics, outside of the guard. /me tells the process, too."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any

from flask import Flask, request
from prometheus_client import CollectorRegistry, make_asgi_app, make_wsgi_app
from prometheus_client.multiprocess import MultiProcessCollector
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from jwtguard import AsyncGuard
from jwtguard.flask import JWTGuard
from jwtguard.prometheus import PrometheusObserver
from jwtguard.starlette import install

observer = PrometheusObserver()
WORKER = {"X-Worker": str(os.getpid())}
"""Each of these servers imports its app in the worker."""


def registry() -> CollectorRegistry:
    found = CollectorRegistry()
    MultiProcessCollector(found)  # type: ignore[no-untyped-call]
    return found


async def login(request: Request) -> JSONResponse:
    return JSONResponse((await async_guard.login((await request.json())["username"])).to_dict())


async def me(request: Request) -> JSONResponse:
    return JSONResponse({"sub": request.user.subject}, headers=WORKER)


starlette = Starlette(routes=[Route("/login", login, methods=["POST"]), Route("/me", me)])
async_guard = AsyncGuard.from_env(public="POST /login", rules="/admin: admin", observers=[observer])
install(starlette, async_guard)

flask = Flask(__name__)
guard = JWTGuard(flask, public="POST /login", rules="/admin: admin", observers=[observer])


@flask.post("/login")
def flask_login() -> dict[str, Any]:
    return guard.login(request.get_json()["username"]).to_dict()


@flask.get("/me")
def flask_me() -> tuple[dict[str, Any], dict[str, str]]:
    return {"sub": request.environ["jwtguard.identity"].subject}, WORKER


async def asgi(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "http" and scope["path"] == "/metrics":
        await make_asgi_app(registry())(scope, receive, send)
    else:
        await starlette(scope, receive, send)


def wsgi(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    if environ["PATH_INFO"] == "/metrics":
        answer: Iterable[bytes] = make_wsgi_app(registry())(environ, start_response)
        return answer
    return flask(environ, start_response)
