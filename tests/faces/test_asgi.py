"""What only ASGI has: WebSockets, lifespan, tasks that are cancelled, Starlette's `request.user`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

import pytest
from drivers import CLIENT, Request, call_asgi, scope_of, send_asgi
from starlette.authentication import requires
from starlette.requests import Request as StarletteRequest
from starlette.responses import PlainTextResponse
from starlette.routing import Route, Router
from world import World

from jwtguard.asgi import JWTGuardMiddleware
from jwtguard.context import current_device, current_identity
from jwtguard.errors import ConfigError, LimitReached, ScopeMissing, TokenMissing

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
PLAIN = 'Bearer realm="jwtguard"'


def handshake(
    path: str = "/ws", *headers: tuple[bytes, bytes], protocols: tuple[str, ...] = (), denial: bool = False
) -> Message:
    offered = [(b"sec-websocket-protocol", ", ".join(protocols).encode("latin-1", "replace"))] if protocols else []
    return {
        "type": "websocket",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [*headers, *offered],
        "subprotocols": list(protocols),
        "client": CLIENT,
        "extensions": {"websocket.http.response": {}} if denial else {},
    }


class Socket:
    """An app that accepts a WebSocket, and what it was called with."""

    def __init__(self, accept: Message | None = None) -> None:
        self.accept = {"type": "websocket.accept", **(accept or {})}
        self.scopes: list[Message] = []

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        self.scopes.append(scope)
        await send(self.accept)


def open_socket(world: World, scope: Message, app: Any = None) -> list[Message]:
    """The messages that a server is given for a handshake."""
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    async def send(message: Message) -> None:
        sent.append(message)

    asyncio.run(world.async_guard().wrap(app or Socket())(scope, receive, send))
    return sent


def authorization(token: str) -> tuple[bytes, bytes]:
    return (b"authorization", f"Bearer {token}".encode())


CLOSED = [{"type": "websocket.close", "code": 1008, "reason": ""}]

REFUSED: Mapping[str, tuple[tuple[str, ...], tuple[str, ...], int, str]] = {
    "nobody": ((), (), 401, "token_missing"),
    "expired": (("<expired>",), (), 401, "token_expired"),
    "revoked": (("<revoked>",), (), 401, "session_revoked"),
    "refresh token": (("<refresh>",), (), 401, "token_invalid"),
    "expired, in the pair": ((), ("jwtguard.bearer", "<expired>"), 401, "token_expired"),
    "nothing after the name": ((), ("jwtguard.bearer",), 401, "token_missing"),
    "token before the name": ((), ("<good>", "jwtguard.bearer"), 401, "token_missing"),
    "something between": ((), ("jwtguard.bearer", "chat", "<good>"), 401, "token_invalid"),
    "another case": ((), ("JWTGuard.Bearer", "<good>"), 401, "token_missing"),
    "beyond latin-1": ((), ("jwtguard.bearer", "\u96ea"), 401, "token_invalid"),
    "C32 header and pair": (("<good>",), ("jwtguard.bearer", "<good>"), 400, "request_invalid"),
    "C32 two pairs": ((), ("jwtguard.bearer", "<good>", "jwtguard.bearer", "<good>"), 400, "request_invalid"),
    "C32 two headers": (("<good>", "<good>"), (), 400, "request_invalid"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_c68_a_websocket_is_refused_before_it_is_accepted(name: str) -> None:
    tokens, protocols, status, code = REFUSED[name]
    world = World()
    headers = [authorization(world.filled(token)) for token in tokens]
    app = Socket()
    for denial in (False, True):
        scope = handshake("/ws", *headers, protocols=tuple(map(world.filled, protocols)), denial=denial)
        sent = open_socket(world, scope, app)
        if not denial:
            assert sent == CLOSED
            continue
        start, body = sent
        assert (start["type"], start["status"]) == ("websocket.http.response.start", status)
        assert body["type"] == "websocket.http.response.body"
        assert json.loads(body["body"])["code"] == code
        found = dict(start["headers"])
        assert found[b"www-authenticate"].startswith(PLAIN.encode())
        assert found[b"cache-control"] == b"no-store"
    assert app.scopes == []


def test_a_websocket_needs_scopes_as_get_does() -> None:
    world = World({"rules": "GET /ws: admin"})
    scope = handshake("/ws", authorization(world.made("good")))
    assert open_socket(world, {**scope, "method": "CONNECT"}) == CLOSED
    assert open_socket(world, handshake("/ws", authorization(world.made("bob")))) == [{"type": "websocket.accept"}]


def test_scope_rules_hold_on_the_warm_path_of_a_websocket() -> None:
    world = World({"rules": "GET /ws: admin"})
    guard, app, sent = world.async_guard(), Socket(), []

    async def send(message: Message) -> None:
        sent.append(message)

    async def twice() -> None:
        for path in ("/elsewhere", "/ws"):
            await guard.wrap(app)(handshake(path, authorization(world.made("good"))), None, send)  # type: ignore[arg-type]

    asyncio.run(twice())
    assert sent == [{"type": "websocket.accept"}, *CLOSED]


def test_a_websocket_is_never_let_in_by_what_is_stale() -> None:
    world = World({"stale_if_down": 60, "cache_ttl": 1})
    guard, sent = world.async_guard(), []
    token = world.made("good")

    async def send(message: Message) -> None:
        sent.append(message)

    async def play() -> None:
        await guard.authenticate(token)
        world.clock.advance(2)
        world.store.down = True
        await guard.wrap(Socket())(handshake("/ws", authorization(token)), None, send)  # type: ignore[arg-type]

    asyncio.run(play())
    assert sent == CLOSED
    reply = asyncio.run(call_asgi(guard.wrap(_plain), scope_of(Request(headers=(("Authorization", f"Bearer {token}"),)))))
    assert reply.status == 200


async def _plain(scope: Any, receive: Any, send: Any) -> None:
    await PlainTextResponse("ok")(scope, receive, send)


@pytest.mark.parametrize(
    ("protocols", "left", "accept", "selected"),
    [
        (("jwtguard.bearer", "<good>"), [], {}, "jwtguard.bearer"),
        (("chat", "jwtguard.bearer", "<good>"), ["chat"], {}, "jwtguard.bearer"),
        (("jwtguard.bearer", "<good>", "chat", "v2"), ["chat", "v2"], {"subprotocol": "chat"}, "chat"),
        (("jwtguard.bearer", "<good>"), [], {"subprotocol": None}, "jwtguard.bearer"),
        (("jwtguard.bearer", "<good>", "a\u96ea"), ["a\u96ea"], {}, "jwtguard.bearer"),
    ],
)
def test_the_subprotocol_pair(protocols: tuple[str, ...], left: list[str], accept: Message, selected: str) -> None:
    world = World()
    app = Socket(accept)
    scope = handshake("/ws", (b"x-other", b"1"))
    scope["subprotocols"] = list(map(world.filled, protocols))
    scope["headers"].append((b"sec-websocket-protocol", b"as the client wrote it: " + world.made("good").encode()))
    (message,) = open_socket(world, scope, app)
    assert message == {"type": "websocket.accept", "subprotocol": selected}
    (seen,) = app.scopes
    assert seen["user"].subject == "alice"
    assert seen["subprotocols"] == left
    assert world.made("good") not in repr(seen["headers"])
    assert seen["headers"][0] == (b"x-other", b"1")
    told = [value.decode("latin-1") for name, value in seen["headers"] if name == b"sec-websocket-protocol"]
    assert told == ([", ".join(left).encode("latin-1", "replace").decode("latin-1")] if left else [])


def test_the_pair_on_a_public_path_is_taken_away_too() -> None:
    world, app = World({"public": "/ws"}), Socket()
    (message,) = open_socket(world, handshake("/ws", protocols=("jwtguard.bearer", world.made("expired"))), app)
    assert message["subprotocol"] == "jwtguard.bearer"
    assert not app.scopes[0]["user"].is_authenticated
    assert app.scopes[0]["subprotocols"] == []


def test_without_the_pair_nothing_is_selected() -> None:
    world = World()
    (message,) = open_socket(world, handshake("/ws", authorization(world.made("good")), protocols=("chat",)))
    assert message == {"type": "websocket.accept"}


def test_c38_forged_names_on_a_websocket() -> None:
    world, app = World({"public": "/ws"}), Socket()
    open_socket(world, handshake("/ws", (b"remote_user", b"mallory"), (b"JWTguard.identity", b"x"), (b"host", b"h")), app)
    assert app.scopes[0]["headers"] == [(b"host", b"h")]


@pytest.mark.parametrize("denial", [False, True])
def test_an_error_before_the_app_accepts_is_a_refusal(denial: bool) -> None:
    async def app(scope: Message, receive: Receive, send: Send) -> None:
        raise ScopeMissing(["chat"])

    world = World()
    sent = open_socket(world, handshake("/ws", authorization(world.made("good")), denial=denial), app)
    assert [message.get("status", message.get("code")) for message in sent] == ([403, None] if denial else [1008])


@pytest.mark.parametrize("first", ["websocket.accept", "websocket.close", "websocket.http.response.start"])
def test_an_error_after_the_app_has_answered_is_let_out(first: str) -> None:
    async def app(scope: Message, receive: Receive, send: Send) -> None:
        await send({"type": first})
        raise TokenMissing

    world = World()
    with pytest.raises(TokenMissing):
        open_socket(world, handshake("/ws", authorization(world.made("good"))), app)


def test_an_error_after_a_response_began_is_let_out() -> None:
    async def app(scope: Message, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise LimitReached

    world = World({"public": "/me"})
    with pytest.raises(LimitReached):
        asyncio.run(call_asgi(world.async_guard().wrap(app), scope_of(Request())))


def test_what_comes_before_a_response_does_not_begin_it() -> None:
    async def app(scope: Message, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.debug", "info": {}})
        raise LimitReached

    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    world = World({"public": "/me"})
    asyncio.run(world.async_guard().wrap(app)(scope_of(Request()), None, send))  # type: ignore[arg-type]
    assert [message.get("status") for message in sent] == [None, 409, None]


def test_c36_no_store_replaces_what_the_app_says_and_only_there() -> None:
    world = World()
    guard = world.async_guard()

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.debug", "info": {}})
        if scope["path"] == "/login":
            await guard.login("alice")
        headers = [(b"Cache-Control", b"public"), (b"x-y", b"1"), (b"cache-control", b"max-age=60")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})

    def headers_of(path: str) -> list[tuple[bytes, bytes]]:
        sent: list[Message] = []

        async def send(message: Message) -> None:
            sent.append(message)

        asyncio.run(guard.wrap(app)(scope_of(Request(target=path)), None, send))  # type: ignore[arg-type]
        headers: list[tuple[bytes, bytes]] = sent[1]["headers"]
        return headers

    assert headers_of("/login") == [(b"x-y", b"1"), (b"cache-control", b"no-store")]
    assert len(headers_of("/")) == 3


def test_a_config_error_is_no_answer() -> None:
    async def app(scope: Message, receive: Receive, send: Send) -> None:
        raise ConfigError("what the developer should mend")

    with pytest.raises(ConfigError, match="mend"):
        asyncio.run(call_asgi(World({"public": "/me"}).async_guard().wrap(app), scope_of(Request())))


def test_lifespan_passes_through_as_it_is() -> None:
    calls: list[tuple[Any, ...]] = []

    async def app(*arguments: Any) -> None:
        calls.append(arguments)

    async def receive() -> Message:
        raise AssertionError

    async def send(message: Message) -> None:
        raise AssertionError

    scope = {"type": "lifespan", "state": {}}
    asyncio.run(World().async_guard().wrap(app)(scope, receive, send))
    assert calls == [(scope, receive, send)]
    assert scope == {"type": "lifespan", "state": {}}


@pytest.mark.parametrize("kind", ["webtransport", "mqtt", "HTTP", ""])
def test_a_scope_of_an_unknown_kind_is_refused(kind: str) -> None:
    async def app(*arguments: Any) -> None:
        raise AssertionError

    with pytest.raises(RuntimeError, match="can't guard"):
        asyncio.run(World({"public": "/"}).async_guard().wrap(app)({"type": kind}, app, app))  # type: ignore[arg-type]


def test_starlettes_user_and_requires() -> None:
    """The guard around a bare Starlette router: nothing of Starlette's authentication is needed."""
    world = World({"public": "/*", "rules": ""})

    @requires("authenticated")
    async def me(request: StarletteRequest) -> PlainTextResponse:
        return PlainTextResponse(f"{request.user.display_name} {request.user.identity} {request.auth.scopes}")

    @requires(["authenticated", "admin"], status_code=418)
    async def admin(request: StarletteRequest) -> PlainTextResponse:
        return PlainTextResponse(request.user.subject)

    async def home(request: StarletteRequest) -> PlainTextResponse:
        return PlainTextResponse(f"{request.user.is_authenticated} {request.auth.scopes}")

    router = Router([Route("/me", me), Route("/admin", admin), Route("/home", home)])
    guard = world.async_guard()

    async def statuses(token: str | None) -> list[tuple[int, bytes]]:
        from starlette.middleware.exceptions import ExceptionMiddleware

        app = ExceptionMiddleware(guard.wrap(router))
        headers = (("Authorization", f"Bearer {token}"),) if token else ()
        replies = [
            await call_asgi(app, scope_of(Request(target=f"/{path}", headers=headers))) for path in ("me", "admin", "home")
        ]
        return [(reply.status, reply.body) for reply in replies]

    (me_status, _), (admin_status, _), found = asyncio.run(statuses(None))
    assert (me_status, admin_status) == (403, 418)
    assert found == (200, b"False []")
    first, (admin_status, _), _ = asyncio.run(statuses(world.made("good")))
    assert first == (200, b"alice alice ['authenticated']")
    assert admin_status == 418
    assert asyncio.run(statuses(world.made("bob")))[1] == (200, b"bob")


