"""What one writes without a library: PyJWT on each request, and a dict of the tokens that are active."""

import secrets
import time

import jwt

from ..asking import Subject

SECRET = secrets.token_urlsafe(48)
ACTIVE = {}


def token_of(subject, secret=SECRET, *, active=True, age=0):
    now = int(time.time()) - age
    claims = {"sub": subject, "iat": now, "exp": now + 1800, "jti": secrets.token_urlsafe(16), "scope": "read write"}
    token = jwt.encode(claims, secret, "HS256")
    if active:
        ACTIVE[token] = subject
    return token


def subject_of(token):
    """Whose an active token is. Raises PyJWT's errors, KeyError."""
    jwt.decode(token, SECRET, algorithms=["HS256"])
    return ACTIVE[token]


def starlette_app(middleware=()):
    from starlette.applications import Starlette
    from starlette.responses import JSONResponse
    from starlette.routing import Route

    async def me(_request):
        return JSONResponse({"sub": "user-1"})

    return Starlette(routes=[Route("/me", me)], middleware=list(middleware))


def pure():
    from starlette.middleware import Middleware
    from starlette.responses import JSONResponse

    class Guarded:
        def __init__(self, app):
            self.app = app

        async def __call__(self, scope, receive, send):
            try:
                value = dict(scope["headers"])[b"authorization"].decode()
                scope["user"] = subject_of(value.removeprefix("Bearer "))
            except (jwt.InvalidTokenError, KeyError):
                await JSONResponse({"detail": "unauthorized"}, 401)(scope, receive, send)
                return
            await self.app(scope, receive, send)

    return starlette_app([Middleware(Guarded)])


def base():
    from starlette.middleware import Middleware
    from starlette.middleware.base import BaseHTTPMiddleware
    from starlette.responses import JSONResponse

    class Guarded(BaseHTTPMiddleware):
        async def dispatch(self, request, call_next):
            try:
                request.state.user = subject_of(request.headers["authorization"].removeprefix("Bearer "))
            except (jwt.InvalidTokenError, KeyError):
                return JSONResponse({"detail": "unauthorized"}, 401)
            return await call_next(request)

    return starlette_app([Middleware(Guarded)])


def backend():
    from starlette.authentication import AuthCredentials, AuthenticationBackend, AuthenticationError, SimpleUser
    from starlette.middleware import Middleware
    from starlette.middleware.authentication import AuthenticationMiddleware
    from starlette.responses import JSONResponse

    class Backend(AuthenticationBackend):
        async def authenticate(self, connection):
            value = connection.headers.get("authorization", "")
            try:
                claims = jwt.decode(value.removeprefix("Bearer "), SECRET, algorithms=["HS256"])
            except jwt.InvalidTokenError as error:
                raise AuthenticationError("unauthorized") from error
            return AuthCredentials(["authenticated", *claims["scope"].split()]), SimpleUser(claims["sub"])

    def refuse(_connection, _error):
        return JSONResponse({"detail": "unauthorized"}, 401)

    return starlette_app([Middleware(AuthenticationMiddleware, backend=Backend(), on_error=refuse)])


def flask_app(*, guarded):
    from flask import Flask, abort, g, request

    app = Flask(__name__)

    @app.get("/me")
    def me():
        return {"sub": "user-1"}

    if guarded:

        @app.before_request
        def authenticate():
            try:
                g.user = subject_of(request.headers["Authorization"].removeprefix("Bearer "))
            except (jwt.InvalidTokenError, KeyError):
                abort(401)

    return app.wsgi_app


def make(variant, _redis_url):
    bad = {"forged": token_of("user-1", "s" * 48), "expired": token_of("user-1", age=3600)}
    if variant != "backend":
        bad["not active"] = token_of("user-1", active=False)
    good = token_of("user-1")
    if variant == "flask":
        return Subject("wsgi", flask_app(guarded=False), flask_app(guarded=True), good, bad)
    return Subject("asgi", starlette_app(), {"pure": pure, "base": base, "backend": backend}[variant](), good, bad)
