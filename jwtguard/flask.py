"""For Flask: the guard inside the app's CORS and error handling, and the endpoints as its routes.

    guard = JWTGuard()

    def create_app():
        app = Flask(__name__)
        guard.init_app(app)
        return app

Refusals are raised in a `before_request`, so they pass through the app's error handlers and `after_request` functions.
"""

from __future__ import annotations

import re
from functools import partial
from typing import Any, TypeVar

from .answers import Answer, answer_to
from .context import NO_STORE, REQUEST
from .core import Core
from .endpoints import Endpoint, Endpoints
from .errors import ConfigError, JWTGuardError
from .flow import Flow
from .gate import Gate
from .guard import Guard
from .model import ANONYMOUS
from .wsgi import admit, remove_forged, serve, set_identity

try:
    from flask import Flask, Response, current_app, request
except ImportError as error:
    raise ConfigError("jwtguard.flask needs Flask: pip install 'jwtguard-middleware[flask]'") from error

__all__ = ["JWTGuard"]

T = TypeVar("T")

CONFIG_PREFIX = "JWTGUARD_"
DEFAULT_PREFIX = "/auth"


class JWTGuard(Guard):
    """A Guard for Flask apps. Its methods work within an app context, for the guard of that app.

    Arguments: `app`, to be guarded at once; `arguments`, those of `Guard.from_env`. A value in `app.config` under
    `JWTGUARD_…` wins over them, and over the environment; none is read before `init_app`.
    """

    def __init__(self, app: Flask | None = None, **arguments: Any) -> None:
        self._arguments = arguments
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Guard an app. Raises ConfigError for bad settings."""
        configured = {
            name.removeprefix(CONFIG_PREFIX).lower(): value
            for name, value in app.config.items()
            if name.startswith(CONFIG_PREFIX)
        }
        guard = Guard.from_env(**{**self._arguments, **configured})
        app.extensions["jwtguard"] = guard
        guarded = _Guarded(guard)
        guarded.add_to(app)

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
        self._gate = Gate(guard.core)
        self._endpoints = Endpoints(guard.core, self._gate, DEFAULT_PREFIX)
        self._checked = False

    def add_to(self, app: Flask) -> None:
        for endpoint, path in self._endpoints.routes():
            app.add_url_rule(
                _rule(path),
                f"jwtguard.{endpoint.name}",
                partial(self._serve, endpoint),
                methods=[endpoint.method],
                provide_automatic_options=False,
            )
        app.before_request_funcs.setdefault(None, []).insert(0, self._before_request)
        app.after_request_funcs.setdefault(None, []).insert(0, _forbid_storing)
        app.teardown_request(_forget_request)
        app.register_error_handler(JWTGuardError, self._handle)

    def _before_request(self) -> None:
        if not self._checked:
            self._check_for_collisions()
        environ = request.environ
        REQUEST.set(environ)
        remove_forged(environ)
        is_endpoint = request.endpoint is not None and request.endpoint.startswith("jwtguard.")
        identity = ANONYMOUS if is_endpoint else admit(self._guard, self._gate, environ)
        set_identity(environ, identity, self._guard.settings.remote_user)

    def _serve(self, endpoint: Endpoint, session_id: str = "") -> Response:
        return _response(serve(self._guard, self._endpoints, (endpoint, session_id), request.environ))

    def _handle(self, error: JWTGuardError) -> Response:
        hooks = self._guard.core.hooks
        return _response(answer_to(error, realm=self._guard.settings.realm, on_error=hooks.on_error))

    def _check_for_collisions(self) -> None:
        """Before the first answer, when all routes are there. Raises ConfigError."""
        ours = {(endpoint.method, _shape(_rule(path))) for endpoint, path in self._endpoints.routes()}
        for rule in current_app.url_map.iter_rules():
            taken = {(method, _shape(rule.rule)) for method in rule.methods or ()} & ours
            if taken and not rule.endpoint.startswith("jwtguard."):
                raise ConfigError(
                    f"the app's route {rule.rule!r} ({rule.endpoint}) takes the place of one of jwtguard's endpoints: "
                    "move it, or set JWTGUARD_ENDPOINTS to another prefix or to off"
                )
        self._checked = True


def _response(answer: Answer) -> Response:
    return Response(answer.body, answer.status, list(answer.headers))


def _rule(path: str) -> str:
    return path.replace("{id}", "<session_id>")


def _shape(rule: str) -> str:
    """A rule without the names of its parameters."""
    return re.sub(r"<[^>]*>", "<>", rule)


def _forbid_storing(response: Response) -> Response:
    if NO_STORE in request.environ:
        response.headers["Cache-Control"] = "no-store"
    return response


def _forget_request(error: BaseException | None) -> None:
    del error
    REQUEST.set(None)