def test_a_cancelled_client_leaves_the_context_clean_and_the_guard_whole() -> None:
    world = World()
    token = world.made("good")
    guard = world.async_guard()
    begun = asyncio.Event()

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        begun.set()
        await asyncio.Event().wait()

    async def play() -> int:
        scope = scope_of(Request(headers=(("Authorization", f"Bearer {token}"),)))
        task = asyncio.ensure_future(guard.wrap(app)(scope, None, None))  # type: ignore[arg-type]
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not current_identity().is_authenticated
        return (await call_asgi(guard.wrap(_plain), scope)).status

    assert asyncio.run(play()) == 200


def test_a_client_that_goes_away_during_logout_is_logged_out_all_the_same() -> None:
    """What an endpoint began to write is written to the end."""
    world = World()
    token = world.made("good")
    guard = world.async_guard()
    app = guard.wrap(_plain)

    async def play() -> None:
        scope = scope_of(Request("POST", "/auth/logout", (("Authorization", f"Bearer {token}"),)))
        task = asyncio.ensure_future(call_asgi(app, scope))
        for _ in range(3):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        while await guard.sessions("alice"):
            await asyncio.sleep(0)

    asyncio.run(play())


def test_the_path_of_an_encoded_slash_is_not_told() -> None:
    """WSGI servers decode it, so only here it can be seen, and it could be routed either way."""
    world = World({"public": "/login/*"})
    for target, raw in (("/login/a%2Fb", True), ("/login/a%2fb", True), ("/login/a/b", False)):
        (reply,) = send_asgi(world, Request(target=target))
        assert reply.status == (401 if raw else 200)
        (reply,) = send_asgi(world, Request(target=target, headers=(("Authorization", f"Bearer {world.made('good')}"),)))
        assert reply.status == (403 if raw else 200)


