"""In a FastAPI app: dependencies, OpenAPI, `def` views, routers; what Starlette shares is in test_starlette."""

from __future__ import annotations

import inspect
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Annotated, Any

import pytest
from fastapi import APIRouter, BackgroundTasks, Depends, FastAPI, HTTPException, Request, Security, WebSocket, routing
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import PlainTextResponse
from fastapi.security import APIKeyHeader
from fastapi.testclient import TestClient
from key_kit import jwk, private, write_set
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.testclient import WebSocketDenialResponse

import jwtguard.fastapi
from jwtguard import AsyncGuard, ConfigError, Identity, JWTGuardError, Settings
from jwtguard.fastapi import CurrentIdentity, current_identity, install, require
from jwtguard.model import ANONYMOUS
from jwtguard.stores.memory import MemoryStore
from jwtguard.testing import FakeClock

SECRET = "kK3-8h2mQzLr0bVtY7xPdW5nSfJ1gA9cEuHi"
ORIGIN = "https://app.example"


def a_guard(**settings: Any) -> AsyncGuard:
    clock = FakeClock()
    terms = {"secret": SECRET, "public": "/, /login, /openapi.json", **settings}
    return AsyncGuard(Settings(**terms), store=MemoryStore(clock), clock=clock)


def an_app(before: Callable[[FastAPI], object] | None = None, guard: AsyncGuard | None = None, **arguments: Any) -> FastAPI:
    app = FastAPI(**arguments)
    guard = guard or a_guard()

    @app.get("/")
    async def home(identity: CurrentIdentity) -> dict[str, Any]:
        return {"sub": identity.subject, "known": identity.is_authenticated}

    @app.post("/login")
    async def login(user: str = "alice") -> dict[str, Any]:
        return (await guard.login(user, scopes=["admin"] if user == "bob" else [])).to_dict()

    @app.get("/me")
    def me(identity: CurrentIdentity) -> dict[str, Any]:
        return {"sub": identity.subject}

    @app.get("/admin", dependencies=[require("admin")])
    async def admin() -> str:
        return "admin"

    @app.websocket("/ws")
    async def echo(websocket: WebSocket, identity: CurrentIdentity) -> None:
        await websocket.accept()
        await websocket.send_text(identity.subject)
        await websocket.close()

    @app.websocket("/ws/admin", dependencies=[require("admin")])
    async def admin_socket(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.close()

    if before is not None:
        before(app)
    install(app, guard)
    return app


def bearer(client: TestClient, user: str = "alice") -> dict[str, str]:
    return {"Authorization": f"Bearer {client.post(f'/login?user={user}').json()['access_token']}"}


def code_of(response: Any) -> str:
    assert response.headers["content-type"] == "application/problem+json"
    return str(response.json()["code"])


def test_log_in_call_log_out() -> None:
    client = TestClient(an_app())
    assert client.post("/login").headers.get_list("cache-control") == ["no-store"]
    known = bearer(client)
    assert client.get("/me", headers=known).json() == {"sub": "alice"}
    assert client.get("/").json() == {"sub": "", "known": False}
    assert client.get("/", headers=known).json() == {"sub": "alice", "known": True}
    done = client.post("/auth/logout", headers=known)
    assert (done.status_code, done.content) == (204, b"")
    assert code_of(client.get("/me", headers=known)) == "session_revoked"
    assert client.get("/", headers=known).json()["known"] is False


def test_every_endpoint() -> None:
    with TestClient(an_app()) as client:
        pair, other = client.post("/login").json(), client.post("/login").json()
        token = pair["refresh_token"]
        by_json = client.post("/auth/refresh", json={"refresh_token": token}).json()
        by_form = client.post("/auth/refresh", data={"refresh_token": token}).json()
        assert by_json == by_form
        known = {"Authorization": f"Bearer {by_json['access_token']}"}
        listed = client.get("/auth/sessions", headers=known).json()
        assert [session["id"] for session in listed] == [other["session_id"], pair["session_id"]]
        one = f"/auth/sessions/{other['session_id']}"
        assert [client.delete(one, headers=known).status_code for _ in range(2)] == [204, 404]
        assert code_of(client.delete("/auth/sessions?keep=x", headers=known)) == "request_invalid"
        assert client.delete("/auth/sessions?keep=none", headers=known).status_code == 204
        for body in (b"[" * 20_000, b"x" * 1_000_000):
            large = client.post("/auth/refresh", content=body, headers={"Content-Type": "application/json"})
            assert (large.status_code, code_of(large)) == (413, "body_too_large")
        malformed = client.post("/auth/refresh", content=b"{", headers={"Content-Type": "application/json"})
        assert (malformed.status_code, malformed.json()["error"]) == (400, "invalid_request")


def test_openapi_has_the_endpoints() -> None:
    paths = TestClient(an_app()).get("/openapi.json").json()["paths"]
    found = {(path, method) for path, methods in paths.items() for method in methods if path.startswith("/auth")}
    assert found == {
        ("/auth/refresh", "post"),
        ("/auth/logout", "post"),
        ("/auth/sessions", "get"),
        ("/auth/sessions", "delete"),
        ("/auth/sessions/{id}", "delete"),
    }
    for path in ("/auth/refresh", "/auth/logout"):
        body = paths[path]["post"]["requestBody"]["content"]
        assert body.keys() == {"application/json", "application/x-www-form-urlencoded"}
        assert "refresh_token" in body["application/json"]["schema"]["properties"]
    assert "requestBody" not in paths["/auth/sessions"]["delete"]
    assert paths["/auth/sessions/{id}"]["delete"]["parameters"][0]["name"] == "id"
    assert paths["/auth/sessions"]["delete"]["parameters"][0]["schema"]["enum"] == ["current", "none"]
    assert "204" in paths["/auth/logout"]["post"]["responses"]
    assert "200" in paths["/auth/refresh"]["post"]["responses"]


def test_openapi_of_an_app_without_endpoints() -> None:
    app = an_app(guard=a_guard(endpoints="off"))
    assert not any(path.startswith("/auth") for path in app.openapi()["paths"])


Who = Annotated[Identity, Security(current_identity, scopes=["audit"])]


def add_documented(app: FastAPI) -> None:
    app.add_api_route("/items/{name}", lambda name: name, methods=["GET"])
    app.add_api_route("/items/{name}", lambda name: name, methods=["POST"])
    app.add_api_route("/items/{name}/any", lambda name: name, dependencies=[require()])
    app.add_api_route("/plain", lambda: "", responses={401: {"description": "own words"}})
    app.add_api_route("/key", lambda: "", dependencies=[Security(APIKeyHeader(name="X-Key"))])

    @app.get("/audit", dependencies=[require("admin", "audit")])
    async def audit(identity: Who) -> str:
        return identity.subject


def document_of(app: FastAPI) -> dict[str, Any]:
    document: dict[str, Any] = TestClient(app).get("/openapi.json").json()
    assert document == app.openapi()  # again
    return document


def locks_of(document: dict[str, Any]) -> dict[str, Any]:
    found = {}
    for path, item in document["paths"].items():
        for method, operation in item.items():
            found[f"{method} {path}"] = operation.get("security")
    return found


def test_openapi_says_what_needs_a_token_and_which_scopes() -> None:
    terms = {"public": "/, /login, /openapi.json, GET /items/*, /key", "rules": "POST /items/*: write"}
    document = document_of(an_app(add_documented, a_guard(**terms)))
    assert locks_of(document) == {
        "get /": None,
        "post /login": None,
        "get /me": [{"jwtguard": []}],
        "get /admin": [{"jwtguard": ["admin"]}],
        "get /items/{name}": None,
        "post /items/{name}": [{"jwtguard": ["write"]}],
        "get /items/{name}/any": [{"jwtguard": []}],
        "get /plain": [{"jwtguard": []}],
        "get /key": [{"APIKeyHeader": []}],
        "get /audit": [{"jwtguard": ["admin", "audit"]}],
        "post /auth/refresh": [],
        "post /auth/logout": [{"jwtguard": []}, {}],
        "get /auth/sessions": [{"jwtguard": []}],
        "delete /auth/sessions": [{"jwtguard": []}],
        "delete /auth/sessions/{id}": [{"jwtguard": []}],
    }
    schemes = document["components"]["securitySchemes"]
    assert schemes.keys() == {"jwtguard", "APIKeyHeader"}
    assert (schemes["jwtguard"]["type"], schemes["jwtguard"]["scheme"]) == ("http", "bearer")


def test_openapi_of_a_path_that_asks_for_a_fresh_login() -> None:
    guard = a_guard(public="/me, /openapi.json", rules="/me: max_age=5m, /admin: audit max_age=1m")
    document = document_of(an_app(guard=guard))
    assert locks_of(document)["get /me"] == [{"jwtguard": []}], "a rule goes before PUBLIC"
    assert locks_of(document)["get /admin"] == [{"jwtguard": ["audit", "admin"]}]
    assert document["paths"]["/me"]["get"]["responses"].keys() == {"200", "401", "503"}


def test_openapi_has_the_place_of_public_keys(tmp_path: Path) -> None:
    write_set(tmp_path / "keys.json", jwk(private(), "k"))
    document = document_of(an_app(guard=a_guard(secret=None, keys=str(tmp_path / "keys.json"))))
    operation = document["paths"]["/.well-known/jwks.json"]["get"]
    assert operation["security"] == [], "nobody needs a token for it"
    assert operation["responses"].keys() == {"200"}


def test_openapi_says_what_is_refused() -> None:
    document = document_of(an_app(add_documented, a_guard(public="/, /login, /openapi.json")))
    paths = document["paths"]
    refusals = {
        path: sorted(status for status in next(iter(item.values()))["responses"] if status >= "400")
        for path, item in paths.items()
    }
    assert refusals == {
        "/": [],
        "/login": ["422"],
        "/me": ["401", "503"],
        "/admin": ["401", "403", "503"],
        "/items/{name}": ["401", "422", "503"],
        "/items/{name}/any": ["401", "422", "503"],
        "/plain": ["401", "503"],
        "/key": ["401", "503"],
        "/audit": ["401", "403", "503"],
        "/auth/refresh": ["400", "401", "413", "503"],
        "/auth/logout": ["400", "401", "413", "503"],
        "/auth/sessions": ["400", "401", "503"],
        "/auth/sessions/{id}": ["400", "401", "404", "503"],
    }
    refused = paths["/me"]["get"]["responses"]["401"]
    (schema,) = refused["content"].values()
    name = schema["schema"]["$ref"].removeprefix("#/components/schemas/")
    client = TestClient(an_app())
    answer = client.get("/me")
    assert answer.headers["content-type"] in refused["content"]
    assert refused["headers"].keys() == {"WWW-Authenticate"}
    problem = document["components"]["schemas"][name]
    assert answer.json().keys() == set(problem["required"]) == problem["properties"].keys()
    assert paths["/plain"]["get"]["responses"]["401"] == {"description": "own words"}


def test_openapi_in_optional_mode() -> None:
    locks = locks_of(document_of(an_app(add_documented, a_guard(mode="optional", public="/openapi.json"))))
    assert locks["get /me"] == [{"jwtguard": []}, {}]
    assert locks["get /items/{name}/any"] == [{"jwtguard": []}]
    assert locks["get /key"] == [{"jwtguard": []}, {}, {"APIKeyHeader": []}]


def test_openapi_of_an_app_that_makes_its_own_document() -> None:
    def add(app: FastAPI) -> None:
        app.openapi = lambda: {"paths": {"/own": {"get": {}, "summary": "own"}}}  # type: ignore[method-assign]

    document = document_of(an_app(add))
    assert document["paths"]["/own"]["get"]["security"] == [{"jwtguard": []}]
    assert document["paths"]["/own"]["get"]["responses"].keys() == {"401", "503"}


# -- dependencies ----------------------------------------------------------------------------------------------------------


def test_require() -> None:
    client = TestClient(an_app())
    missing = client.get("/admin", headers=bearer(client))
    assert (missing.status_code, code_of(missing)) == (403, "scope_missing")
    assert missing.headers["www-authenticate"] == 'Bearer realm="jwtguard", error="insufficient_scope", scope="admin"'
    assert client.get("/admin", headers=bearer(client, "bob")).json() == "admin"


def test_security_with_scopes() -> None:
    client = TestClient(an_app(add_documented, a_guard(public="/login, /audit")))
    assert code_of(client.get("/audit")) == "token_missing"
    refused = client.get("/audit", headers=bearer(client))
    assert (refused.status_code, code_of(refused)) == (403, "scope_missing")

    def add(app: FastAPI) -> None:
        @app.get("/both")
        async def both(identity: Annotated[Identity, Security(current_identity, scopes=["admin"])]) -> str:
            return identity.subject

        @app.websocket("/ws/both")
        async def socket(websocket: WebSocket, identity: Who) -> None:
            raise AssertionError

    client = TestClient(an_app(add))
    assert client.get("/both", headers=bearer(client, "bob")).json() == "bob"
    missing = client.get("/both", headers=bearer(client))
    assert missing.headers["www-authenticate"] == 'Bearer realm="jwtguard", error="insufficient_scope", scope="admin"'
    with pytest.raises(WebSocketDenialResponse) as denied:
        client.websocket_connect("/ws/both", headers=bearer(client, "bob")).__enter__()
    assert code_of(denied.value) == "scope_missing"


def test_require_on_a_public_path_asks_for_a_login() -> None:
    def add(app: FastAPI) -> None:
        app.add_api_route("/public/any", lambda: "any", dependencies=[require()])
        app.add_api_route("/public/admin", lambda: "admin", dependencies=[require("admin", "more")])

    client = TestClient(an_app(add, a_guard(public="/login, /public/*")))
    assert [code_of(client.get(path)) for path in ("/public/any", "/public/admin")] == ["token_missing"] * 2
    known = bearer(client, "bob")
    assert client.get("/public/any", headers=known).json() == "any"
    assert client.get("/public/admin", headers=known).headers["www-authenticate"].endswith('scope="admin more"')


def test_dependencies_can_be_overridden_in_tests() -> None:
    app = an_app(guard=a_guard(public="/*"))
    carol = Identity("carol", "", "", ("admin",), "tests", 0)
    app.dependency_overrides[current_identity] = lambda: carol
    client = TestClient(app)
    assert client.get("/me").json() == {"sub": "carol"}
    assert client.get("/admin").json() == "admin"


def test_dependencies_are_not_sent_to_threads() -> None:
    """FastAPI calls a plain function in a thread, which takes longer than all else that the guard does."""
    assert inspect.iscoroutinefunction(current_identity)
    assert inspect.iscoroutinefunction(require("admin").dependency)


def test_without_the_guard_nobody_is_let_in() -> None:
    app = FastAPI()

    @app.get("/")
    async def home(identity: CurrentIdentity) -> bool:
        return identity is ANONYMOUS

    app.add_api_route("/admin", lambda: "admin", dependencies=[require("admin")])
    client = TestClient(app)
    for path in ("/", "/admin"):
        with pytest.raises(ConfigError, match=r"call install\(app, guard\)"):
            client.get(path)


def test_a_dependency_with_yield_and_its_errors() -> None:
    closed: list[str] = []

    async def resource(identity: CurrentIdentity) -> AsyncIterator[str]:
        try:
            yield identity.subject
        finally:
            closed.append(identity.subject)

    def add(app: FastAPI) -> None:
        @app.get("/resource")
        async def use(subject: str = Depends(resource), _: None = require("admin")) -> str:
            return subject

    client = TestClient(an_app(add))
    assert client.get("/resource", headers=bearer(client)).status_code == 403
    assert client.get("/resource", headers=bearer(client, "bob")).json() == "bob"
    assert closed[-1] == "bob"


def test_dependencies_of_the_whole_app() -> None:
    """They run for the endpoints too, which are its routes; there nobody is known, as an endpoint asks for itself."""
    seen: list[str] = []

    def look(request: Request) -> None:
        seen.append(request.user.subject)

    client = TestClient(an_app(dependencies=[Depends(look)]))
    known = bearer(client)
    assert client.get("/me", headers=known).status_code == 200
    assert client.post("/auth/logout", headers=known).status_code == 204
    assert seen == ["", "alice", ""]


# -- views -----------------------------------------------------------------------------------------------------------------


def test_guard_sync_in_a_def_view() -> None:
    guard = a_guard(public="/login, /sync/login")

    def add(app: FastAPI) -> None:
        @app.post("/sync/login")
        def login() -> dict[str, Any]:
            return guard.sync.login("alice").to_dict()

        @app.get("/sync/sessions")
        def sessions(identity: CurrentIdentity) -> list[bool]:
            return [session.current for session in guard.sync.sessions(identity.subject)]

        @app.post("/sync/wrong")
        async def wrong() -> None:
            guard.sync.login("alice")

    client = TestClient(an_app(add, guard))
    response = client.post("/login")
    known = {"Authorization": f"Bearer {response.json()['access_token']}"}
    made = client.post("/sync/login", headers=known)
    assert made.headers["cache-control"] == "no-store"
    again = {"Authorization": f"Bearer {made.json()['access_token']}"}
    assert code_of(client.get("/sync/sessions", headers=known)) == "session_revoked"  # a login with a token replaces it
    assert client.get("/sync/sessions", headers=again).json() == [True]
    with pytest.raises(RuntimeError, match="await"):
        client.post("/sync/wrong", headers=again)


def test_background_tasks_run_with_their_request() -> None:
    guard = a_guard()
    seen: list[str] = []

    def add(app: FastAPI) -> None:
        @app.post("/leave")
        async def leave(tasks: BackgroundTasks, identity: CurrentIdentity) -> str:
            async def end() -> None:
                await guard.logout(identity)
                seen.append(identity.subject)

            tasks.add_task(end)
            return "soon"

    client = TestClient(an_app(add, guard))
    known = bearer(client)
    assert client.post("/leave", headers=known).json() == "soon"
    assert seen == ["alice"]
    assert code_of(client.get("/me", headers=known)) == "session_revoked"


def test_request_user_in_a_view() -> None:
    def add(app: FastAPI) -> None:
        @app.get("/user")
        def user(request: Request) -> list[str]:
            return [request.user.display_name, *request.auth.scopes]

    client = TestClient(an_app(add))
    assert client.get("/user", headers=bearer(client, "bob")).json() == ["bob", "admin", "authenticated"]


def test_websockets() -> None:
    client = TestClient(an_app())
    known = bearer(client)
    with client.websocket_connect("/ws", headers=known) as socket:
        assert socket.receive_text() == "alice"
    token = known["Authorization"].removeprefix("Bearer ")
    with client.websocket_connect("/ws", subprotocols=["jwtguard.bearer", token]) as socket:
        assert [socket.accepted_subprotocol, socket.receive_text()] == ["jwtguard.bearer", "alice"]
    for headers, path, code in (
        ({}, "/ws", "token_missing"),
        (known, "/ws/admin", "scope_missing"),
        ({"Authorization": "Bearer x"}, "/ws", "token_invalid"),
    ):
        with pytest.raises(WebSocketDenialResponse) as refused:
            client.websocket_connect(path, headers=headers).__enter__()
        assert code_of(refused.value) == code
    with client.websocket_connect("/ws/admin", headers=bearer(client, "bob")):
        pass


# -- CORS and handlers -----------------------------------------------------------------------------------------------------


def add_cors(app: FastAPI) -> None:
    app.add_middleware(CORSMiddleware, allow_origins=[ORIGIN], allow_methods=["*"], allow_headers=["*"])


@pytest.mark.parametrize("cors_first", [True, False], ids=["CORS first", "CORS last"])
def test_refusals_carry_cors_headers(cors_first: bool) -> None:
    app = an_app(add_cors if cors_first else None)
    if not cors_first:
        add_cors(app)
    client = TestClient(app)
    browser = {"Origin": ORIGIN}
    known = bearer(client) | browser
    asked = {
        401: client.get("/me", headers=browser),
        403: client.get("/admin", headers=known),
        404: client.delete("/auth/sessions/x", headers=known),
        204: client.post("/auth/logout", headers=known),
    }
    assert [response.status_code for response in asked.values()] == list(asked)
    assert {response.headers["access-control-allow-origin"] for response in asked.values()} == {ORIGIN}
    preflight = {**browser, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
    assert client.options("/auth/logout", headers=preflight).status_code == 200


@pytest.mark.parametrize("kind", [JWTGuardError, 401])
@pytest.mark.parametrize("later", [True, False])
def test_the_apps_own_handlers_win(kind: Any, later: bool) -> None:
    def add(app: FastAPI) -> None:
        @app.exception_handler(kind)
        async def handle(request: Request, error: Exception) -> PlainTextResponse:
            return PlainTextResponse("own", 418)

    app = an_app(None if later else add)
    if later:
        add(app)
    assert TestClient(app).get("/me").text == "own"


def test_the_apps_own_401_is_untouched() -> None:
    def add(app: FastAPI) -> None:
        @app.get("/own")
        async def own() -> None:
            raise HTTPException(401, "own words")

    client = TestClient(an_app(add))
    response = client.get("/own", headers=bearer(client))
    assert (response.status_code, response.json()) == (401, {"detail": "own words"})


# -- routes ----------------------------------------------------------------------------------------------------------------


def a_router(path: str, method: str, prefix: str = "") -> APIRouter:
    router = APIRouter(prefix=prefix)
    router.add_api_route(path, lambda: "own", methods=[method])
    return router


def mounted() -> APIRouter:
    router = APIRouter()
    inner = FastAPI()
    inner.add_api_route("/logout", lambda: "own", methods=["POST"])
    router.mount("/auth", inner)
    return router


COLLIDING: dict[str, Callable[[FastAPI], object]] = {
    "a route": lambda app: app.add_api_route("/auth/logout", lambda: "own", methods=["POST"]),
    "another name": lambda app: app.add_api_route("/auth/sessions/{x}", lambda x: "own", methods=["DELETE"]),
    "a router": lambda app: app.include_router(a_router("/logout", "POST"), prefix="/auth"),
    "a router with a prefix": lambda app: app.include_router(a_router("/sessions", "GET", "/auth")),
    "a mounted app": lambda app: app.mount("/auth", _inner()),
}
if hasattr(routing, "iter_route_contexts"):  # an older FastAPI leaves out what is mounted in a router
    COLLIDING["a mounted app in a router"] = lambda app: app.include_router(mounted())


def _inner() -> FastAPI:
    inner = FastAPI()
    inner.add_api_route("/refresh", lambda: "own", methods=["POST"])
    return inner


@pytest.mark.parametrize("add", COLLIDING.values(), ids=COLLIDING)
@pytest.mark.parametrize("later", [True, False])
def test_a_collision_is_an_error_at_start(add: Callable[[FastAPI], object], later: bool) -> None:
    app = an_app(None if later else add)
    if later:
        add(app)
    with pytest.raises(ConfigError, match="takes the place"), TestClient(app):
        pass
    with pytest.raises(ConfigError, match="takes the place"):
        TestClient(app).get("/")


@pytest.mark.parametrize("later", [True, False])
def test_a_catch_all_hides_no_endpoint(later: bool) -> None:
    def add(app: FastAPI) -> None:
        router = APIRouter()
        router.add_api_websocket_route("/auth/logout", lambda websocket: None)
        router.add_api_route("/auth/{x}", lambda x: f"below {x}", methods=["GET", "POST"])
        router.add_api_route("/{rest:path}", lambda rest: f"all {rest}", methods=["GET", "POST", "DELETE"])
        app.include_router(router)
        app.mount("/", Starlette())

    app = an_app(None if later else add)
    if later:
        add(app)
    with TestClient(app) as client:
        known = bearer(client)
        assert client.get("/auth/sessions", headers=known).json()[0]["current"]
        assert client.get("/auth/logout", headers=known).json() == "below logout"
        assert client.get("/anything", headers=known).json() == "all anything"
        assert client.get("/anything").status_code == 401
        assert client.post("/auth/logout", headers=known).status_code == 204


def test_routers_are_guarded() -> None:
    client = TestClient(an_app(lambda app: app.include_router(a_router("/x", "GET"), prefix="/router")))
    assert client.get("/router/x").status_code == 401
    assert client.get("/router/x", headers=bearer(client)).json() == "own"


def test_the_apps_own_lifespan_runs() -> None:
    calls: list[str] = []

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, int]]:
        calls.append("up")
        yield {"state": 1}
        calls.append("down")

    with TestClient(an_app(lifespan=lifespan)) as client:
        assert client.get("/").status_code == 200
    assert calls == ["up", "down"]


