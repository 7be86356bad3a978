"""In a Flask app: with its own test client, its error handlers, its configuration, and Flask-CORS."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from importlib.util import module_from_spec, spec_from_file_location
from typing import Any
from urllib.parse import unquote_to_bytes

import pytest
from flask import Blueprint, Flask, Response, abort, render_template_string, request, stream_with_context
from flask.views import MethodView
from flask_cors import CORS
from werkzeug.exceptions import HTTPException
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.test import TestResponse

import jwtguard.flask
from jwtguard import (
    AuthError,
    ConfigError,
    Guard,
    Identity,
    JWTGuardError,
    LimitReached,
    ScopeMissing,
    Settings,
    StoreUnavailable,
    TokenPair,
)
from jwtguard.context import REQUEST
from jwtguard.errors import StoreError
from jwtguard.flask import JWTGuard, current_identity
from jwtguard.model import ANONYMOUS
from jwtguard.stores.memory import MemoryStore
from jwtguard.testing import FakeClock

SECRET = "kK3-8h2mQzLr0bVtY7xPdW5nSfJ1gA9cEuHi"
ORIGIN = "https://app.example"
CORSOrder = pytest.mark.parametrize("cors_first", [True, False], ids=["CORS first", "CORS last"])


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JWTGUARD_SECRET", SECRET)


class Broken(MemoryStore):
    """A store in memory that can be out of reach."""

    down = False

    def load(self, key: bytes) -> Any:
        if self.down:
            raise StoreError("out of reach")
        return super().load(key)


class App(Flask):
    """A guarded app with the usual routes."""

    def __init__(self, before: Callable[[Flask], object] | None = None, config: Any = None, **arguments: Any) -> None:
        super().__init__("app")
        self.clock = FakeClock()
        self.store = Broken(self.clock)
        self.config.update({"TESTING": True, **(config or {})})
        self.add_url_rule("/", "home", lambda: "home")
        self.add_url_rule("/login", "login", self._login, methods=["POST"])
        self.add_url_rule("/me", "me", lambda: current_identity().to_dict())
        self.add_url_rule("/admin", "admin", self._admin)
        if before is not None:
            before(self)
        terms = {"store": self.store, "clock": self.clock, "public": "/, /login", **arguments}
        self.guard = JWTGuard(self, **terms)

    def _login(self) -> dict[str, Any]:
        user = request.args.get("user", "alice")
        return self.guard.login(user, scopes=["admin"] if user == "bob" else []).to_dict()

    def _admin(self) -> str:
        if "admin" not in current_identity().scopes:
            raise ScopeMissing(["admin"])
        return "admin"

    def token(self, user: str = "alice") -> str:
        return self.login(user)["access_token"]

    def login(self, user: str = "alice") -> dict[str, str]:
        return dict(json_of(self.test_client().post(f"/login?user={user}")))

    def ask(self, path: str, token: str | None = None, method: str = "GET", **headers: str) -> TestResponse:
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        given |= {"Authorization": f"Bearer {token}"} if token else {}
        raw = {"PATH_INFO": unquote_to_bytes(path.partition("?")[0]).decode("latin-1")}
        return self.test_client().open(path, method=method, headers=given, environ_overrides=raw)


def json_of(response: TestResponse) -> Any:
    return response.get_json(force=True)


def code_of(response: TestResponse) -> str:
    assert response.content_type == "application/problem+json"
    return str(json_of(response)["code"])


# -- requests and answers --------------------------------------------------------------------------------------------------


def test_log_in_call_log_out() -> None:
    app = App()
    response = app.test_client().post("/login")
    assert response.headers.getlist("Cache-Control") == ["no-store"]
    token = json_of(response)["access_token"]
    me = app.ask("/me", token)
    assert json_of(me)["subject"] == "alice"
    assert "Cache-Control" not in me.headers
    done = app.ask("/auth/logout", token, "POST")
    assert (done.status_code, done.data) == (204, b"")
    assert "Content-Type" not in done.headers
    refused = app.ask("/me", token)
    assert (refused.status_code, code_of(refused)) == (401, "session_revoked")
    assert refused.headers["WWW-Authenticate"] == 'Bearer realm="jwtguard", error="invalid_token"'
    assert refused.headers["Cache-Control"] == "no-store"


def test_every_endpoint() -> None:
    app = App()
    pair, other = app.login(), app.login()
    refreshed = app.test_client().post("/auth/refresh", json={"refresh_token": pair["refresh_token"]})
    token = json_of(refreshed)["access_token"]
    assert json_of(refreshed)["session_id"] == pair["session_id"]
    listed = app.ask("/auth/sessions", token)
    assert [(session["id"], session["current"]) for session in json_of(listed)] == [
        (other["session_id"], False),
        (pair["session_id"], True),
    ]
    assert app.ask(f"/auth/sessions/{other['session_id']}", token, "DELETE").status_code == 204
    assert code_of(app.ask("/me", other["access_token"])) == "session_revoked"
    assert code_of(app.ask(f"/auth/sessions/{other['session_id']}", token, "DELETE")) == "session_not_found"
    assert app.ask("/auth/sessions?keep=current", token, "DELETE").status_code == 204
    assert app.ask("/auth/sessions?keep=none", token, "DELETE").status_code == 204
    assert code_of(app.ask("/me", token)) == "session_revoked"


def test_c66_only_these_methods_are_endpoints() -> None:
    app = App()
    pair = app.login()
    assert app.ask("/auth/logout").status_code == 401
    assert app.ask("/auth/logout", pair["access_token"]).status_code == 405
    assert app.ask("/auth/logout", method="OPTIONS").status_code == 401
    assert app.ask("/auth/sessions", method="HEAD").status_code == 401
    head = app.ask("/auth/sessions", pair["access_token"], "HEAD")
    assert (head.status_code, head.data) == (200, b"")
    assert app.ask("/me", pair["access_token"]).status_code == 200


@pytest.mark.parametrize(
    "path", ["//login", "/login/", "/login/../admin", "/login%2f..%2fadmin", "/LOGIN", "/login;x", "/login%0a"]
)
@pytest.mark.parametrize("mount", ["", "/api"])
def test_only_what_flask_routes_as_public_is(path: str, mount: str) -> None:
    app = App(rules="")
    served = DispatcherMiddleware(_nothing, {mount: app.wsgi_app}) if mount else app.wsgi_app
    app.wsgi_app = served  # type: ignore[method-assign]
    for method in ("GET", "POST"):
        assert app.ask(mount + path, method=method).status_code == 401
    assert app.ask(f"{mount}/login", method="POST").status_code == 200


def _nothing(environ: Any, start_response: Any) -> list[bytes]:
    raise AssertionError


def test_what_flask_routes_as_a_guarded_path_needs_its_scopes() -> None:
    app = App(rules="/admin: admin")
    token = app.token()
    for path in ("/admin", "//admin", "/%2fadmin", "/admin/", "/x/../admin"):
        assert app.ask(path, token).status_code == 403
    assert app.ask("/admin", app.token("bob")).data == b"admin"


def test_unknown_paths_tell_nobody_anything() -> None:
    app = App()
    assert app.ask("/unknown").status_code == 401
    assert app.ask("/unknown", app.token()).status_code == 404


def test_c38_forged_names_and_remote_user() -> None:
    app = App(remote_user="on")
    app.add_url_rule("/environ", "environ", lambda: {name: str(value) for name, value in request.environ.items()})
    seen = json_of(app.ask("/environ", app.token(), Remote_User="mallory", JWTGuard_Identity="mallory"))
    assert "mallory" not in seen.values()
    assert seen["REMOTE_USER"] == "alice"


def test_errors_of_views_are_answers() -> None:
    app = App(max_sessions=1, on_limit="deny")
    token = app.token()
    app.ask("/me", token)
    full = app.test_client().post("/login")
    assert (full.status_code, code_of(full)) == (409, "limit_reached")
    assert [session["subject"] for session in json_of(full)["sessions"]] == ["alice"]
    missing = app.ask("/admin", token)
    assert missing.status_code == 403
    assert missing.headers["WWW-Authenticate"] == 'Bearer realm="jwtguard", error="insufficient_scope", scope="admin"'
    app.store.down = True
    down = app.test_client().post("/login?user=bob")
    assert (down.status_code, code_of(down), down.headers["Retry-After"]) == (503, "store_unavailable", "1")


def test_a_config_error_in_a_view_is_a_500_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    app = App(config={"TESTING": False, "PROPAGATE_EXCEPTIONS": False})

    def broken() -> str:
        raise ConfigError("what the developer should mend")

    app.add_url_rule("/broken", "broken", broken)
    response = app.ask("/broken", app.token())
    assert response.status_code == 500
    assert b"mend" not in response.data
    assert "what the developer should mend" in caplog.text


def test_on_error() -> None:
    app = App(on_error=lambda error, problem: {"oops": problem["code"]})
    assert json_of(app.ask("/me")) == {"oops": "token_missing"}
    assert json_of(app.ask("/auth/sessions")) == {"oops": "token_missing"}


def test_optional_mode() -> None:
    app = App(mode="optional")
    assert json_of(app.ask("/me"))["is_authenticated"] is False
    assert code_of(app.ask("/me", "x")) == "token_invalid"
    assert code_of(app.ask("/auth/sessions")) == "token_missing"


# -- CORS ------------------------------------------------------------------------------------------------------------------


def with_cors(cors_first: bool, **arguments: Any) -> App:
    app = App(before=CORS if cors_first else None, **arguments)
    if not cors_first:
        CORS(app)
    return app


def in_a_browser(response: TestResponse) -> int:
    """The status, if a script of another origin may see it."""
    assert response.headers["Access-Control-Allow-Origin"] in ("*", ORIGIN)
    return response.status_code


@CORSOrder
def test_refusals_carry_cors_headers(cors_first: bool) -> None:
    app = with_cors(cors_first, max_sessions=1, on_limit="deny")
    token = app.token()
    app.ask("/me", token)
    asked = {
        401: app.ask("/me", Origin=ORIGIN),
        400: app.ask("/auth/sessions?keep=x", token, "DELETE", Origin=ORIGIN),
        403: app.ask("/admin", token, Origin=ORIGIN),
        409: app.ask("/login", method="POST", Origin=ORIGIN),
        200: app.ask("/auth/sessions", token, Origin=ORIGIN),
        204: app.ask("/auth/logout", token, "POST", Origin=ORIGIN),
    }
    app.store.down = True
    asked[503] = app.ask("/login", method="POST", Origin=ORIGIN)
    assert [in_a_browser(response) for response in asked.values()] == list(asked)
    assert in_a_browser(app.ask("/auth/sessions", Origin=ORIGIN)) == 401


@CORSOrder
@pytest.mark.parametrize(("path", "method"), [("/me", "GET"), ("/auth/logout", "POST"), ("/auth/sessions/x", "DELETE")])
def test_preflights(cors_first: bool, path: str, method: str) -> None:
    app = with_cors(cors_first)
    asked = {"Access_Control_Request_Method": method, "Access_Control_Request_Headers": "authorization"}
    response = app.ask(path, method="OPTIONS", Origin=ORIGIN, **asked)
    assert in_a_browser(response) == 200
    assert method in response.headers["Access-Control-Allow-Methods"]
    assert response.headers["Access-Control-Allow-Headers"] == "authorization"
    assert app.ask(path, method="OPTIONS", Origin=ORIGIN).status_code == 401


# -- the app's error handlers and hooks ------------------------------------------------------------------------------------


@pytest.mark.parametrize("later", [True, False])
@pytest.mark.parametrize("kind", [AuthError, JWTGuardError])
def test_the_apps_handler_for_a_class_wins(kind: type[JWTGuardError], later: bool) -> None:
    def handle(error: JWTGuardError) -> tuple[str, int]:
        return f"own {error.code}", 418

    app = App(before=None if later else lambda flask: flask.register_error_handler(kind, handle))
    if later:
        app.register_error_handler(kind, handle)
    assert (app.ask("/me").status_code, app.ask("/me").data) == (418, b"own token_missing")
    assert app.ask("/admin", app.token()).status_code == (403 if kind is AuthError else 418)


@pytest.mark.parametrize("later", [True, False])
def test_the_apps_handler_for_a_status_wins(later: bool) -> None:
    def handle(error: HTTPException) -> Response:
        return Response(f"own {error.code} {error.description}", 401, error.get_response().headers)

    app = App(before=None if later else lambda flask: flask.register_error_handler(401, handle))
    if later:
        app.register_error_handler(401, handle)
    refused = app.ask("/me")
    assert (refused.status_code, refused.data) == (401, b"own 401 This resource needs an access token.")
    assert refused.headers["WWW-Authenticate"] == 'Bearer realm="jwtguard"'
    assert code_of(app.ask("/admin", app.token())) == "scope_missing"


def test_nobody_is_known_in_a_handler_of_refusals() -> None:
    """Not even one whom another guard, around this app, has let in."""
    app = App()
    app.register_error_handler(AuthError, lambda error: request.environ["jwtguard.identity"].to_dict())
    outer = Identity("mallory", "", "", (), "another guard", 0)
    response = app.test_client().get("/me", environ_overrides={"jwtguard.identity": outer})
    assert json_of(response)["is_authenticated"] is False


def test_a_blueprints_handler_for_a_status_wins_in_the_blueprint() -> None:
    blueprint = Blueprint("own", "own")
    blueprint.add_url_rule("/own/x", "x", lambda: "x")
    blueprint.register_error_handler(401, lambda error: ("own", 401))
    app = App()
    app.register_blueprint(blueprint)
    assert app.ask("/own/x").data == b"own"
    assert code_of(app.ask("/me")) == "token_missing"
    assert app.ask("/own/x", app.token()).data == b"x"


def test_a_handler_for_everything_else_is_not_in_the_way() -> None:
    app = App()
    app.register_error_handler(Exception, lambda error: ("oops", 500))
    assert code_of(app.ask("/me")) == "token_missing"


@pytest.mark.parametrize("read", ["data", "json", "form"])
def test_an_app_that_reads_every_body_before_its_views_breaks_no_endpoint(read: str) -> None:
    def hook() -> None:
        if read == "data":
            request.get_data()
        elif read == "json":
            request.get_json(silent=True)
        else:
            assert isinstance(dict(request.form), dict)

    app = App(before=lambda app: app.before_request(hook))
    for asked in ("json", "data"):
        pair = app.login()
        sent: Any = {asked: {"refresh_token": pair["refresh_token"]}}
        assert app.test_client().post("/auth/refresh", **sent).status_code == 200
        assert app.test_client().post("/auth/logout", **sent).status_code == 204
    twice = app.test_client().post("/auth/refresh", data={"refresh_token": ["a", "b"]})
    assert (twice.status_code, code_of(twice)) == (400, "request_invalid")
    long = app.test_client().post("/auth/refresh", data={"refresh_token": "x" * 17_000})
    assert (long.status_code, code_of(long)) == (413, "body_too_large")


def test_the_guard_comes_before_the_apps_own_hooks_and_after_them() -> None:
    seen: list[str] = []

    def before(flask: Flask) -> None:
        flask.before_request(lambda: seen.append(current_identity().subject))

    app = App(before=before)

    @app.after_request
    def after(response: Response) -> Response:
        response.headers["Cache-Control"] = "public"
        response.headers["X-After"] = "1"
        return response

    assert app.ask("/me").headers["X-After"] == "1"
    assert seen == []
    token = app.token()
    app.ask("/me", token)
    assert seen == ["", "alice"]
    assert app.test_client().post("/login").headers["Cache-Control"] == "no-store"


def test_nothing_of_a_request_is_left() -> None:
    app = App()
    token = app.token()
    with app.test_client() as client:
        client.get("/me", headers={"Authorization": f"Bearer {token}"})
        assert current_identity().subject == "alice"  # the client keeps Flask's request
        assert REQUEST.get() is None
    assert not current_identity().is_authenticated


def test_a_streamed_answer_knows_its_request() -> None:
    app = App()

    @app.get("/stream")
    def stream() -> Response:
        def parts() -> Iterator[str]:
            yield "for "
            yield current_identity().subject

        return Response(stream_with_context(parts()))

    assert app.ask("/stream", app.token()).data == b"for alice"


def test_the_identity_in_a_template() -> None:
    app = App()
    text = "{{ request.environ['jwtguard.identity'].display_name }}"
    app.add_url_rule("/page", "page", lambda: render_template_string(text))
    assert app.ask("/page", app.token()).data == b"alice"


# -- decorators ------------------------------------------------------------------------------------------------------------


class Views:
    """The same views, as a blueprint of an app factory."""

    def __init__(self, guard: JWTGuard) -> None:
        self.blueprint = Blueprint("decorated", "decorated", url_prefix="/decorated")
        self.blueprint.get("/below")(guard.public(lambda: who()))
        self.blueprint.get("/method")(guard.public(self.method))
        self.blueprint.add_url_rule("/class", view_func=guard.public(_View.as_view("class")))
        guard.public(self.blueprint.get("/above")(_above))
        self.blueprint.add_url_rule("/admin", view_func=guard.requires("admin", "more")(_above), endpoint="admin")
        self.blueprint.add_url_rule("/known", view_func=guard.public(guard.requires()(_below)), endpoint="known")
        self.blueprint.add_url_rule("/plain", "plain", lambda: "plain")

    def method(self) -> str:
        return who()


def who() -> str:
    return current_identity().subject or "nobody"


def _above() -> str:
    return who()


def _below() -> str:
    """Its own words."""
    return who()


def test_public_views_and_those_that_require_scopes() -> None:
    guard = JWTGuard(store="memory://", rules="/decorated/rule: admin")
    views = Views(guard)
    apps = [Flask("one"), Flask("two")]
    for app in apps:
        guard.init_app(app)
        app.register_blueprint(views.blueprint)
        app.add_url_rule("/decorated/rule", "rule", guard.public(lambda: "rule"))
        client = app.test_client()
        with app.app_context():
            alice = {"Authorization": f"Bearer {guard.login('alice').access_token}"}
            admin = {"Authorization": f"Bearer {guard.login('bob', scopes=['more', 'admin']).access_token}"}
        for path in ("/decorated/below", "/decorated/method", "/decorated/above"):
            for headers, name in (({}, b"nobody"), ({"Authorization": "Bearer x"}, b"nobody"), (alice, b"alice")):
                assert client.get(path, headers=headers).data == name
        assert client.get("/decorated/class").status_code == 200
        assert client.post("/decorated/below").status_code == 401  # a method that it doesn't have is no view
        for path in ("/decorated/plain", "/decorated/rule", "/decorated/known", "/decorated/admin", "/decorated/unknown"):
            assert code_of(client.get(path)) == "token_missing"
        assert client.get("/decorated/known", headers=alice).data == b"alice"
        refused = client.get("/decorated/admin", headers=alice)
        assert (refused.status_code, code_of(refused)) == (403, "scope_missing")
        assert refused.headers["WWW-Authenticate"].endswith('scope="admin more"')
        assert client.get("/decorated/admin", headers=admin).data == b"bob"


def test_what_decorators_leave() -> None:
    guard = JWTGuard()
    decorated = guard.requires("admin")(_below)
    assert (decorated.__name__, decorated.__doc__) == ("_below", "Its own words.")
    assert guard.public(_above) is _above
    with pytest.raises(ValueError, match="scope"):
        guard.requires("two words")


# -- configuration ---------------------------------------------------------------------------------------------------------


def test_an_app_factory_reads_nothing_before_init_app(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JWTGUARD_SECRET")
    guard = JWTGuard(public="/login")
    app = Flask("factory")
    with pytest.raises(ConfigError, match="JWTGUARD_SECRET"):
        guard.init_app(app)
    app.config["JWTGUARD_SECRET"] = SECRET
    app.config["JWTGUARD_STORE"] = "memory://"
    guard.init_app(app)
    app.add_url_rule("/login", "login", lambda: guard.login("alice").to_dict())
    assert app.test_client().get("/login").status_code == 200


def test_app_config_wins_over_the_arguments_and_they_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JWTGUARD_REALM", "of the environment")
    monkeypatch.setenv("JWTGUARD_PUBLIC", "/environment")
    monkeypatch.setenv("JWTGUARD_LEEWAY", "7")
    app = App(config={"JWTGUARD_REALM": "of the app"}, realm="an argument", public="/argument")
    with app.app_context():
        settings = app.guard.settings
    assert (settings.realm, settings.public, settings.leeway) == ("of the app", "/argument", 7)


def test_settings_that_an_app_gives_in_its_config() -> None:
    parts: dict[str, Any] = {"JWTGUARD_STORE": MemoryStore(), "JWTGUARD_REMOTE_USER": True, "JWTGUARD_ISSUER": None}
    app = Flask("app")
    app.config.update(parts)
    JWTGuard(app)
    assert app.extensions["jwtguard"].settings.remote_user is True
    other = Flask("other")
    other.config["JWTGUARD_RULE"] = "/admin: admin"
    with pytest.raises(ConfigError, match="rules"):
        JWTGuard(other, store="memory://")


def test_from_env_is_the_same_as_the_class() -> None:
    guard = JWTGuard.from_env(store="memory://", public="/")
    app = Flask("app")
    guard.init_app(app)
    assert app.extensions["jwtguard"].settings.public == "/"


def test_endpoints_elsewhere_and_off() -> None:
    app = App(endpoints="/session")
    assert app.ask("/session/logout", app.token(), "POST").status_code == 204
    off = App(endpoints="off")
    assert off.ask("/auth/logout", off.token(), "POST").status_code == 404


def test_two_apps_with_one_guard() -> None:
    guard, clock = JWTGuard(public="/login"), FakeClock()
    apps = [Flask("one"), Flask("two")]
    for app, issuer in zip(apps, ("one", "two"), strict=True):
        app.config.update(JWTGUARD_ISSUER=issuer, JWTGUARD_STORE=MemoryStore(clock), JWTGUARD_CLOCK=clock)
        guard.init_app(app)
        app.add_url_rule("/login", "login", lambda: guard.login("alice").to_dict())
        app.add_url_rule("/me", "me", lambda: current_identity().to_dict())
    token = json_of(apps[0].test_client().get("/login"))["access_token"]
    answers = [app.test_client().get("/me", headers={"Authorization": f"Bearer {token}"}) for app in apps]
    assert [answer.status_code for answer in answers] == [200, 401]
    with apps[1].app_context():
        assert guard.sessions("alice") == []
        guard.close()
    with apps[0].app_context():
        assert len(guard.sessions("alice")) == 1


def test_the_methods_work_where_there_is_a_guarded_app() -> None:
    guard = JWTGuard()
    with pytest.raises(RuntimeError, match="application context"):
        guard.sessions("alice")
    with Flask("other").app_context(), pytest.raises(ConfigError, match="init_app"):
        guard.sessions("alice")
    app = App()
    with app.app_context():
        pair = app.guard.login("alice")
        assert isinstance(pair, TokenPair)
        assert app.guard.authenticate(pair.access_token).subject == "alice"
        assert isinstance(app.extensions["jwtguard"], Guard)


def test_an_app_that_is_not_guarded_has_no_identities() -> None:
    """Rather an error than the anonymous identity, which would look like a guard that lets all in."""
    assert current_identity() == ANONYMOUS, "outside of any request"
    with Flask("other").test_request_context("/"), pytest.raises(ConfigError, match="init_app"):
        current_identity()


def test_what_is_no_flask_app_is_refused() -> None:
    for wrong in (object(), Guard(Settings(secret=SECRET, store="memory://"))):
        with pytest.raises(ConfigError, match="init_app takes a Flask app, not"):
            JWTGuard(wrong)  # type: ignore[arg-type]


def test_an_app_is_guarded_once() -> None:
    app = App()
    with pytest.raises(ConfigError, match="already"):
        app.guard.init_app(app)
    with pytest.raises(ConfigError, match="already"):
        JWTGuard(app)


# -- routes ----------------------------------------------------------------------------------------------------------------

COLLIDING: dict[str, Callable[[Flask], object]] = {
    "the same": lambda app: app.add_url_rule("/auth/logout", "mine", lambda: "", methods=["POST"]),
    "among others": lambda app: app.add_url_rule("/auth/refresh", "mine", lambda: "", methods=["GET", "POST"]),
    "another name": lambda app: app.add_url_rule("/auth/sessions/<x>", "mine", lambda x: "", methods=["DELETE"]),
    "a converter": lambda app: app.add_url_rule("/auth/sessions/<int:x>", "mine", lambda x: "", methods=["DELETE"]),
    "one of the ids": lambda app: app.add_url_rule("/auth/sessions/all", "mine", lambda: "", methods=["DELETE"]),
    "a view": lambda app: app.add_url_rule("/auth/sessions", view_func=_View.as_view("mine")),
    "a blueprint": lambda app: app.register_blueprint(_blueprint(), url_prefix="/auth"),
}


class _View(MethodView):
    def get(self) -> str:
        return ""


def _blueprint() -> Blueprint:
    blueprint = Blueprint("mine", "mine")
    blueprint.add_url_rule("/logout", "out", lambda: "", methods=["POST"])
    return blueprint


@pytest.mark.parametrize("add", COLLIDING.values(), ids=COLLIDING)
@pytest.mark.parametrize("later", [True, False])
def test_a_collision_is_an_error_at_start(add: Callable[[Flask], object], later: bool) -> None:
    app = App() if later else None
    with pytest.raises(ConfigError, match="takes the place"):
        add(app) if app is not None else App(before=add)
    add(App(endpoints="off"))


@pytest.mark.parametrize("later", [True, False])
def test_a_catch_all_hides_no_endpoint(later: bool) -> None:
    def add(app: Flask) -> None:
        methods = ["GET", "POST", "DELETE"]
        app.add_url_rule("/<path:rest>", "all", lambda rest: f"all {rest}", methods=methods)
        app.add_url_rule("/auth/<path:rest>", "below", lambda rest: f"below {rest}", methods=methods)
        app.add_url_rule("/auth/sessions/<path:rest>", "far", lambda rest: f"far {rest}", methods=methods)
        app.add_url_rule("/auth/<one>", "one", lambda one: f"one {one}", methods=methods)
        app.add_url_rule("/<one>/<two>", "two", lambda one, two: f"two {one} {two}", methods=methods)

    app = App(before=None if later else add)
    if later:
        add(app)
    pair, other = app.login(), app.login()
    assert app.ask(f"/auth/sessions/{other['session_id']}", pair["access_token"], "DELETE").status_code == 204
    assert json_of(app.ask("/auth/sessions", pair["access_token"]))[0]["id"] == pair["session_id"]
    assert app.ask("/auth/logout", pair["access_token"]).data == b"one logout"
    assert app.ask("/auth/logout").status_code == 401
    assert app.ask("/auth/logout", pair["access_token"], "POST").status_code == 204
    for path in ("/auth/x", "/auth/sessions/x/y", "/any"):
        assert app.ask(path, method="POST").status_code == 401


def test_an_app_that_calls_things_like_jwtguard_is_guarded() -> None:
    """The names of its own routes decide nothing."""
    blueprint = Blueprint("jwtguard", "own")
    blueprint.add_url_rule("/own/x", "x", lambda: "x")
    app = App()
    app.register_blueprint(blueprint)
    assert app.ask("/own/x").status_code == 401


def test_blueprints_are_guarded() -> None:
    app = App(rules="/reports/*: admin")
    blueprint = Blueprint("reports", "reports", url_prefix="/reports")
    blueprint.add_url_rule("/<name>", "one", lambda name: name)
    app.register_blueprint(blueprint)
    assert app.ask("/reports/x").status_code == 401
    assert app.ask("/reports/x", app.token()).status_code == 403
    assert app.ask("/reports/x", app.token("bob")).data == b"x"


def test_mounted_apps() -> None:
    """Each guards itself, below its own mount point."""
    inner, outer = App(), App()
    outer.wsgi_app = DispatcherMiddleware(outer.wsgi_app, {"/inner": inner.wsgi_app})  # type: ignore[method-assign]
    token = json_of(outer.ask("/inner/login", method="POST"))["access_token"]
    assert json_of(outer.ask("/inner/me", token))["subject"] == "alice"
    assert outer.ask("/inner/auth/logout", token, "POST").status_code == 204
    assert outer.ask("/inner/me", token).status_code == 401
    assert outer.ask("/inner/me").status_code == 401


def test_abort_is_the_apps_own_matter() -> None:
    app = App()

    def stop() -> str:
        abort(401, "own words")

    app.add_url_rule("/stop", "stop", stop)
    response = app.ask("/stop", app.token())
    assert b"own words" in response.data
    assert "WWW-Authenticate" not in response.headers


def test_c35_nothing_is_echoed_or_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    app = App()
    response = app.ask("/secret-path-of-mine", "eyJ-secret-token", Cookie="secret=cookie")
    assert b"secret" not in response.data
    assert "secret" not in caplog.text


def test_what_the_guard_raises_is_what_views_catch() -> None:
    app = App(max_sessions=1, on_limit="deny")

    def careful() -> str:
        try:
            app.guard.login("alice")
        except LimitReached as full:
            return f"{len(full.sessions)} already"
        except StoreUnavailable:
            return "down"
        return "in"

    app.add_url_rule("/careful", "careful", careful)
    token = app.token("bob")
    app.ask("/me", app.token())
    assert app.ask("/careful", token).data == b"1 already"


def test_without_flask_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "flask", None)
    spec = spec_from_file_location("jwtguard._flask_again", jwtguard.flask.__file__)
    assert spec is not None
    assert spec.loader is not None
    with pytest.raises(ConfigError, match=r"pip install 'jwtguard-middleware\[flask\]'"):
        spec.loader.exec_module(module_from_spec(spec))