def test_servers_that_give_less() -> None:
    """`raw_path`, `root_path`, `client`, `extensions` are optional, or None."""
    world = World()
    guard = world.async_guard()
    devices = []

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        devices.append(current_device())
        await _plain(scope, receive, send)

    for given in (
        {},
        {"raw_path": None, "client": None},
        {"client": ("", 0)},
        {"client": (None, None)},
        {"client": ["::1", 5]},
    ):
        scope = {"type": "http", "method": "GET", "path": "/login", "headers": [], **given}
        assert asyncio.run(call_asgi(guard.wrap(app), scope)).status == 200
    assert [device.ip for device in devices] == [None, None, None, None, "::1"]
    scope = {**handshake(), "extensions": None}
    assert open_socket(world, scope) == CLOSED


@pytest.mark.parametrize(
    ("root", "path", "public"),
    [
        ("", "/login", True),
        ("/api", "/api/login", True),
        ("/api", "/login", True),  # so Starlette routes it
        ("/api", "/apilogin", False),
        ("/api", "/api/api/login", False),
        ("/", "/login", True),
        ("/", "//login", False),
        ("/api", "/api", True),
        ("/login", "/login", True),  # the root
        ("/login", "/login/x", False),
        ("/api", "/api//login", False),
    ],
)
def test_the_mount_point_is_taken_off_as_starlette_does(root: str, path: str, public: bool) -> None:
    from starlette._utils import get_route_path

    scope = {**scope_of(Request()), "path": path, "raw_path": path.encode(), "root_path": root}
    reply = asyncio.run(call_asgi(World().async_guard().wrap(_plain), scope))
    assert reply.status == (200 if public else 401)
    if public:
        assert get_route_path(scope) in ("", "/", "/login")


