"""In a Starlette app: with its test client, its CORS middleware, its exception handlers, its routes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.authentication import requires
from starlette.endpoints import HTTPEndpoint
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route, Router, WebSocketRoute
from starlette.testclient import TestClient, WebSocketDenialResponse
from starlette.websockets import WebSocket, WebSocketDisconnect

from jwtguard import AsyncGuard, AuthError, ConfigError, Guard, JWTGuardError, LimitReached, ScopeMissing, Settings
from jwtguard.context import REQUEST
from jwtguard.errors import StoreError
from jwtguard.starlette import install
from jwtguard.stores.base import Loaded
from jwtguard.stores.memory import MemoryStore
from jwtguard.testing import FakeClock

SECRET = "kK3-8h2mQzLr0bVtY7xPdW5nSfJ1gA9cEuHi"
ORIGIN = "https://app.example"


class Broken(MemoryStore):
    """A store in memory that can be out of reach."""

    down = False

    def load(self, key: bytes) -> Loaded:
        if self.down:
            raise StoreError("out of reach")
        return super().load(key)


def a_guard(**settings: Any) -> AsyncGuard:
    clock = FakeClock()
    hooks = {name: settings.pop(name) for name in ("on_error",) if name in settings}
    terms = {"secret": SECRET, "public": "/, /login", **settings}
    return AsyncGuard(Settings(**terms), store=Broken(clock), clock=clock, **hooks)


async def home(request: Request) -> Response:
    return PlainTextResponse("home")


async def login(request: Request) -> Response:
    guard: AsyncGuard = request.app.state.jwtguard
    user = request.query_params.get("user", "alice")
    return JSONResponse((await guard.login(user, scopes=["admin"] if user == "bob" else [])).to_dict())


@requires("authenticated")
async def me(request: Request) -> Response:
    return JSONResponse({"sub": request.user.subject, "scopes": request.auth.scopes})


async def admin(request: Request) -> Response:
    if "admin" not in request.user.scopes:
        raise ScopeMissing(["admin"])
    return PlainTextResponse("admin")


async def echo(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.send_text(websocket.user.subject)
    await websocket.close()


def an_app(guard: AsyncGuard | None = None, *routes: Any, before: Callable[[Starlette], object] | None = None) -> Starlette:
    app = Starlette(
        routes=[
            Route("/", home),
            Route("/login", login, methods=["POST"]),
            Route("/me", me),
            Route("/admin", admin),
            WebSocketRoute("/ws", echo),
            *routes,
        ]
    )
    if before is not None:
        before(app)
    install(app, guard or a_guard())
    return app


def bearer(client: TestClient, user: str = "alice") -> dict[str, str]:
    return {"Authorization": f"Bearer {client.post(f'/login?user={user}').json()['access_token']}"}


def refusal(client: TestClient, path: str, **arguments: Any) -> WebSocketDenialResponse:
    with pytest.raises(WebSocketDenialResponse) as refused:
        client.websocket_connect(path, **arguments).__enter__()
    return refused.value


def code_of(response: Any) -> str:
    assert response.headers["content-type"] == "application/problem+json"
    return str(response.json()["code"])


# -- requests and answers --------------------------------------------------------------------------------------------------


def test_log_in_call_log_out() -> None:
    client = TestClient(an_app())  # each call in an event loop of its own
    assert client.post("/login").headers.get_list("cache-control") == ["no-store"]
    known = bearer(client)
    assert client.get("/me", headers=known).json() == {"sub": "alice", "scopes": ["authenticated"]}
    done = client.post("/auth/logout", headers=known)
    assert (done.status_code, done.content) == (204, b"")
    refused = client.get("/me", headers=known)
    assert (refused.status_code, code_of(refused)) == (401, "session_revoked")
    assert refused.headers["www-authenticate"] == 'Bearer realm="jwtguard", error="invalid_token"'
    assert refused.headers["cache-control"] == "no-store"
    assert client.get("/").text == "home"
    assert client.get("/unknown").status_code == 401
    assert client.get("/unknown", headers=bearer(client)).status_code == 404


def test_every_endpoint() -> None:
    with TestClient(an_app()) as client:
        pair, other = client.post("/login").json(), client.post("/login").json()
        refreshed = client.post("/auth/refresh", json={"refresh_token": pair["refresh_token"]})
        known = {"Authorization": f"Bearer {refreshed.json()['access_token']}"}
        listed = client.get("/auth/sessions", headers=known).json()
        assert [(session["id"], session["current"]) for session in listed] == [
            (other["session_id"], False),
            (pair["session_id"], True),
        ]
        one = f"/auth/sessions/{other['session_id']}"
        assert [client.delete(one, headers=known).status_code for _ in range(2)] == [204, 404]
        assert client.delete("/auth/sessions", headers=known).status_code == 400
        assert client.delete("/auth/sessions?keep=current", headers=known).status_code == 204
        assert client.delete("/auth/sessions?keep=none", headers=known).status_code == 204
        assert code_of(client.get("/auth/sessions", headers=known)) == "session_revoked"
        assert client.post("/auth/refresh", content=b"[" * 20_000).status_code == 413


def test_c66_only_these_methods_are_endpoints() -> None:
    client = TestClient(an_app())
    known = bearer(client)
    assert client.get("/auth/logout").status_code == 401
    assert client.get("/auth/logout", headers=known).status_code == 405
    assert client.head("/auth/sessions").status_code == 401
    head = client.head("/auth/sessions", headers=known)
    assert (head.status_code, head.content) == (200, b"")
    assert client.get("/me", headers=known).status_code == 200


def test_errors_of_views_are_answers() -> None:
    guard = a_guard(max_sessions=1, on_limit="deny")
    client = TestClient(an_app(guard))
    known = bearer(client)
    client.get("/me", headers=known)
    full = client.post("/login")
    assert (full.status_code, code_of(full), len(full.json()["sessions"])) == (409, "limit_reached", 1)
    missing = client.get("/admin", headers=known)
    assert (missing.status_code, code_of(missing)) == (403, "scope_missing")
    guard.core.registry.ended(None)
    assert isinstance(guard._blocking, Broken)
    guard._blocking.down = True
    down = client.get("/me", headers=known)
    assert (down.status_code, code_of(down), down.headers["retry-after"]) == (503, "store_unavailable", "1")


def test_a_config_error_in_a_view_is_a_500() -> None:
    async def broken(request: Request) -> Response:
        raise ConfigError("what the developer should mend")

    client = TestClient(an_app(None, Route("/broken", broken)), raise_server_exceptions=False)
    response = client.get("/broken", headers=bearer(client))
    assert (response.status_code, response.text) == (500, "Internal Server Error")


def test_on_error() -> None:
    client = TestClient(an_app(a_guard(on_error=lambda error, problem: {"oops": problem["code"]})))
    assert client.get("/me").json() == {"oops": "token_missing"}
    assert client.get("/auth/sessions").json() == {"oops": "token_missing"}


# -- websockets ------------------------------------------------------------------------------------------------------------


def test_websockets() -> None:
    client = TestClient(an_app())
    refused = refusal(client, "/ws")
    assert (refused.status_code, code_of(refused)) == (401, "token_missing")
    known = bearer(client)
    with client.websocket_connect("/ws", headers=known) as socket:
        assert socket.receive_text() == "alice"
    token = known["Authorization"].removeprefix("Bearer ")
    with client.websocket_connect("/ws", subprotocols=["jwtguard.bearer", token]) as socket:
        assert [socket.accepted_subprotocol] == ["jwtguard.bearer"]
        assert socket.receive_text() == "alice"


def test_a_websocket_refused_in_its_view_or_with_a_handler_for_the_status() -> None:
    async def picky(websocket: WebSocket) -> None:
        raise ScopeMissing(["chat"])

    async def own(request: Request, error: Exception) -> Response:
        raise AssertionError("it can't answer a WebSocket")

    client = TestClient(
        an_app(None, WebSocketRoute("/picky", picky), before=lambda app: app.add_exception_handler(403, own))
    )
    with pytest.raises(WebSocketDenialResponse) as refused, client.websocket_connect("/picky", headers=bearer(client)):
        pass
    assert (refused.value.status_code, code_of(refused.value)) == (403, "scope_missing")


def test_a_websocket_refused_by_a_server_that_can_only_close() -> None:
    sent: list[Any] = []
    scope = {"type": "websocket", "path": "/ws", "headers": [], "query_string": b"", "subprotocols": []}

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(an_app()(scope, receive, send))
    assert sent == [{"type": "websocket.close", "code": 1008, "reason": ""}]


@pytest.mark.parametrize("closed", [False, True])
def test_an_error_in_an_open_websocket_closes_it(closed: bool) -> None:
    async def late(websocket: WebSocket) -> None:
        await websocket.accept()
        if closed:
            await websocket.close(4000)
        raise LimitReached

    client = TestClient(an_app(None, WebSocketRoute("/late", late)))
    with client.websocket_connect("/late", headers=bearer(client)) as socket:
        assert socket.receive() == {"type": "websocket.close", "code": 4000 if closed else 1008, "reason": ""}


# -- CORS, middleware and handlers -----------------------------------------------------------------------------------------


def add_cors(app: Starlette) -> None:
    app.add_middleware(CORSMiddleware, allow_origins=[ORIGIN], allow_methods=["*"], allow_headers=["*"])


CORSOrder = pytest.mark.parametrize("cors_first", [True, False], ids=["CORS first", "CORS last"])


def with_cors(cors_first: bool, guard: AsyncGuard) -> TestClient:
    app = an_app(guard, before=add_cors if cors_first else None)
    if not cors_first:
        add_cors(app)
    return TestClient(app)


@CORSOrder
def test_refusals_carry_cors_headers(cors_first: bool) -> None:
    guard = a_guard(max_sessions=1, on_limit="deny")
    client = with_cors(cors_first, guard)
    known = bearer(client)
    client.get("/me", headers=known)
    browser = {"Origin": ORIGIN}
    asked = {
        401: client.get("/me", headers=browser),
        400: client.delete("/auth/sessions", headers=known | browser),
        403: client.get("/admin", headers=known | browser),
        409: client.post("/login", headers=browser),
        200: client.get("/auth/sessions", headers=known | browser),
        204: client.post("/auth/logout", headers=known | browser),
    }
    assert isinstance(guard._blocking, Broken)
    guard._blocking.down = True
    asked[503] = client.post("/login", headers=browser)
    assert [response.status_code for response in asked.values()] == list(asked)
    assert {response.headers["access-control-allow-origin"] for response in asked.values()} == {ORIGIN}


@CORSOrder
@pytest.mark.parametrize("path", ["/me", "/auth/logout", "/auth/sessions/x"])
def test_preflights(cors_first: bool, path: str) -> None:
    client = with_cors(cors_first, a_guard())
    asked = {"Access-Control-Request-Method": "DELETE", "Access-Control-Request-Headers": "authorization"}
    response = client.options(path, headers={"Origin": ORIGIN, **asked})
    assert response.status_code == 200
    assert response.headers["access-control-allow-origin"] == ORIGIN
    assert response.headers["access-control-allow-headers"] == "authorization"


@pytest.mark.parametrize("later", [True, False])
@pytest.mark.parametrize("kind", [AuthError, JWTGuardError, 401])
@pytest.mark.parametrize("is_async", [True, False])
def test_the_apps_own_handler_wins(kind: Any, later: bool, is_async: bool) -> None:
    def handle(request: Request, error: Exception) -> Response:
        assert request.user.is_authenticated == isinstance(error, ScopeMissing)
        headers = error.headers if isinstance(error, HTTPException) else {}
        return PlainTextResponse(f"own {type(error).__name__}", 401, headers)

    async def handle_async(request: Request, error: Exception) -> Response:
        return handle(request, error)

    def add(app: Starlette) -> None:
        app.add_exception_handler(kind, handle_async if is_async else handle)

    app = an_app(before=None if later else add)
    if later:
        add(app)
    client = TestClient(app)
    refused = client.get("/me")
    assert refused.text == ("own HTTPException" if kind == 401 else "own TokenMissing")
    assert refused.headers.get("www-authenticate") == ('Bearer realm="jwtguard"' if kind == 401 else None)
    assert refused.headers["content-type"] == "text/plain; charset=utf-8"
    assert client.get("/admin", headers=bearer(client)).status_code == (401 if kind is JWTGuardError else 403)


def test_a_handler_for_everything_is_not_in_the_way() -> None:
    async def handle(request: Request, error: Exception) -> Response:
        raise AssertionError

    client = TestClient(an_app(before=lambda app: app.add_exception_handler(Exception, handle)))
    assert code_of(client.get("/me")) == "token_missing"


def test_middleware_of_every_kind() -> None:
    async def add_header(request: Request, call_next: Any) -> Response:
        response: Response = await call_next(request)
        response.headers["X-Seen"] = "1"
        return response

    app = an_app()
    app.add_middleware(BaseHTTPMiddleware, dispatch=add_header)
    client = TestClient(app)
    assert client.get("/me").headers["X-Seen"] == "1"
    assert client.get("/me", headers=bearer(client)).headers["X-Seen"] == "1"
    assert client.post("/auth/logout", headers=bearer(client)).headers["X-Seen"] == "1"
    assert REQUEST.get() is None


# -- routes ----------------------------------------------------------------------------------------------------------------


class AnyMethod(HTTPEndpoint):
    async def post(self, request: Request) -> Response:
        raise AssertionError


COLLIDING = {
    "the same": Route("/auth/logout", home, methods=["POST"]),
    "among others": Route("/auth/refresh", home, methods=["GET", "POST"]),
    "any method": Route("/auth/logout", AnyMethod),
    "another name": Route("/auth/sessions/{x}", home, methods=["DELETE"]),
    "a converter": Route("/auth/sessions/{x:int}", home, methods=["DELETE"]),
    "one of the ids": Route("/auth/sessions/all", home, methods=["DELETE"]),
    "mounted": Mount("/auth", routes=[Route("/sessions", home)]),
    "mounted deeper": Mount("/", routes=[Mount("/{x}", routes=[]), Mount("/auth", routes=[Route("/sessions", home)])]),
    "a mounted router": Mount("/auth", Router([Route("/logout", home, methods=["POST"])])),
}


@pytest.mark.parametrize("route", COLLIDING.values(), ids=COLLIDING)
@pytest.mark.parametrize("later", [True, False])
def test_a_collision_is_an_error_at_start(route: Any, later: bool) -> None:
    app = an_app(None, *([] if later else [route]))
    if later:
        app.router.routes.append(route)
    with pytest.raises(ConfigError, match="takes the place"), TestClient(app):
        pass
    with pytest.raises(ConfigError, match="takes the place"):
        TestClient(app).get("/me")
    assert TestClient(app, raise_server_exceptions=False).get("/").status_code == 500
    with TestClient(an_app(a_guard(endpoints="off"), route)):
        pass


def test_a_server_is_told_that_the_app_cannot_start() -> None:
    """Uvicorn takes an error without this message for an app that has no lifespan, and starts."""
    sent: list[Any] = []
    app = an_app(None, COLLIDING["the same"])

    async def receive() -> Any:
        return {"type": "lifespan.startup"}

    async def send(message: Any) -> None:
        sent.append(message)

    with pytest.raises(ConfigError):
        asyncio.run(app({"type": "lifespan", "state": {}}, receive, send))
    assert [message["type"] for message in sent] == ["lifespan.startup.failed"]
    assert "takes the place of one of jwtguard's endpoints" in sent[0]["message"]


@pytest.mark.parametrize("later", [True, False])
def test_a_catch_all_hides_no_endpoint(later: bool) -> None:
    async def everything(request: Request) -> Response:
        return PlainTextResponse("everything")

    methods = ["GET", "POST", "DELETE"]
    routes = [
        Route("/auth/{one}", everything, methods=methods),
        Route("/{one}/{two}", everything, methods=methods),
        Route("/auth/sessions/{rest:path}", everything, methods=methods),
        WebSocketRoute("/auth/logout", echo),
        Mount("/auth", Router([Route("/{x}", everything)])),
        Mount("/files", app=everything),  # type: ignore[arg-type]
        Route("/{rest:path}", everything, methods=methods),
    ]
    app = an_app(None, *([] if later else routes))
    if later:
        app.router.routes.extend(routes)
    client = TestClient(app)
    known = bearer(client)
    assert client.get("/auth/sessions", headers=known).json()[0]["current"]
    assert client.get("/auth/logout", headers=known).text == "everything"
    assert client.post("/auth/x").status_code == 401
    assert client.post("/auth/logout", headers=known).status_code == 204


def test_a_route_put_before_ours_while_the_app_runs_gets_nothing_unguarded() -> None:
    app = an_app()
    client = TestClient(app)
    known = bearer(client)

    async def own(request: Request) -> Response:
        return PlainTextResponse(request.user.subject or "nobody")

    app.router.routes.insert(0, Route("/auth/logout", own, methods=["GET", "POST"]))
    assert client.get("/auth/logout", headers=known).text == "alice"
    assert client.post("/auth/logout", headers=known).status_code == 204


def test_endpoints_are_routes_with_names() -> None:
    app = an_app()
    assert app.url_path_for("jwtguard.refresh") == "/auth/refresh"
    assert app.url_path_for("jwtguard.end_one", id="x") == "/auth/sessions/x"
    assert [route.path for route in app.routes[5:6]] == ["/"]  # type: ignore[attr-defined]


def test_install_takes_an_app_and_a_guard_of_its_colour() -> None:
    with pytest.raises(ConfigError, match="not Starlette and Guard"):
        install(Starlette(), Guard(Settings(secret=SECRET, store="memory://")))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="not function and AsyncGuard"):
        install(home, a_guard())  # type: ignore[arg-type]


def test_install_once_and_in_time() -> None:
    app = an_app()
    with pytest.raises(ConfigError, match="already"):
        install(app, a_guard())
    late = Starlette(routes=[Route("/", home)])
    TestClient(late).get("/")
    with pytest.raises(ConfigError, match="served"):
        install(late, a_guard())


def test_another_wrapper_of_the_router_is_kept() -> None:
    app, seen = an_app(), []
    inner = app.router.middleware_stack

    async def outer(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["type"])
        await inner(scope, receive, send)

    app.router.middleware_stack = outer
    with TestClient(app) as client:
        assert client.get("/me").status_code == 401
        assert client.get("/").status_code == 200
    assert seen == ["lifespan", "http", "http"]


# -- mounts ----------------------------------------------------------------------------------------------------------------


def test_a_mounted_app_guards_itself() -> None:
    inner = an_app(a_guard(rules="/admin: admin"))
    client = TestClient(Starlette(routes=[Mount("/api", inner), Route("/", home)]))
    assert client.get("/").text == "home"
    token = client.post("/api/login").json()["access_token"]
    known = {"Authorization": f"Bearer {token}"}
    assert client.get("/api/me", headers=known).json()["sub"] == "alice"
    assert client.get("/api/me").status_code == 401
    assert client.get("/api/admin", headers=known).status_code == 403
    assert client.post("/api/auth/logout", headers=known).status_code == 204
    assert client.get("/api/me", headers=known).status_code == 401


def test_what_is_mounted_in_a_guarded_app_is_guarded() -> None:
    inner = Starlette(routes=[Route("/", home), Route("/who", me), Route("/login", home)])
    client = TestClient(an_app(a_guard(rules="/inner/who: admin"), Mount("/inner", inner)))
    for path in ("/inner/", "/inner/who", "/inner/login"):
        assert client.get(path).status_code == 401
    assert client.get("/inner/who", headers=bearer(client)).status_code == 403
    assert client.get("/inner/who", headers=bearer(client, "bob")).json()["sub"] == "bob"


@pytest.mark.parametrize(
    "path", ["//login", "/login/", "/login/../admin", "/login%2f..%2fadmin", "/LOGIN", "/login;x", "/login%0a"]
)
@pytest.mark.parametrize("root", ["", "/api"])
def test_only_what_starlette_routes_as_public_is(path: str, root: str) -> None:
    app = an_app(None, Route("/{rest:path}", home, methods=["GET", "POST"]))
    client = TestClient(app, base_url="http://testserver", root_path=root)
    url = f"http://testserver{root}{path}"
    assert client.post(url, follow_redirects=False).status_code == 401
    assert client.post(f"http://testserver{root}/login").status_code == 200


def test_two_apps_with_one_guard() -> None:
    guard = a_guard()
    one, two = TestClient(an_app(guard)), TestClient(an_app(guard, Route("/more", home)))
    known = bearer(one)
    assert two.get("/me", headers=known).status_code == 200
    assert two.post("/auth/logout", headers=known).status_code == 204
    assert one.get("/me", headers=known).status_code == 401


def test_with_middleware_given_to_the_app() -> None:
    app = Starlette(routes=[Route("/me", me)], middleware=[Middleware(CORSMiddleware, allow_origins=["*"])])
    install(app, a_guard())
    assert TestClient(app).get("/me", headers={"Origin": ORIGIN}).headers["access-control-allow-origin"] == "*"


def test_starlettes_own_requires() -> None:
    """As it stands: for views plain, async and of a class, for WebSockets, with a redirect on a public path."""

    @requires(["authenticated", "admin"])
    async def of_admins(request: Request) -> Response:
        return PlainTextResponse("admin")

    @requires("admin", status_code=404)
    def hidden(request: Request) -> Response:
        return PlainTextResponse("hidden")

    @requires("authenticated", redirect="sign-in")
    async def redirects(request: Request) -> Response:
        return PlainTextResponse("in")

    class OfClass(HTTPEndpoint):
        @requires("admin")
        async def get(self, request: Request) -> Response:
            return PlainTextResponse("class")

    @requires("admin")
    async def socket(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_text("admin")
        await websocket.close()

    routes = [
        Route("/of-admins", of_admins),
        Route("/hidden", hidden),
        Route("/redirects", redirects),
        Route("/class", OfClass),
        Route("/sign-in", home, name="sign-in"),
        WebSocketRoute("/socket", socket),
    ]
    client = TestClient(an_app(a_guard(public="/login, /redirects, /sign-in"), *routes), follow_redirects=False)
    alice, bob = bearer(client), bearer(client, "bob")
    paths = ("/of-admins", "/hidden", "/class")
    asked = {path: [client.get(path, headers=known).status_code for known in (alice, bob)] for path in paths}
    assert asked == {"/of-admins": [403, 200], "/hidden": [404, 200], "/class": [403, 200]}
    away = client.get("/redirects")
    assert (away.status_code, away.headers["location"].startswith("http://testserver/sign-in?next=")) == (303, True)
    assert client.get("/redirects", headers=alice).text == "in"
    with client.websocket_connect("/socket", headers=bob) as connection:
        assert connection.receive_text() == "admin"
    with pytest.raises(WebSocketDisconnect), client.websocket_connect("/socket", headers=alice):
        pass
