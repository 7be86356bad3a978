"""In a Django site: what every face does is in `faces`; here is what Django adds to it."""

from __future__ import annotations

import asyncio
import io
import json
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from importlib.util import module_from_spec, spec_from_file_location
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth import aauthenticate, authenticate
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from django.db import connection, connections
from django.http import FileResponse, HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.test import AsyncClient, Client, RequestFactory
from django.test.utils import CaptureQueriesContext, setup_databases, teardown_databases
from django.utils.decorators import method_decorator
from django.views import View
from django_kit import GUARD, site

from django.contrib.auth.models import User  # isort: skip - once the kit has set Django up

import jwtguard.django
from jwtguard import ConfigError, Event, Identity, LimitReached, TokenPair
from jwtguard.context import REQUEST, SetCookie, set_cookie
from jwtguard.django import aguard, current_identity, guard
from jwtguard.model import ANONYMOUS
from jwtguard.stores.memory import MemoryStore
from jwtguard.testing import FakeClock

SECRET = "kK3-8h2mQzLr0bVtY7xPdW5nSfJ1gA9cEuHi"
BACKENDS = ["jwtguard.django.IdentityBackend", "django.contrib.auth.backends.ModelBackend"]
SESSIONS = (
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
)


def terms(**settings: Any) -> dict[str, Any]:
    return {"secret": SECRET, "store": "memory://", "public": "/, /login", **settings}


def home(request: HttpRequest) -> JsonResponse:
    return JsonResponse(current_identity(request).to_dict())


def login(request: HttpRequest) -> JsonResponse:
    return JsonResponse(guard.login(request.GET.get("user", "alice"), scopes=request.GET.getlist("scope")).to_dict())


async def login_async(request: HttpRequest) -> JsonResponse:
    return JsonResponse((await aguard.login(request.GET.get("user", "alice"))).to_dict())


VIEWS: dict[str, Callable[..., Any]] = {"": home, "login": login, "me": home}


def bearer(user: str = "alice", **arguments: Any) -> dict[str, str]:
    return bearer_of(guard.login(user, **arguments))


def bearer_of(pair: TokenPair) -> dict[str, str]:
    return {"Authorization": f"Bearer {pair.access_token}"}


def code_of(response: Any) -> str:
    assert response["Content-Type"] == "application/problem+json"
    return str(json.loads(response.content)["code"])


# -- the test clients ------------------------------------------------------------------------------------------------------


def test_log_in_call_log_out() -> None:
    with site(VIEWS, jwtguard=terms()):
        client = Client()
        assert code_of(client.get("/me")) == "token_missing"
        answer = client.post("/login")
        assert answer["Cache-Control"] == "no-store"
        known = {"Authorization": f"Bearer {answer.json()['access_token']}"}
        me = client.get("/me", headers=known)
        assert (me.json()["subject"], me["Vary"]) == ("alice", "Authorization")
        assert "Cache-Control" not in me
        assert client.get("/auth/sessions", headers=known).json()[0]["current"]
        done = client.post("/auth/logout", headers=known)
        assert (done.status_code, done.content, dict(done.headers)) == (204, b"", {"Cache-Control": "no-store"})
        assert code_of(client.get("/me", headers=known)) == "session_revoked"
        assert REQUEST.get() is None


def test_the_same_with_the_async_client() -> None:
    async def me(request: HttpRequest) -> JsonResponse:
        sessions = await aguard.sessions(current_identity(request).subject)
        return JsonResponse({"current": [session.current for session in sessions]})

    async def use() -> None:
        client = AsyncClient()
        assert code_of(await client.get("/me")) == "token_missing"
        answer = await client.post("/login", headers={"User-Agent": "curl/8"})
        assert answer["Cache-Control"] == "no-store"
        known = {"Authorization": f"Bearer {answer.json()['access_token']}"}
        assert (await client.get("/me", headers=known)).json() == {"current": [True]}
        assert (await client.get("/auth/sessions", headers=known)).json()[0]["device"]["name"] == "curl"
        assert (await client.post("/auth/logout", headers=known)).status_code == 204
        assert code_of(await client.get("/me", headers=known)) == "session_revoked"

    with site({"login": login_async, "me": me}, jwtguard=terms()):
        asyncio.run(use())