@pytest.mark.parametrize(
    ("root", "path", "raw"),
    [
        ("/api", "/apilogin", "/apilogin"),  # Quart and Litestar route it to /login
        ("/api/", "/api/login", "/api/login"),
        ("/api/", "/api//login", "/api//login"),
        ("api", "/api/login", "/api/login"),
        ("/api", "/x/api/login", "/x/api/login"),  # Litestar takes off all up to the mount point, wherever it is
        ("/api", "/static/api/me", "/static/api/me"),
        ("", "/login", "/mounted/login"),  # somebody has rewritten the path on its way here
        ("", "/login", "/login%2f..%2fme"),
    ],
)
def test_a_path_that_frameworks_would_take_apart_differently_is_not_public(root: str, path: str, raw: str) -> None:
    world = World({"public": "/login, /static/*, /x/*", "rules": "/admin/*: admin"})
    guarded = world.async_guard().wrap(_plain)
    scope = {**scope_of(Request()), "path": path, "raw_path": raw.encode(), "root_path": root}
    assert asyncio.run(call_asgi(guarded, scope)).status == 401


def test_a_path_with_a_query_in_its_raw_form_is_the_same() -> None:
    guarded = World().async_guard().wrap(_plain)
    scope = {**scope_of(Request()), "path": "/login", "raw_path": b"/login?next=%2Fme", "root_path": ""}
    assert asyncio.run(call_asgi(guarded, scope)).status == 200


