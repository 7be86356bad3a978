"""The request that is being served, for what a view calls on the guard (which device? whose session?).

The faces set the ASGI scope or the WSGI environ itself: one context variable, nothing copied. What is wanted of it is read
here, and only when it is wanted.

It is also the one way to the response: whoever works for a request, a view's call or an endpoint, says here which headers
its response is to have, and the face puts them there, once, whatever the response is.
"""

from __future__ import annotations

from collections.abc import Iterable, MutableMapping
from contextvars import ContextVar
from typing import Any, Final, NamedTuple

from .model import ANONYMOUS, Device, Identity

__all__ = [
    "IDENTITY",
    "OVER",
    "REQUEST",
    "WANTED",
    "SetCookie",
    "Wanted",
    "current_device",
    "current_identity",
    "forbid_storing",
    "set_cookie",
    "set_identity",
]

IDENTITY: Final = "jwtguard.identity"
OVER: Final = "jwtguard.over"
"""Where a request says whether it is over. A task that was started in it goes on with its context, and must not act in its
name. A second app may serve it after the first has declined: then it isn't over any more."""
WANTED: Final = "jwtguard.wanted"
"""Where a request has its `Wanted`, if it has one."""
LONGEST_NAME: Final = 64
LONGEST_ADDRESS: Final = 64

REQUEST: ContextVar[MutableMapping[str, Any] | None] = ContextVar("jwtguard_request", default=None)
"""The ASGI scope or WSGI environ of the current request."""


class SetCookie(NamedTuple):
    """A cookie that a response sets, with the attributes that all of jwtguard's have (RFC 6265bis section 4.1).

    `max_age` is in seconds; 0 removes the cookie.
    """

    name: str
    value: str
    path: str
    max_age: int

    @property
    def header(self) -> str:
        """The value of the Set-Cookie field."""
        return f"{self.name}={self.value}; Max-Age={self.max_age}; Path={self.path}; Secure; HttpOnly; SameSite=Lax"


class Wanted:
    """What the guard wants on the response to one request: `headers` in place of the response's own, and `cookies`."""

    __slots__ = ("cookies", "headers")

    def __init__(self) -> None:
        self.headers: dict[str, str] = {}
        self.cookies: dict[str, SetCookie] = {}

    def on(self, headers: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
        """A response's headers with these. To put them on twice is the same as once."""
        replaced = {name.lower() for name in self.headers}
        kept = [(name, value) for name, value in headers if name.lower() not in replaced and not self._sets(name, value)]
        return [*kept, *self.headers.items(), *(("Set-Cookie", cookie.header) for cookie in self.cookies.values())]

    def _sets(self, name: str, value: str) -> bool:
        """Whether a header sets a cookie that is set here."""
        return name.lower() == "set-cookie" and value.partition("=")[0] in self.cookies


def _current() -> MutableMapping[str, Any] | None:
    request = REQUEST.get()
    return None if request is None or request.get(OVER) else request


def current_identity() -> Identity:
    """The identity of the current request; the anonymous one outside of any."""
    request = _current()
    identity = request.get(IDENTITY, ANONYMOUS) if request is not None else ANONYMOUS
    return identity if isinstance(identity, Identity) else ANONYMOUS


def current_device() -> Device:
    """The device of the current request, by its user agent and the server's word for its address; else an empty one."""
    request = _current()
    if request is None:
        return Device()
    user_agent, address = _of_scope(request) if "type" in request else _of_environ(request)
    return Device(device_name(user_agent), user_agent or None, address[:LONGEST_ADDRESS] or None)


def set_identity(identity: Identity) -> None:
    """Set the identity of the current request."""
    if (request := REQUEST.get()) is not None:
        request[IDENTITY] = identity


def forbid_storing() -> None:
    """Have the answer to the current request marked `Cache-Control: no-store` (RFC 6749 section 5.1)."""
    if (wanted := _wanted()) is not None:
        wanted.headers["Cache-Control"] = "no-store"


def set_cookie(cookie: SetCookie) -> None:
    """Have the answer to the current request set a cookie. Of several by one name, the last counts."""
    if (wanted := _wanted()) is not None:
        wanted.cookies[cookie.name] = cookie


def _wanted() -> Wanted | None:
    request = REQUEST.get()
    return None if request is None else request.setdefault(WANTED, Wanted())


def _of_scope(scope: MutableMapping[str, Any]) -> tuple[str, str]:
    agents = [value for name, value in scope.get("headers", ()) if name == b"user-agent"]
    client = scope.get("client")
    return (agents[0].decode("latin-1") if agents else "", str(client[0] or "") if client else "")


def _of_environ(environ: MutableMapping[str, Any]) -> tuple[str, str]:
    return environ.get("HTTP_USER_AGENT", ""), environ.get("REMOTE_ADDR", "")


_BROWSERS: Final = (
    ("Edg", "Edge"),
    ("OPR/", "Opera"),
    ("SamsungBrowser", "Samsung Internet"),
    ("Firefox", "Firefox"),
    ("FxiOS", "Firefox"),
    ("CriOS", "Chrome"),
    ("Chrome", "Chrome"),
    ("Safari", "Safari"),
)
_SYSTEMS: Final = (
    ("iPhone", "iPhone"),
    ("iPad", "iPad"),
    ("Android", "Android"),
    ("CrOS", "ChromeOS"),
    ("Windows", "Windows"),
    ("Mac OS X", "macOS"),
    ("Linux", "Linux"),
)


def device_name(user_agent: str) -> str:
    """What a person can recognise of a user agent: "Firefox on Linux"; else its first product ("curl")."""
    if not user_agent.startswith("Mozilla/"):
        product = user_agent.split("/")[0].split(" ")[0]
        return "".join(character for character in product if character.isprintable())[:LONGEST_NAME]
    browser = next((name for mark, name in _BROWSERS if mark in user_agent), "A browser")
    system = next((name for mark, name in _SYSTEMS if mark in user_agent), "")
    return f"{browser} on {system}" if system else browser
