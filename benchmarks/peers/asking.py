"""How an app is asked, in process, without a server. Only the standard library: it runs in every peer's environment."""

from __future__ import annotations

import asyncio
import inspect
import random
import time
from collections.abc import Awaitable, Callable
from io import BytesIO
from statistics import median
from typing import Any, Final, NamedTuple

__all__ = ["PATH", "SLICES", "Asker", "Subject", "built", "check", "sample"]

PATH: Final = "/me"
SLICES: Final = 9
HOST: Final = "shop.example"
BROWSERS: Final = {
    "host": HOST,
    "user-agent": "Mozilla/5.0 (X11; Linux x86_64; rv:150.0) Gecko/20100101 Firefox/150.0",
    "accept": "application/json",
    "accept-language": "en-GB,en;q=0.5",
    "accept-encoding": "gzip, deflate, br, zstd",
    "referer": f"https://{HOST}/",
    "dnt": "1",
    "connection": "keep-alive",
    "sec-fetch-dest": "empty",
    "sec-fetch-mode": "cors",
    "sec-fetch-site": "same-origin",
}
"""What a browser sends; with Authorization, the last of them, these are twelve."""

WSGIApp = Callable[[dict[str, Any], Any], Any]
ASGIApp = Callable[[Any, Any, Any], Awaitable[None]]


class Subject(NamedTuple):
    """An app without and with its guard. `kind`: "asgi" or "wsgi". `bad`: tokens that it must refuse, by why.
    `warm`: waits until it is as it will be from then on."""

    kind: str
    bare: Any
    guarded: Any
    good: str
    bad: dict[str, str]
    warm: Callable[[], Awaitable[None]] | None = None


class Asker:
    """Asks one app with one token."""

    def __init__(self, kind: str, app: Any, token: str) -> None:
        self.kind = kind
        self.app = app
        self.status = 0
        self.body = b""
        self._headers = [(name.encode(), value.encode()) for name, value in BROWSERS.items()]
        self._environ: dict[str, Any] = {f"HTTP_{_upper(name)}": value for name, value in BROWSERS.items()}
        if token:
            self._headers.append((b"authorization", b"Bearer " + token.encode()))
            self._environ["HTTP_AUTHORIZATION"] = f"Bearer {token}"
        self._fixed = {
            "REQUEST_METHOD": "GET", "SCRIPT_NAME": "", "PATH_INFO": PATH, "QUERY_STRING": "",
            "SERVER_PROTOCOL": "HTTP/1.1", "SERVER_NAME": HOST, "SERVER_PORT": "80", "REMOTE_ADDR": "192.0.2.1",
            "wsgi.version": (1, 0), "wsgi.url_scheme": "http", "wsgi.run_once": False, "wsgi.multithread": True,
            "wsgi.multiprocess": True,
        }  # fmt: skip

    async def ask(self, count: int) -> None:
        """Ask so many times; `status` and `body` are those of the last answer."""
        if self.kind == "asgi":
            await self._ask_asgi(count)
        else:
            self.ask_wsgi(count)

    async def _ask_asgi(self, count: int) -> None:
        app, headers = self.app, self._headers
        for _ in range(count):
            scope = {
                "type": "http", "asgi": {"version": "3.0", "spec_version": "2.4"}, "http_version": "1.1", "method": "GET",
                "scheme": "http", "path": PATH, "raw_path": PATH.encode(), "query_string": b"", "root_path": "",
                "headers": headers.copy(), "client": ("192.0.2.1", 4711), "server": (HOST, 80), "state": {},
            }  # fmt: skip
            await app(scope, _receive, self._send)

    async def _send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.body = b""
        elif body := message.get("body"):
            self.body = self.body + body if self.body else body

    def ask_wsgi(self, count: int) -> None:
        app, headers, fixed = self.app, self._environ, self._fixed
        for _ in range(count):
            environ = {**headers, **fixed, "wsgi.input": BytesIO(), "wsgi.errors": None}
            answer = app(environ, self._start_response)
            self.body = b"".join(answer)
            close = getattr(answer, "close", None)
            if close is not None:
                close()

    def _start_response(self, status: str, _headers: Any, _exc_info: Any = None) -> Callable[[bytes], None]:
        self.status = int(status[:3])
        return lambda _data: None


def _upper(name: str) -> str:
    return name.upper().replace("-", "_")


async def _receive() -> Any:
    return {"type": "http.request", "body": b"", "more_body": False}


async def built(module: str, variant: str, redis_url: str) -> Subject:
    """The subject of a module of `apps`, on the running loop, checked."""
    import importlib

    make = importlib.import_module(f"benchmarks.peers.apps.{module}").make
    made = make(variant, redis_url)
    subject: Subject = await made if inspect.isawaitable(made) else made
    await check(subject)
    return subject


async def check(subject: Subject) -> None:
    """That it answers a good token as the bare app does, and refuses bad ones. Raises AssertionError."""
    bare = Asker(subject.kind, subject.bare, "")
    await bare.ask(1)
    assert bare.status == 200, f"the bare app answers {bare.status}"
    for why, token in {"none": "", "garbage": "x" * 300, **subject.bad}.items():
        asker = Asker(subject.kind, subject.guarded, token)
        await asker.ask(1)
        assert asker.status in (401, 403, 422), f"{why}: answered {asker.status} {asker.body[:80]!r}"
    good = Asker(subject.kind, subject.guarded, subject.good)
    for _ in range(2):
        await good.ask(1)
        assert good.status == 200, f"a good token is answered {good.status} {good.body[:80]!r}"
    assert good.body == bare.body, f"the bare app answers {bare.body[:80]!r}, the guarded one {good.body[:80]!r}"
    await asyncio.sleep(0)


async def sample(bare: Asker, guarded: Asker, counts: tuple[int, int]) -> tuple[float, float]:
    """Microseconds a request, of the bare app and the guarded one: medians of slices that take turns, in either order.

    A slice is short, so that what the machine does meanwhile falls on few of them.
    """
    taken: tuple[list[float], list[float]] = ([], [])
    for _ in range(SLICES):
        for which in random.sample((0, 1), 2):
            asker = (bare, guarded)[which]
            began = time.perf_counter()
            await asker.ask(counts[which])
            taken[which].append((time.perf_counter() - began) / counts[which] * 1e6)
            assert asker.status == 200, f"a good token is answered {asker.status}"
    return median(taken[0]), median(taken[1])
