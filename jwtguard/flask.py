"""For Flask: the guard inside the app's CORS and error handling, and the endpoints as its routes.

    guard = JWTGuard()

    def create_app():
        app = Flask(__name__)
        guard.init_app(app)
        return app

    @app.get("/about")
    @guard.public
    def about(): ...

    @app.get("/admin")
    @guard.requires("admin")
    def admin(): ...

Refusals are raised in a `before_request`, so they pass through the app's error handlers (for the error's class, or for its
status) and `after_request` functions.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, TypeVar, cast

from .context import IDENTITY, REQUEST, WANTED
from .core import Core
from .endpoints import Endpoint, Endpoints
from .errors import ConfigError, JWTGuardError
from .flow import Flow
from .gate import Gate, check_user, checking
from .guard import Guard, GuardMethods, take_arguments
from .inputs import checked_scopes
from .model import ANONYMOUS, Identity
from .settings import Settings
from .wsgi import LiveBody, admit, remove_forged, response_of, serve, set_remote_user

try:
    from flask import Flask, Response, current_app, has_request_context, request
    from flask.typing import ResponseReturnValue
    from werkzeug.datastructures import Headers
    from werkzeug.exceptions import default_exceptions
    from werkzeug.routing import Rule
except ImportError as error:
    raise ConfigError("jwtguard.flask needs Flask: pip install 'jwtguard-middleware[flask]'") from error

__all__ = ["JWTGuard", "current_identity"]

T = TypeVar("T")
V = TypeVar("V", bound=Callable[..., Any])

CONFIG_PREFIX = "JWTGUARD_"
DEFAULT_PREFIX = "/auth"
PUBLIC = "jwtguard_public"
"""The attribute of a view that needs no token."""


def current_identity() -> Identity:
    """The identity of the current request, as long as Flask has one (in a streamed body, too); else the anonymous one.

    Raises ConfigError in a request of an app that isn't guarded: nobody was asked for a token.
    """
    if not has_request_context():
        return ANONYMOUS
    identity = request.environ.get(IDENTITY)
    if not isinstance(identity, Identity):
        raise ConfigError("this Flask app is not guarded, so a request has no identity: call guard.init_app(app)")
    return identity


class JWTGuard(GuardMethods):
    """A Guard for Flask apps. Its methods work within an app context, for the guard of that app.

    Arguments: `app`, to be guarded at once; `arguments`, those of `Guard.from_env`. A value in `app.config` under
    `JWTGUARD_…` wins over them, and over the environment; none is read before `init_app`.
    """

    def __init__(self, app: Flask | None = None, **arguments: Any) -> None:
        self._arguments = arguments
        if app is not None:
            self.init_app(app)

    @classmethod
    def from_env(cls, **overrides: Any) -> JWTGuard:
        """The same as the class: the environment is read by `init_app`."""
        return cls(None, **overrides)

    def init_app(self, app: Flask) -> None:
        """Guard an app. Raises ConfigError for bad settings, for an app that is guarded already, and for a route that takes
        the place of an endpoint: one that is added later raises it where it is added."""
        if not isinstance(app, Flask):
            raise ConfigError(f"init_app takes a Flask app, not {type(app).__name__}")
        if "jwtguard" in app.extensions:
            raise ConfigError("this Flask app is guarded already: call init_app once")
        settings = self._arguments | {
            name.removeprefix(CONFIG_PREFIX).lower(): value
            for name, value in app.config.items()
            if name.startswith(CONFIG_PREFIX)
        }
        arguments = take_arguments(settings)
        guard = Guard(Settings.from_env(**settings), **arguments)
        _Guarded(guard).add_to(app)
        app.extensions["jwtguard"] = guard

    def public(self, view: V) -> V:
        """For a view, plain or async, of an app or a blueprint: it needs no token. A good one gives its identity, a bad one
        is ignored, as for a path in PUBLIC; and as there, a rule in RULES goes first. Above or below `@app.route`: it marks
        the function, so each route to it is public."""
        setattr(getattr(view, "__func__", view), PUBLIC, True)
        return view

    def requires(self, *scopes: str) -> Callable[[V], V]:
        """For a view, plain or async, of an app or a blueprint: who isn't authenticated gets 401, and who lacks one of the
        scopes 403. Below `@app.route`."""
        needed = checked_scopes(scopes)

        def check(*arguments: Any, **options: Any) -> None:
            del arguments, options
            check_user(current_identity(), needed)

        return lambda view: checking(view, check)

    @property
    def core(self) -> Core:
        """The parts of the current app's guard."""
        return self._of_app().core

    def perform(self, flow: Flow[T]) -> T:
        """Run a flow on the current app's guard."""
        return self._of_app().perform(flow)

    def close(self) -> None:
        """Let go of the connections of the current app's guard."""
        self._of_app().close()

    def _of_app(self) -> Guard:
        guard = current_app.extensions.get("jwtguard")
        if not isinstance(guard, Guard):
            raise ConfigError("this Flask app is not guarded: call guard.init_app(app)")
        return guard


