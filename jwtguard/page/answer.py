"""The page as an answer, with the headers that keep it to what it is; and who gets it."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from typing import Final

from ..answers import Answer
from .model import SessionsPage
from .rendering import STYLE_HASH, render

__all__ = ["PageHook", "page_answer", "prefers_html"]

logger = logging.getLogger("jwtguard")

PageHook = Callable[[SessionsPage], str]
"""Renders the page in place of `render`."""

_CLOSED: Final = "default-src 'none'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'; style-src "
_OWN: Final = f"{_CLOSED}'sha256-{STYLE_HASH}'"
_ANOTHER: Final = f"{_CLOSED}'self'; img-src 'self'; font-src 'self'"

_HEADERS: Final = (
    ("Content-Type", "text/html; charset=utf-8"),
    ("Cache-Control", "no-store"),
    ("X-Content-Type-Options", "nosniff"),
    # Not `no-referrer`: a form would then be posted with `Origin: null`, and refused (Fetch standard, section 3.2).
    ("Referrer-Policy", "same-origin"),
)
_QUALITY: Final = re.compile(r"q=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)")


def page_answer(page: SessionsPage, hook: PageHook | None = None, status: int = 200) -> Answer:
    """The page with its headers. What goes wrong in the app's own hook is logged, and the usual page is sent: a person who
    has lost a device needs one."""
    policy, body = _ANOTHER, b""
    if hook is not None:
        try:
            body = hook(page).encode()
        except Exception:  # another party's code
            logger.exception("the page of the app failed")
    if not body:
        policy, body = _OWN, render(page).encode()
    return Answer(status, (*_HEADERS, ("Content-Security-Policy", policy)), body)


def prefers_html(accept: str) -> bool:
    """Whether an Accept value (RFC 9110 section 12.5.1) asks for HTML by name, and for JSON less: as a navigation does."""
    html, json = (_quality(accept, kind) for kind in ("text/html", "application/json"))
    return html > json


def _quality(accept: str, kind: str) -> float:
    """How much a media type is wanted; 0 where it isn't named."""
    for part in accept.lower().split(","):
        name, *parameters = (each.strip() for each in part.split(";"))
        if name == kind:
            found = [match[1] for match in map(_QUALITY.fullmatch, parameters) if match is not None]
            return float(found[0]) if found else 1.0
    return 0.0