@pytest.mark.parametrize("order", [(GUARD, "test_django.Plain"), ("test_django.Plain", GUARD)], ids=["outside", "inside"])
def test_under_asgi_beside_a_middleware_that_blocks(order: tuple[str, ...]) -> None:
    async def use() -> None:
        client = AsyncClient()
        pair = (await client.post("/login")).json()
        known = {"Authorization": f"Bearer {pair['access_token']}"}
        assert (await client.get("/me", headers=known)).json()["subject"] == "alice"
        assert (await client.post("/auth/logout", headers=known)).status_code == 204
        assert code_of(await client.get("/me", headers=known)) == "session_revoked"

    with site({"login": login_async, "me": home}, jwtguard=terms(), middleware=order):
        asyncio.run(use())


class Plain:
    """Middleware that is not async."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        assert request.headers.get("Accept") is None  # which makes `headers`, before the guard takes anything away
        return self._get_response(request)


def test_c38_forged_names_are_gone_even_if_the_headers_were_read_before() -> None:
    def show(request: HttpRequest) -> JsonResponse:
        return JsonResponse(dict(request.headers))

    with site(show, jwtguard=terms(), middleware=("test_django.Plain", GUARD)):
        seen = Client().get("/", headers={"Remote-User": "mallory", "Jwtguard-Identity": "mallory", "X-Other": "kept"})
        assert "mallory" not in seen.json().values()
        assert seen.json()["X-Other"] == "kept"


# -- settings --------------------------------------------------------------------------------------------------------------


def test_settings_py_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JWTGUARD_REALM", "of the environment")
    monkeypatch.setenv("JWTGUARD_LEEWAY", "7")
    with site(VIEWS, jwtguard=terms(realm="of settings.py")):
        assert (guard.settings.realm, aguard.settings.leeway) == ("of settings.py", 7)
    with site(VIEWS, jwtguard=terms()):
        assert guard.settings.realm == aguard.settings.realm == "of the environment"


def test_a_bad_setting_stops_the_start() -> None:
    for handler in (WSGIHandler, ASGIHandler):
        with site(VIEWS, jwtguard={"store": "memory://"}), pytest.raises(ConfigError, match="SECRET"):
            handler()
        with site(VIEWS, jwtguard=terms(rule="/x: y")), pytest.raises(ConfigError, match="rules"):
            handler()
    with site(VIEWS, jwtguard="x"), pytest.raises(ConfigError, match="of type str: expected a dict"):
        WSGIHandler()


def claims_of(subject: str) -> dict[str, Any]:
    return {"name": subject.title()}


EVENTS: list[str] = []


def note(event: Event) -> None:
    EVENTS.append(event.name)


def test_hooks_and_parts() -> None:
    """Hooks by their path, since settings.py can't import what needs its models; parts as they are."""
    EVENTS.clear()
    clock = FakeClock()
    parts = {"store": MemoryStore(clock), "clock": clock, "claims_loader": "test_django.claims_of", "on_event": note}
    with site(VIEWS, jwtguard=terms(**parts)):
        known = bearer()
        assert Client().get("/me", headers=known).json()["claims"]["name"] == "Alice"
        clock.advance(31 * 60)
        assert code_of(Client().get("/me", headers=known)) == "token_expired"
    assert EVENTS == ["opened", "rejected"]


@pytest.mark.parametrize(("setting", "seen"), [(True, ["alice", None]), (False, ["the server's", "the server's"])])
def test_c38_remote_user_where_the_settings_say_so(setting: bool, seen: list[str | None]) -> None:
    found: list[str | None] = []

    def view(request: HttpRequest) -> HttpResponse:
        found.append(request.META.get("REMOTE_USER"))
        return HttpResponse()

    with site({"": view, "me": view}, jwtguard=terms(remote_user=setting)):
        client = Client(REMOTE_USER="the server's")
        assert client.get("/me", headers=bearer()).status_code == 200
        assert client.get("/").status_code == 200
    assert found == seen


