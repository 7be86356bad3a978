"""A site for a browser, once for each face, with a clock that `POST /clock` moves on by the life of an access token."""

from __future__ import annotations

from flask import Flask, redirect
from flask import Response as FlaskResponse
from flask.typing import ResponseReturnValue
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from jwtguard import AsyncGuard
from jwtguard.flask import JWTGuard, current_identity
from jwtguard.starlette import install
from jwtguard.stores.memory import MemoryStore
from jwtguard.testing import FakeClock

ACCESS_TTL = 1800
PUBLIC = "/, /login, /clock"
LOGIN = "<!doctype html><title>login</title><form method=post action=/login><button>Log in</button></form>"
HOME = "<!doctype html><title>home</title><p>{}</p><form method=post action=/auth/logout><button>Log out</button></form>"

clock = FakeClock()


async def front(request: Request) -> Response:
    return HTMLResponse(LOGIN)


async def login(request: Request) -> Response:
    await request.app.state.jwtguard.login("alice")
    return RedirectResponse("/home", 303)


async def home(request: Request) -> Response:
    return HTMLResponse(HOME.format(request.user.subject))


async def tick(request: Request) -> Response:
    clock.advance(ACCESS_TTL)
    return Response(status_code=204)


def create_asgi() -> Starlette:
    routes = [
        Route("/", front),
        Route("/login", login, methods=["POST"]),
        Route("/home", home),
        Route("/clock", tick, methods=["POST"]),
    ]
    app = Starlette(routes=routes)
    install(app, AsyncGuard.from_env(public=PUBLIC, access_ttl=ACCESS_TTL, store=MemoryStore(clock), clock=clock))
    return app


def create_wsgi() -> Flask:
    app = Flask(__name__)
    guard = JWTGuard(app, public=PUBLIC, access_ttl=ACCESS_TTL, store=MemoryStore(clock), clock=clock)
    app.add_url_rule("/", "front", lambda: LOGIN)
    app.add_url_rule("/home", "home", lambda: HOME.format(current_identity().subject))

    @app.post("/login")
    def log_in() -> ResponseReturnValue:
        guard.login("alice")
        return redirect("/home", 303)

    @app.post("/clock")
    def advance() -> FlaskResponse:
        clock.advance(ACCESS_TTL)
        return FlaskResponse(status=204)

    return app
