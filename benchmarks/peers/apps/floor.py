"""The least that any guard can do: find the header, look its token up in a dict, see that it hasn't expired."""

import secrets
import time
from hashlib import sha256

from ..asking import Subject

BODY = b'{"sub":"user-1"}'
PREFIX = 7


async def asgi_app(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": BODY})


def wsgi_app(environ, start_response):
    start_response("200 OK", [("Content-Type", "application/json")])
    return [BODY]


class Known:
    __slots__ = ("expires_at", "subject")

    def __init__(self, subject, expires_at):
        self.subject = subject
        self.expires_at = expires_at


def asgi_by_header(app, table):
    async def guarded(scope, receive, send):
        for name, value in scope["headers"]:
            if name == b"authorization":
                known = table.get(value)
                if known is not None and time.time() < known.expires_at:
                    scope["user"] = known
                    await app(scope, receive, send)
                    return
        await send({"type": "http.response.start", "status": 401, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    return guarded


def asgi_by_digest(app, table):
    async def guarded(scope, receive, send):
        for name, value in scope["headers"]:
            if name == b"authorization":
                known = table.get(sha256(value[PREFIX:]).digest())
                if known is not None and time.time() < known.expires_at:
                    scope["user"] = known
                    await app(scope, receive, send)
                    return
        await send({"type": "http.response.start", "status": 401, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    return guarded


def wsgi_by_header(app, table):
    def guarded(environ, start_response):
        known = table.get(environ.get("HTTP_AUTHORIZATION"))
        if known is not None and time.time() < known.expires_at:
            environ["user"] = known
            return app(environ, start_response)
        start_response("401 Unauthorized", [])
        return [b""]

    return guarded


def wsgi_by_digest(app, table):
    def guarded(environ, start_response):
        value = environ.get("HTTP_AUTHORIZATION")
        if value is not None:
            known = table.get(sha256(value[PREFIX:].encode("latin-1")).digest())
            if known is not None and time.time() < known.expires_at:
                environ["user"] = known
                return app(environ, start_response)
        start_response("401 Unauthorized", [])
        return [b""]

    return guarded


def make(variant, _redis_url):
    kind, key = variant.split()
    good, expired = secrets.token_urlsafe(225), secrets.token_urlsafe(225)
    by_header = key == "header"

    def key_of(token):
        if by_header:
            return f"Bearer {token}" if kind == "wsgi" else f"Bearer {token}".encode()
        return sha256(token.encode()).digest()

    table = {key_of(good): Known("user-1", time.time() + 3600), key_of(expired): Known("user-1", time.time() - 1)}
    if kind == "asgi":
        return Subject(kind, asgi_app, (asgi_by_header if by_header else asgi_by_digest)(asgi_app, table), good,
                       {"expired": expired})  # fmt: skip
    return Subject(kind, wsgi_app, (wsgi_by_header if by_header else wsgi_by_digest)(wsgi_app, table), good,
                   {"expired": expired})  # fmt: skip