def test_the_guard_outside_of_requests() -> None:
    with site(VIEWS, jwtguard=terms()):
        known = bearer()
        assert guard.revoke_all("alice") == 1
        assert code_of(Client().get("/me", headers=known)) == "session_revoked"
        assert asyncio.run(aguard.sessions("alice")) == []
        assert guard.core is aguard.core
        guard.close()
    with site(VIEWS, jwtguard=terms()):
        assert code_of(Client().get("/me", headers=known)) == "session_unknown"  # a guard of its own


def test_a_mount_point_and_force_script_name() -> None:
    with site(VIEWS, jwtguard=terms(), FORCE_SCRIPT_NAME="/app"):
        client = Client()
        assert client.post("/login").status_code == 200
        assert client.get("/me").status_code == 401


# -- views -----------------------------------------------------------------------------------------------------------------


def test_requires() -> None:
    needs_both = guard.requires("admin", "audit")

    @needs_both
    def plain(request: HttpRequest, name: str) -> HttpResponse:
        """Its own words."""
        return HttpResponse(name)

    @needs_both
    async def awaited(request: HttpRequest, name: str) -> HttpResponse:
        return HttpResponse(name)

    @method_decorator(guard.requires(), name="dispatch")
    class OfClass(View):
        def get(self, request: HttpRequest, name: str) -> HttpResponse:
            return HttpResponse(name)

    assert (plain.__name__, plain.__doc__) == ("plain", "Its own words.")
    routes = {"plain/<name>": plain, "awaited/<name>": awaited, "class/<name>": OfClass.as_view()}
    with site(routes, jwtguard=terms(public="/*")):
        client = Client()
        alice, admin = bearer(), bearer("bob", scopes=["admin", "audit"])
        for path in ("/plain/x", "/awaited/x"):
            assert code_of(client.get(path)) == "token_missing"
            refused = client.get(path, headers=alice)
            assert (refused.status_code, code_of(refused)) == (403, "scope_missing")
            assert refused["WWW-Authenticate"].endswith('error="insufficient_scope", scope="admin audit"')
            assert client.get(path, headers=admin).content == b"x"
        assert code_of(client.get("/class/x")) == "token_missing"
        assert client.get("/class/x", headers=alice).content == b"x"
    with pytest.raises(ValueError, match="scope"):
        guard.requires("two words")


def test_a_site_without_the_middleware_has_no_identities() -> None:
    lonely = site({"": guard.requires()(home)}, jwtguard=terms(), middleware=())
    with lonely, pytest.raises(ConfigError, match=r"add jwtguard\.django\.JWTGuardMiddleware"):
        Client().get("/")
    request = RequestFactory().get("/")
    request.identity = ANONYMOUS  # type: ignore[attr-defined]
    assert current_identity(request) is ANONYMOUS  # as a test of a view may set it


def test_errors_of_views() -> None:
    """Those of jwtguard are answers; a ConfigError and others are the developer's."""

    def broken(request: HttpRequest) -> None:
        raise ConfigError("what the developer should mend")

    def own(request: HttpRequest) -> None:
        raise KeyError("own")

    def careful(request: HttpRequest) -> HttpResponse:
        try:
            guard.login("alice")
        except LimitReached as full:
            return HttpResponse(str(len(full.sessions)))
        raise AssertionError

    views = VIEWS | {"broken": broken, "own": own, "careful": careful}
    with site(views, jwtguard=terms(max_sessions=1, on_limit="deny", public="/*")):
        assert Client().get("/me", headers=bearer()).status_code == 200
        full = Client().post("/login")
        assert (full.status_code, code_of(full)) == (409, "limit_reached")
        assert Client().get("/careful").content == b"1"
        for path, kind in (("/broken", ConfigError), ("/own", KeyError)):
            with pytest.raises(kind):
                Client().get(path)
        quiet = Client(raise_request_exception=False)
        assert [quiet.get(path).status_code for path in ("/broken", "/own")] == [500, 500]


