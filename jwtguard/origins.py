"""Where a request comes from, as browsers tell it (Fetch Metadata; Fetch standard, section 3.2). Pure.

A page can't set or remove the fields that are read here: they belong to the browser.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Final

from .head import RequestHead

__all__ = ["is_cross_site", "is_loopback", "is_speculative", "may_renew"]

_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_LOOPBACK: Final = re.compile(r"(?:(?:.+\.)?localhost|127(?:\.[0-9]{1,3}){3}|\[::1\])(?::[0-9]+)?", re.IGNORECASE)


def is_cross_site(head: RequestHead, trusted: Collection[str]) -> bool:
    """Whether a page of another origin, and not a trusted one, had this request sent, and it may change something.

    Decided as Go's `http.CrossOriginProtection` does. One with neither Sec-Fetch-Site nor Origin is no browser's: they have
    sent one or the other since 2020 with each request that isn't a GET or HEAD. A WebSocket is no safe request: the
    same-origin policy doesn't keep its messages from the page that opens it (RFC 6455 section 10.2).
    """
    if head.method in _SAFE and not head.is_live:
        return False
    site, origin = head.header("SEC_FETCH_SITE"), head.header("ORIGIN")
    if site in ("same-origin", "none"):
        return False
    if not site and (not origin or _host_of(origin) == (head.header("HOST") or "").lower()):
        return False
    return origin not in trusted


def _host_of(origin: str) -> str | None:
    scheme, _, host = origin.partition("://")
    return host.lower() if host and scheme in ("http", "https") else None


def may_renew(head: RequestHead) -> bool:
    """Whether a session may be renewed by a request: one that its own pages make, or that opens a page."""
    if is_speculative(head):
        return False
    opens_a_page = head.header("SEC_FETCH_MODE") == "navigate" and head.header("SEC_FETCH_DEST") == "document"
    return opens_a_page or head.header("SEC_FETCH_SITE") == "same-origin"


def is_speculative(head: RequestHead) -> bool:
    """Whether a browser fetches ahead of what a person may do: such an answer may never be looked at."""
    return any(map(head.header, ("SEC_PURPOSE", "PURPOSE", "X_PURPOSE", "X_MOZ")))


def is_loopback(host: str) -> bool:
    """Whether a Host names this machine, in whose pages browsers trust without TLS."""
    return _LOOPBACK.fullmatch(host) is not None
