"""The request that is being served, for what a view calls on the guard (which device? whose session?).

The faces set the ASGI scope or the WSGI environ itself: one context variable, nothing copied. What is wanted of it is read
here, and only when it is wanted.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from contextvars import ContextVar, Token
from typing import Any, Final

from .model import ANONYMOUS, Device, Identity

__all__ = [
    "IDENTITY",
    "NO_STORE",
    "REQUEST",
    "begin",
    "current_device",
    "current_identity",
    "forbid_storing",
    "forget",
    "set_identity",
]

IDENTITY: Final = "jwtguard.identity"
NO_STORE: Final = "jwtguard.no_store"
OVER: Final = "jwtguard.over"
LONGEST_NAME: Final = 64
LONGEST_ADDRESS: Final = 64

REQUEST: ContextVar[MutableMapping[str, Any] | None] = ContextVar("jwtguard_request", default=None)
"""The ASGI scope or WSGI environ of the current request."""


def begin(request: MutableMapping[str, Any]) -> Token[MutableMapping[str, Any] | None]:
    """A request is served from here on, perhaps by a second app after the first has declined it."""
    request.pop(OVER, None)
    return REQUEST.set(request)


def forget(request: MutableMapping[str, Any]) -> None:
    """A request is over. A task that was started in it goes on with its context, and must not act in its name."""
    request[OVER] = True


def _current() -> MutableMapping[str, Any] | None:
    request = REQUEST.get()
    return None if request is None or OVER in request else request


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
    if (request := REQUEST.get()) is not None:
        request[NO_STORE] = True


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