def test_csrf_tokens_are_asked_for_where_no_bearer_token_came() -> None:
    """A page of another origin can't send an Authorization header in the name of a browser's user."""
    order = ("django.middleware.csrf.CsrfViewMiddleware", GUARD)
    for places in (order, order[::-1]):
        with site(VIEWS, jwtguard=terms(public="/*"), middleware=places):
            client = Client(enforce_csrf_checks=True)
            assert client.post("/me", headers=bearer()).status_code == 200
            assert client.post("/auth/logout", headers=bearer()).status_code == 204
            for headers in ({}, {"Authorization": "Bearer x"}, {"Cookie": "sessionid=x"}):
                assert client.post("/me", headers=headers).status_code == 403


@pytest.mark.parametrize("read", ["body", "POST", "read"])
@pytest.mark.parametrize("client", ["wsgi", "asgi"])
def test_a_body_that_was_read_before(read: str, client: str) -> None:
    of_json, of_form = "application/json", "application/x-www-form-urlencoded"
    with site(VIEWS, jwtguard=terms(), middleware=(f"test_django.{read.title()}Reader", GUARD)):
        for media_type, sent in ((of_json, '{"refresh_token": "%s"}'), (of_form, "refresh_token=%s")):
            body = sent % guard.login("alice").refresh_token
            answer: Any
            if client == "wsgi":
                answer = Client().post("/auth/refresh", body, content_type=media_type)
            else:
                answer = asyncio.run(AsyncClient().post("/auth/refresh", body, content_type=media_type))
            if read == "read":  # and is gone
                assert (answer.status_code, code_of(answer)) in ((400, "request_invalid"), (401, "token_missing"))
            else:
                assert answer.status_code == 200


class BodyReader(Plain):
    def __call__(self, request: HttpRequest) -> HttpResponse:
        assert request.body
        return self._get_response(request)


class PostReader(Plain):
    def __call__(self, request: HttpRequest) -> HttpResponse:
        assert isinstance(dict(request.POST), dict)
        return self._get_response(request)


class ReadReader(Plain):
    def __call__(self, request: HttpRequest) -> HttpResponse:
        assert request.read()
        return self._get_response(request)


FORMS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "what the test client sends": ({}, {}),
    "a token": ({"refresh_token": "<refresh>"}, {}),
    "two tokens": ({"refresh_token": ["a", "b"]}, {}),
    "too many fields": ({str(number): "x" for number in range(9)}, {"DATA_UPLOAD_MAX_NUMBER_FIELDS": 8}),
    "too large": ({"x": "x" * 17_000}, {}),
}


@pytest.mark.parametrize(
    ("name", "status"), list(zip(FORMS, (204, 204, 400, 400, 413), strict=True)), ids=lambda value: str(value)
)
def test_a_form_is_what_django_takes_for_one(name: str, status: int) -> None:
    fields, more = FORMS[name]
    with site(VIEWS, jwtguard=terms(), **more):
        pair = guard.login("alice")
        sent = {key: pair.refresh_token if value == "<refresh>" else value for key, value in fields.items()}
        known = {"Authorization": f"Bearer {pair.access_token}"}
        assert Client().post("/auth/logout", sent, headers=known).status_code == status
        assert asyncio.run(AsyncClient().post("/auth/logout", sent, headers=known)).status_code in (status, 401)
        cut = Client().post("/auth/logout", b"x", content_type="multipart/form-data; boundary=", headers=known)
        assert code_of(cut) == "request_invalid"


def test_djangos_cache_keeps_one_users_page_from_another() -> None:
    order = (
        "django.middleware.cache.UpdateCacheMiddleware",
        GUARD,
        "django.middleware.cache.FetchFromCacheMiddleware",
    )
    with site(VIEWS, jwtguard=terms(), middleware=order):
        alice, bob = bearer(), bearer("bob")
        for known, name in ((alice, "alice"), (bob, "bob"), (alice, "alice")):
            assert Client().get("/me", headers=known).json()["subject"] == name
        assert Client().get("/me").status_code == 401
        assert Client().get("/").json()["subject"] == ""
        guard.revoke_all("alice")
        assert Client().get("/me", headers=alice).status_code == 401


