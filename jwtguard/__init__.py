"""jwtguard: sessions you can see, limit and end at once, for less than the price of a signature check.

`Guard` for WSGI and scripts, `AsyncGuard` for ASGI; `jwtguard.flask`, `jwtguard.fastapi` and `jwtguard.starlette` put them
inside an app. No framework and no database driver is imported here.
"""

from __future__ import annotations

from . import asgi, wsgi
from ._version import __version__
from .errors import (
    AuthError,
    ConfigError,
    JWTGuardError,
    LimitReached,
    ScopeMissing,
    StoreUnavailable,
)
from .guard import AsyncGuard, Guard
from .model import Coherence, Device, Event, Identity, Session, TokenPair
from .settings import Settings

__all__ = [
    "AsyncGuard",
    "AuthError",
    "Coherence",
    "ConfigError",
    "Device",
    "Event",
    "Guard",
    "Identity",
    "JWTGuardError",
    "LimitReached",
    "ScopeMissing",
    "Session",
    "Settings",
    "StoreUnavailable",
    "TokenPair",
    "__version__",
    "asgi",
    "wsgi",
]