class _Guarded:
    """What one guarded app has of jwtguard: its hooks and its routes."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        self._gate = Gate(guard.core, DEFAULT_PREFIX)
        self._endpoints = Endpoints(guard.core, self._gate)
        self._methods: dict[str | None, str] = {}
        """The method of each endpoint, by the name of its route."""

    def add_to(self, app: Flask) -> None:
        for rule in app.url_map.iter_rules():
            self._check_collision(rule)
        for endpoint, path in self._endpoints.routes():
            name = f"jwtguard.{endpoint.name}"
            self._methods[name] = endpoint.method
            app.add_url_rule(
                path.replace("{id}", "<session_id>"), name, partial(self._serve, endpoint), methods=[endpoint.method]
            )
        app.url_rule_class = _checking(app.url_rule_class, self._check_collision)  # type: ignore[assignment]
        app.before_request_funcs.setdefault(None, []).insert(0, self._before_request)
        app.after_request_funcs.setdefault(None, []).insert(0, self._after_request)
        app.teardown_request(_forget_request)
        app.error_handler_spec[None][None].setdefault(JWTGuardError, self._handle)

    def _before_request(self) -> None:
        environ = request.environ
        REQUEST.set(environ)
        remove_forged(environ)  # and nobody is known, for the app's error handlers, if the request is refused
        is_for_endpoint = self._methods.get(request.endpoint) == request.method  # not its OPTIONS, which Flask answers
        identity = ANONYMOUS
        if not is_for_endpoint:
            view = current_app.view_functions.get(request.endpoint or "")
            identity = admit(self._guard, self._gate, environ, public=getattr(view, PUBLIC, False))
        environ[IDENTITY] = identity
        if self._guard.settings.remote_user:
            set_remote_user(environ, identity)

    def _after_request(self, response: Response) -> Response:
        if WANTED in request.environ:
            response.headers = Headers(request.environ[WANTED].on(response.headers))
        identity = request.environ.get(IDENTITY, ANONYMOUS)
        if response.is_streamed and not response.direct_passthrough and identity.is_authenticated:
            parts = cast("Iterable[bytes]", response.response)  # or str: it is encoded on its way out
            response.response = LiveBody(parts, identity, self._guard, response)
        return response

    def _serve(self, endpoint: Endpoint, session_id: str = "") -> Response:
        flow = serve(self._endpoints, (endpoint, session_id), request.environ, request)
        return response_of(self._guard.perform(flow), Response)

    def _handle(self, error: JWTGuardError) -> ResponseReturnValue:
        """Answer an error for which the app has no handler, be it for the class or for the status."""
        response = response_of(self._endpoints.refuse(error), Response)
        handlers = current_app.error_handler_spec
        if not any(handlers[place][error.status] for place in (*request.blueprints, None)):
            return response
        return current_app.handle_http_exception(default_exceptions[error.status](error.detail, response))

    def _check_collision(self, rule: Rule) -> None:
        path = re.sub(r"<(?!path:)[^<>]*>", "x", rule.rule)
        if "<" not in path:  # one that takes what other routes leave doesn't hide them
            self._endpoints.check_collision(path, rule.methods)


def _checking(make: Callable[..., Rule], check: Callable[[Rule], None]) -> Callable[..., Rule]:
    """Makes a Flask app's rules, and checks each."""

    def make_checked(*arguments: Any, **options: Any) -> Rule:
        rule = make(*arguments, **options)
        check(rule)
        return rule

    return make_checked


def _forget_request(error: BaseException | None) -> None:
    del error
    REQUEST.set(None)