def test_cookies_that_the_guard_wants() -> None:
    def view(request: HttpRequest) -> HttpResponse:
        response = HttpResponse()
        response.set_cookie("__Host-x", "of the view")
        set_cookie(SetCookie("__Host-x", "value", "/", 60))
        set_cookie(SetCookie("__Secure-y", "", "/auth", 0))
        return response

    with site(view, jwtguard=terms()):
        cookies = Client().get("/", headers=bearer()).cookies
        assert [cookies["__Host-x"][name] for name in ("path", "max-age", "secure", "httponly", "samesite")] == [
            "/",
            60,
            True,
            True,
            "Lax",
        ]
        assert cookies["__Host-x"].value == "value"
        assert (cookies["__Secure-y"]["path"], cookies["__Secure-y"]["max-age"]) == ("/auth", 0)


# -- request.user ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def database() -> Iterator[None]:
    old = setup_databases(verbosity=0, interactive=False)
    yield
    teardown_databases(old, verbosity=0)
    connections.close_all()


@pytest.fixture
def alice(database: None) -> Iterator[Any]:
    user = User.objects.create_user("alice", password="wonderland")
    yield user
    user.delete()


def who(request: HttpRequest) -> JsonResponse:
    user: Any = request.user
    return JsonResponse({"user": user.get_username(), "identity": current_identity(request).subject})


def ask(known: dict[str, str] | None = None, client: Client | None = None) -> Any:
    return (client or Client()).get("/who", headers=known).json()


def test_request_user_is_read_once_and_when_it_is_asked_for(alice: Any) -> None:
    def twice(request: HttpRequest) -> JsonResponse:
        assert request.user == request.user == alice
        assert request.user.is_authenticated
        return JsonResponse({"active": request.user.is_active})

    with site({"who": who, "me": home, "twice": twice}, jwtguard=terms(), AUTHENTICATION_BACKENDS=BACKENDS):
        known = bearer(alice.pk)
        with CaptureQueriesContext(connection) as queries:
            assert Client().get("/me", headers=known).json()["subject"] == str(alice.pk)
        assert len(queries) == 0
        with CaptureQueriesContext(connection) as queries:
            assert Client().get("/twice", headers=known).json() == {"active": True}
        assert len(queries) == 1


def test_request_auser(alice: Any) -> None:
    async def awho(request: HttpRequest) -> JsonResponse:
        user: Any = await request.auser()
        assert user == await request.auser() == await sync_to_async(lambda: request.user.pk and user)()
        return JsonResponse({"user": user.get_username()})

    async def use() -> None:
        answer = await AsyncClient().get("/who", headers=known)
        assert answer.json() == {"user": "alice"}
        await sync_to_async(connections.close_all)()

    with site({"who": awho}, jwtguard=terms(), AUTHENTICATION_BACKENDS=BACKENDS):
        known = bearer(alice.pk)
        asyncio.run(use())


def test_a_subject_that_is_no_active_user_is_nobody_to_django(alice: Any) -> None:
    with site({"who": who}, jwtguard=terms(), AUTHENTICATION_BACKENDS=BACKENDS):
        for subject in (f"0{alice.pk}", f" {alice.pk}", "alice", "-1", str(2**70), "\u0661"):
            assert ask(bearer(subject)) == {"user": "", "identity": subject}
        known = bearer(alice.pk)
        assert ask(known)["user"] == "alice"
        alice.is_active = False
        alice.save()
        assert ask(known)["user"] == ""


def test_a_token_goes_before_djangos_own_session_which_counts_without_one(alice: Any) -> None:
    other = User.objects.create_user("other")
    with site(
        {"who": who},
        jwtguard=terms(public="/who"),
        middleware=(*SESSIONS, GUARD),
        AUTHENTICATION_BACKENDS=BACKENDS,
        SESSION_ENGINE="django.contrib.sessions.backends.signed_cookies",
    ):
        client = Client()
        client.force_login(other, backend=BACKENDS[1])
        assert ask(None, client) == {"user": "other", "identity": ""}
        assert ask(bearer(alice.pk), client) == {"user": "alice", "identity": str(alice.pk)}
    other.delete()


