"""docs/forward-auth.md, with the real proxies: each by the configuration that stands there, in front of an app that knows
nothing of jwtguard."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from test_readme import ROOT, blocks_of
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from jwtguard import Guard, Settings
from jwtguard.forward import HEADERS
from servers.serving import PATIENCE, Server, Site, nginx_of, serving, serving_by, until

pytestmark = pytest.mark.servers

PAGE = blocks_of(ROOT / "docs" / "forward-auth.md")
PUBLIC = "/, POST /login, /static/*"
NAMES = {name.lower() for name in HEADERS}


def configuration(language: str, beginning: str) -> str:
    (found,) = (block.text for block in PAGE if block.language == language and block.text.startswith(beginning))
    return found


def nginx(folder: Path, there: Callable[[str], str]) -> tuple[str, ...]:
    return nginx_of(folder, there(configuration("nginx", "upstream")))


def traefik(folder: Path, there: Callable[[str], str]) -> tuple[str, ...]:
    (folder / "dynamic.yml").write_text(there(configuration("yaml", "# traefik")))
    quiet = ("--global.checknewversion=false", "--global.sendanonymoususage=false")
    where = f"--entrypoints.web.address={there('127.0.0.1:8000')}"
    return ("traefik", *quiet, where, f"--providers.file.filename={folder / 'dynamic.yml'}")


def envoy(folder: Path, there: Callable[[str], str]) -> tuple[str, ...]:
    (folder / "envoy.yaml").write_text(there(configuration("yaml", "# envoy")))
    return (
        "envoy",
        "--log-level",
        "warning",
        "--disable-hot-restart",
        "--concurrency",
        "1",
        "-c",
        str(folder / "envoy.yaml"),
    )


PROXIES = {"nginx": nginx, "traefik": traefik, "envoy": envoy}


class Stack:
    """A proxy, the app behind it, and forward auth beside it."""

    def __init__(self, kind: str, proxy: Server, auth: Server, guard: Guard) -> None:
        self.kind = kind
        self.proxy = proxy
        self.auth = auth
        self.guard = guard

    def bearer(self, subject: str = "alice", *scopes: str) -> tuple[str, str]:
        return ("Authorization", f"Bearer {self.guard.login(subject, scopes=scopes).access_token}")

    def ask(self, method: str, target: str, *headers: tuple[str, str]) -> Reply:
        """Sends a request as it is written here."""
        connection = http.client.HTTPConnection("127.0.0.1", self.proxy.port, timeout=PATIENCE)
        try:
            connection.putrequest(method, target, skip_accept_encoding=True)
            for name, value in headers:
                connection.putheader(name, value)
            connection.endheaders()
            answer = connection.getresponse()
            return Reply(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())
        finally:
            connection.close()


class Reply:
    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    @property
    def code(self) -> Any:
        return json.loads(self.body)["code"]

    @property
    def told(self) -> Any:
        """What the app was told of the request; None if it never saw it."""
        return json.loads(self.body) if self.status == 200 else None

    @property
    def identity(self) -> tuple[str, ...]:
        """What the app was told of who asks."""
        found = [(name, value) for name, value in self.told["headers"] if name.replace("_", "-").replace(".", "-") in NAMES]
        assert len(dict(found)) == len(found)
        assert set(dict(found)) <= NAMES
        return tuple(dict(found).get(name.lower(), "") for name in HEADERS)


@contextmanager
def running(kind: str, folder: Path) -> Iterator[Stack]:
    site = Site(folder, public=PUBLIC, rules="/admin/*: admin")
    settings = Settings(secret=site.settings["secret"], store=site.settings["store"], store_timeout="2s")
    with ExitStack() as stack:
        auth = stack.enter_context(serving(site, "uvicorn", "jwtguard.forward:app", "--port", "{port}", "--no-access-log"))
        app = stack.enter_context(serving(site, "uvicorn", "servers.told:app", "--port", "{port}", "--no-access-log"))

        def command(port: int) -> tuple[str, ...]:
            ports = {"8000": port, "8001": app.port, "8002": auth.port}
            return PROXIES[kind](folder, lambda text: _moved(text, ports))

        guard = Guard(settings)
        stack.callback(guard.close)
        proxy = stack.enter_context(serving_by(site, command))
        yield Stack(kind, proxy, auth, guard)


def _moved(text: str, ports: dict[str, int]) -> str:
    for old, new in ports.items():
        for before in ("127.0.0.1:", "port_value: "):
            text = text.replace(before + old, f"{before}{new}")
    return text


@pytest.fixture(scope="module", params=PROXIES)
def stack(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running(request.param, tmp_path_factory.mktemp(request.param)) as found:
        until("the proxy passes requests on", lambda: found.ask("GET", "/").status == 200)  # Traefik reads its file late
        yield found


def test_who_may_pass(stack: Stack) -> None:
    refused = stack.ask("GET", "/me")
    assert (refused.status, refused.code) == (401, "token_missing")
    assert refused.headers["www-authenticate"] == 'Bearer realm="jwtguard"'
    assert refused.headers["cache-control"] == "no-store"
    admitted = stack.ask("GET", "/me?x=1", stack.bearer("alice", "read"))
    assert (admitted.told["method"], admitted.told["path"]) == ("GET", "/me")
    assert (admitted.identity[0], admitted.identity[2]) == ("alice", "read")
    short = stack.ask("GET", "/admin/x", stack.bearer("alice", "read"))
    assert (short.status, short.code) == (403, "scope_missing")
    assert short.headers["www-authenticate"] == 'Bearer realm="jwtguard", error="insufficient_scope", scope="admin"'
    assert stack.ask("POST", "/admin/x", stack.bearer("root", "admin")).identity[0] == "root"
    assert unquote(stack.ask("GET", "/me", stack.bearer("Zo\u00eb + a%20b,c")).identity[0]) == "Zo\u00eb + a%20b,c"


def test_public_paths_are_passed_as_nobody(stack: Stack) -> None:
    for headers in ([], [("Authorization", "Bearer nonsense")], [("Authorization", "Basic eDp5")]):
        assert stack.ask("GET", "/static/a", *headers).identity == ("", "", "")
    assert stack.ask("GET", "/static/a", stack.bearer()).identity[0] == "alice"
    assert stack.ask("POST", "/login").identity == ("", "", "")
    assert stack.ask("PUT", "/login").status == 401


def test_a_revoked_session_is_refused_at_the_next_request(stack: Stack) -> None:
    known = stack.bearer("dora")
    assert stack.ask("GET", "/me", known).status == 200
    stack.guard.revoke_all("dora")
    refused = stack.ask("GET", "/me", known)
    assert (refused.status, refused.code) == (401, "session_revoked")
    assert 'error="invalid_token"' in refused.headers["www-authenticate"]


def test_the_endpoints(stack: Stack) -> None:
    known = stack.bearer("erin")
    (session,) = json.loads(stack.ask("GET", "/auth/sessions", known).body)
    assert session["current"]
    assert stack.ask("POST", "/auth/logout", known, ("Content-Length", "0")).status == 204
    assert stack.ask("GET", "/me", known).code == "session_revoked"
    assert stack.ask("GET", "/auth/sessions", known).status == 401


SPELLINGS = ("X-Auth-Subject", "x-auth-subject", "X_Auth_Subject", "X-Auth_Subject", "X_AUTH-SUBJECT", "x.auth.subject")


@pytest.mark.parametrize("name", SPELLINGS)
def test_c38_a_client_cannot_say_who_it_is(stack: Stack, name: str) -> None:
    known = stack.bearer("mallory")
    for target, mine, subject in (("/static/a", [], ""), ("/me", [known], "mallory"), ("/me", [], None)):
        for forged in ([(name, "root")], [(name, "root"), (name, "root")], [(name, "")]):
            answer = stack.ask("GET", target, *mine, *forged)
            if answer.told is None:
                assert answer.status in (400, 401)
            else:
                assert answer.identity[0] == subject


FORGED = (
    "X-Forwarded-Uri",
    "X_Forwarded_Uri",
    "X-Original-URI",
    "X-Original-Url",
    "X-Rewrite-Url",
    "X-Envoy-Original-Path",
)


@pytest.mark.parametrize("name", FORGED)
def test_c38_a_client_cannot_say_what_it_asks_for(stack: Stack, name: str) -> None:
    methods = [("X-Forwarded-Method", "GET"), ("X-HTTP-Method-Override", "GET")]
    for forged in ([(name, "/static/a")], [(name, "/static/a"), (name, "/static/b")], [(name, "/static/a"), *methods]):
        assert stack.ask("GET", "/me", *forged).status in (400, 401)
        assert stack.ask("PUT", "/login", *forged).status in (400, 401)
    assert stack.ask("GET", "/me", ("Connection", name), (name, "/static/a")).status in (400, 401)
    assert stack.ask("GET", "/me", ("Connection", "X-Forwarded-Uri, X-Forwarded-Method, X-Auth-Subject")).status in (
        400,
        401,
    )


AMBIGUOUS = (
    "//static/a",
    "/x/../static/a",
    "/static/../me",
    "/static/%2e%2e/me",
    "/static/..%2fme",
    "/static%2fa",
    "/static/a;b",
    "/static/%00",
    "/static/%0a",
    "/static/a%23b",
    "/static/%252e%252e/me",
    "/%73tatic/a",
    "/static/.",
)


@pytest.mark.parametrize("target", AMBIGUOUS)
def test_the_app_is_asked_for_no_other_path_than_was_judged(stack: Stack, target: str) -> None:
    answer = stack.ask("GET", target)
    if answer.told is not None:
        path = unquote(answer.told["path"])
        assert path.startswith("/static/")
        assert "/" not in path.removeprefix("/static/")
        assert ".." not in path


def test_c32_credentials_come_once(stack: Stack) -> None:
    known = stack.bearer()
    assert stack.ask("GET", "/me", known, known).status == 400


def test_a_preflight_reaches_the_app(stack: Stack) -> None:
    asked = [("Origin", "https://other.example"), ("Access-Control-Request-Method", "POST")]
    assert stack.ask("OPTIONS", "/me", *asked).identity == ("", "", "")
    assert stack.ask("OPTIONS", "/me", asked[0]).status == 401


def test_a_websocket(stack: Stack) -> None:
    url = f"ws://127.0.0.1:{stack.proxy.port}/ws"
    token = stack.bearer("frank")[1].removeprefix("Bearer ")
    pair = [Subprotocol("jwtguard.bearer"), Subprotocol(token)]
    with connect(url, subprotocols=pair, proxy=None) as socket:
        socket.send("hello")
        assert socket.recv() == "frank: hello"
    stack.guard.revoke_all("frank")
    for offered in (pair, [Subprotocol("chat")]):
        with pytest.raises(InvalidStatus) as refused:
            connect(url, subprotocols=offered, proxy=None)
        assert refused.value.response.status_code == 401


def test_c37_the_store_fails_and_then_forward_auth_itself(stack: Stack) -> None:
    """The last test of each proxy: what it breaks stays broken."""
    known = stack.bearer()
    broken = stack.guard.settings.store.removeprefix("sqlite:///")
    Path(broken).write_bytes(b"this is no database")
    Path(f"{broken}-wal").unlink(missing_ok=True)
    answer = stack.ask("GET", "/me", known)
    assert answer.status == 503
    if stack.kind != "envoy":  # which takes it for a failure to ask
        assert (answer.code, answer.headers["retry-after"]) == ("store_unavailable", "1")
    stack.auth.stop()
    for target in ("/me", "/static/a"):
        assert stack.ask("GET", target, known).status == (500 if stack.kind == "traefik" else 503)