def test_the_mount_point_that_an_app_sets_for_itself() -> None:
    """FastAPI(root_path="/api") routes /api/admin and /admin alike, whatever the server says."""

    class Rooted:
        root_path = "/api"

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            await _plain(scope, receive, send)

    world = World({"rules": "/admin/*: admin"})
    guarded = world.async_guard().wrap(Rooted())
    headers = [(b"authorization", b"Bearer " + world.login().access_token.encode())]
    for path, status in (("/me", 200), ("/admin/x", 403), ("/api/admin/x", 403), ("/api/me", 403)):
        scope = {**scope_of(Request()), "path": path, "raw_path": path.encode(), "root_path": "", "headers": headers}
        assert asyncio.run(call_asgi(guarded, scope)).status == status, path


def test_an_app_whose_root_path_is_a_folder() -> None:
    """As Quart's: it says nothing about where the app is mounted."""

    class InAFolder:
        root_path = "/srv/app"

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            await _plain(scope, receive, send)

    world = World({"rules": "/admin/*: admin"})
    guarded = world.async_guard().wrap(InAFolder())
    headers = [(b"authorization", b"Bearer " + world.login().access_token.encode())]
    for path, status in (("/api/me", 200), ("/api/admin/x", 403)):
        scope = {**scope_of(Request()), "path": path, "raw_path": path.encode(), "root_path": "/api", "headers": headers}
        assert asyncio.run(call_asgi(guarded, scope)).status == status, path


def test_the_middleware_takes_a_guard() -> None:
    """As in any framework's list of middleware: the app, and the guard by its name."""
    middleware = JWTGuardMiddleware(app=_plain, guard=World().async_guard())
    assert asyncio.run(call_asgi(middleware, scope_of(Request()))).status == 401


def test_a_request_that_one_app_declines_is_whole_for_the_next() -> None:
    """Two guarded apps, one after the other: the second replaces the presented session at a login, as one alone does."""
    world = World()
    guard = world.async_guard()
    session = world.login()

    async def declines(scope: Any, receive: Any, send: Any) -> None: ...

    async def logs_in(scope: Any, receive: Any, send: Any) -> None:
        await guard.login("alice")
        await _plain(scope, receive, send)

    async def both(scope: Any, receive: Any, send: Any) -> None:
        await guard.wrap(declines)(scope, receive, send)
        await guard.wrap(logs_in)(scope, receive, send)

    headers = [(b"authorization", b"Bearer " + session.access_token.encode())]
    assert asyncio.run(call_asgi(both, {**scope_of(Request()), "headers": headers})).status == 200
    assert [kept.id for kept in world.past.sessions("alice")] != [session.session_id]
    assert len(world.past.sessions("alice")) == 1