@pytest.mark.parametrize("root", ["", "/api"])
@pytest.mark.parametrize(
    "path", ["//login", "/login/", "/login/../admin", "/login%2f..%2fadmin", "/LOGIN", "/login;x", "/login%0a"]
)
def test_only_what_fastapi_routes_as_public_is(path: str, root: str) -> None:
    client = TestClient(an_app(), root_path=root)
    base = "http://testserver" + root
    assert client.post(base + path, follow_redirects=False).status_code == 401
    assert client.post(f"{base}/login").status_code == 200


def test_a_mounted_app_guards_itself() -> None:
    client = TestClient(Starlette(routes=[Mount("/api", an_app())]))
    token = client.post("/api/login").json()["access_token"]
    known = {"Authorization": f"Bearer {token}"}
    assert client.get("/api/me", headers=known).json() == {"sub": "alice"}
    assert client.get("/api/me").status_code == 401
    assert client.post("/api/auth/logout", headers=known).status_code == 204


def test_install_guards_a_starlette_app_too() -> None:
    app = Starlette()
    install(app, a_guard())
    client = TestClient(app)
    assert client.get("/").status_code == 404
    assert code_of(client.get("/me")) == "token_missing"


def test_without_fastapi_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fastapi", None)
    spec = spec_from_file_location("jwtguard._fastapi_again", jwtguard.fastapi.__file__)
    assert spec is not None
    assert spec.loader is not None
    with pytest.raises(ConfigError, match=r"pip install 'jwtguard-middleware\[fastapi\]'"):
        spec.loader.exec_module(module_from_spec(spec))