def test_without_djangos_sessions_nobody_is_the_anonymous_user(database: None) -> None:
    with site({"who": who}, jwtguard=terms(public="/who"), AUTHENTICATION_BACKENDS=BACKENDS):
        assert ask() == {"user": "", "identity": ""}


def test_the_order_that_would_undo_it_is_refused() -> None:
    wrong = site({}, jwtguard=terms(), middleware=(GUARD, *SESSIONS), AUTHENTICATION_BACKENDS=BACKENDS)
    with wrong, pytest.raises(ConfigError, match=r"put jwtguard\.django\.JWTGuardMiddleware after"):
        WSGIHandler()
    with site({}, jwtguard=terms(), middleware=(GUARD, *SESSIONS)):
        WSGIHandler()  # where request.user is Django's own affair


def test_without_the_backend_request_user_is_djangos(alice: Any) -> None:
    with site({"who": who}, jwtguard=terms(), middleware=(*SESSIONS, GUARD)):
        assert ask(bearer(alice.pk))["user"] == ""


def test_without_djangos_auth_there_is_no_user() -> None:
    def user_of(request: HttpRequest) -> JsonResponse:
        return JsonResponse({"user": hasattr(request, "user")})

    with site({"who": user_of}, jwtguard=terms(), INSTALLED_APPS=[]):
        assert ask(bearer()) == {"user": False}


def test_the_backend_by_itself(alice: Any) -> None:
    identity = Identity(str(alice.pk), "", "", (), "tests", 0)
    request = RequestFactory().get("/")
    with site({}, jwtguard=terms(), AUTHENTICATION_BACKENDS=BACKENDS[:1]):
        assert authenticate(request, identity=identity) == alice
        assert authenticate(request, identity=ANONYMOUS) is None
        assert authenticate(request, username="alice", password="wonderland") is None

        async def use() -> None:
            assert await aauthenticate(request, identity=identity) == alice
            assert await jwtguard.django.IdentityBackend().aget_user("x") is None
            await sync_to_async(connections.close_all)()

        asyncio.run(use())
    with pytest.raises(AttributeError, match="nothing"):
        jwtguard.django.nothing  # noqa: B018


# -- streams ---------------------------------------------------------------------------------------------------------------


def test_a_stream_ends_when_its_session_does() -> None:
    ended: list[str] = []

    def stream(request: HttpRequest) -> StreamingHttpResponse:
        def parts() -> Iterator[str]:
            try:
                yield "1"
                yield "2"
                guard.logout(current_identity(request))
                yield "3"
            finally:
                ended.append("closed")

        return StreamingHttpResponse(parts())

    with site(stream, jwtguard=terms()):
        assert b"".join(Client().get("/", headers=bearer())) == b"12"
        Client().get("/", headers=bearer()).close()  # before its first part
    assert ended == ["closed"]


def test_what_is_on_its_way_is_sent_to_its_end() -> None:
    def stream(request: HttpRequest) -> StreamingHttpResponse:
        def parts() -> Iterator[bytes]:
            yield b"1"
            guard.logout(current_identity(request))
            yield b"2"

        return StreamingHttpResponse(parts(), headers={"Content-Length": "2"})

    def file(request: HttpRequest) -> FileResponse:
        return FileResponse(io.BytesIO(b"file"))

    with site({"stream": stream, "file": file}, jwtguard=terms()):
        assert b"".join(Client().get("/stream", headers=bearer())) == b"12"
        assert b"".join(Client().get("/file", headers=bearer())) == b"file"


class Stream:
    """An async stream under a real ASGI handler, and a client that reads it."""

    def __init__(self, parts: Callable[[HttpRequest], AsyncIterator[str]]) -> None:
        self._parts = parts
        self.sent = ""
        self.is_over = False
        self.error: BaseException | None = None

    async def serve(self, request: HttpRequest) -> StreamingHttpResponse:
        return StreamingHttpResponse(self._noted(request))

    async def _noted(self, request: HttpRequest) -> AsyncIterator[str]:
        try:
            async for part in self._parts(request):
                yield part
        except BaseException as error:
            self.error = error
            raise

    async def read(self, known: dict[str, str]) -> None:
        headers = [(name.lower().encode(), value.encode()) for name, value in known.items()]
        scope: dict[str, Any] = {"type": "http", "method": "GET", "path": "/stream", "headers": headers}
        messages = [{"type": "http.request", "body": b"", "more_body": False}]

        async def receive() -> Any:
            return messages.pop() if messages else await asyncio.Event().wait()

        async def send(message: Any) -> None:
            self.sent += message.get("body", b"").decode()
            self.is_over = message["type"] == "http.response.body" and not message.get("more_body")

        await ASGIHandler()(scope, receive, send)


def test_an_async_stream_that_waits_ends_when_its_session_does() -> None:
    async def parts(request: HttpRequest) -> AsyncIterator[str]:
        yield "1"
        waiting.set()
        await asyncio.Event().wait()
        yield "never"

    async def use() -> None:
        reading = asyncio.create_task(stream.read(known))
        await waiting.wait()
        assert len(aguard.core.live) == 1
        await aguard.revoke_all("alice")
        await reading
        assert len(aguard.core.live) == 0

    stream, waiting = Stream(parts), asyncio.Event()
    with site({"stream": stream.serve}, jwtguard=terms()):
        known = bearer()
        asyncio.run(use())
    assert (stream.sent, stream.is_over) == ("1", True)
    assert isinstance(stream.error, asyncio.CancelledError)


def test_an_async_stream_that_ends_its_own_session_sends_no_more() -> None:
    async def parts(request: HttpRequest) -> AsyncIterator[str]:
        yield "1"
        await aguard.logout(current_identity(request))
        while not stream.is_over:  # in vain
            yield "2"
            await asyncio.sleep(0)

    stream = Stream(parts)
    with site({"stream": stream.serve}, jwtguard=terms()):
        known = bearer()
        asyncio.run(stream.read(known))
    assert stream.is_over
    assert set(stream.sent) <= {"1", "2"}


def test_an_async_stream_comes_to_its_own_end_and_its_own_errors() -> None:
    async def ends(request: HttpRequest) -> AsyncIterator[str]:
        yield "1"
        await asyncio.sleep(0)
        yield "2"

    async def times_out(request: HttpRequest) -> AsyncIterator[str]:
        yield "1"
        raise TimeoutError("own")

    async def use(parts: Callable[[HttpRequest], AsyncIterator[str]]) -> bytes:
        stream = Stream(parts)
        with site({"stream": stream.serve}, jwtguard=terms()):
            answer: Any = await AsyncClient().get("/stream", headers=bearer_of(await aguard.login("alice")))
            return b"".join([part async for part in answer.streaming_content])

    assert asyncio.run(use(ends)) == b"12"
    with pytest.raises(TimeoutError, match="own"):
        asyncio.run(use(times_out))


def test_an_async_stream_whose_session_ends_between_two_parts() -> None:
    async def numbers(request: HttpRequest) -> AsyncIterator[str]:
        for number in range(9):
            yield str(number)

    async def use() -> None:
        stream = Stream(numbers)
        with site({"stream": stream.serve}, jwtguard=terms()):
            answer: Any = await AsyncClient().get("/stream", headers=bearer_of(await aguard.login("alice")))
            parts = aiter(answer.streaming_content)
            assert await anext(parts) == b"0"
            await aguard.revoke_all("alice")
            while len(aguard.core.live):
                await asyncio.sleep(0)
            assert [part async for part in parts] == []

    asyncio.run(use())


def test_without_django_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "asgiref.sync", None)
    spec = spec_from_file_location("jwtguard._django_again", jwtguard.django.__file__)
    assert spec is not None
    assert spec.loader is not None
    with pytest.raises(ConfigError, match=r"pip install 'jwtguard-middleware\[django\]'"):
        spec.loader.exec_module(module_from_spec(spec))
