"""Cookie mode: the tokens in cookies that no script can read, and how they get there.

- The access token is in a `__Host-` cookie: only this host, over TLS, can have set it (RFC 6265bis section 4.1.3). The
  refresh token is in a `__Secure-` one that goes to the refresh endpoint alone or, to renew silently, in a `__Host-` one.
- Names and attributes are the same everywhere, so nothing that a client says can weaken them. Chromium and Firefox keep
  such cookies from http://localhost, too.
- Cookies are set by a login and by a refresh that a cookie asked for, and removed by an explicit ending alone: an answer
  that refuses never removes any, since it may come later than another's that set them.
"""

from __future__ import annotations

import logging
from typing import Final, NamedTuple
from urllib.parse import quote

from .context import REQUEST, SetCookie, forbid_storing, set_cookie
from .errors import CrossSite, RequestInvalid
from .head import RequestHead
from .model import TokenPair
from .origins import is_cross_site, is_loopback
from .settings import Settings

__all__ = ["ROOM", "CookieMode", "can_hand_over", "check_origin", "hand_over", "read_cookies", "take_back"]

logger = logging.getLogger("jwtguard")

ACCESS: Final = "__Host-jwtguard"
REFRESH: Final = "__Secure-jwtguard-refresh"
SILENT: Final = "__Host-jwtguard-refresh"

LARGEST: Final = 4096
"""Bytes that browsers keep of a cookie's name and value (RFC 6265bis section 5.6)."""
ROOM: Final = LARGEST - len(REFRESH)
"""Bytes that a token may have, so that each cookie can hold it."""

VISIT: Final = "jwtguard.visit"


class CookieMode:
    """Cookie mode at one face.

    Arguments: `settings`, with COOKIE on; `refresh_path`, the path of the refresh endpoint below the mount point.
    """

    def __init__(self, settings: Settings, refresh_path: str) -> None:
        self.is_silent = settings.cookie == "silent"
        self._trusted = frozenset(settings.trusted_origins)
        self._refresh_name = SILENT if self.is_silent else REFRESH
        self._refresh_path = "" if self.is_silent else refresh_path
        self._refresh_age = int(min(settings.refresh_ttl, settings.session_ttl))
        self._told = False

    def arrive(self, head: RequestHead) -> None:
        """Note a request, so that its response can set cookies. Raises CrossSite.

        A request with a bearer token isn't judged: no page can add one to a request to another origin, unless the app's own
        CORS headers allow it. A WebSocket is, as any page can offer it a token by a subprotocol; and so is what would set
        cookies all the same: see `check_origin`.
        """
        request = REQUEST.get()
        if request is not None:
            request[VISIT] = _Visit(self, head)
        if head.is_live or not any(value[:7].lower() == b"bearer " for value in head.authorization):
            self.check(head)

    def check(self, head: RequestHead) -> None:
        """Raises CrossSite."""
        if is_cross_site(head, self._trusted):
            raise CrossSite

    def access_token(self, head: RequestHead) -> bytes | None:
        """The access token in a request's cookies. Raises RequestInvalid if it isn't clear which."""
        return _token(head, ACCESS)

    def refresh_token(self, head: RequestHead) -> bytes | None:
        """The refresh token in a request's cookies, where it is wanted: a `__Secure-` one may be another host's, and is to
        disturb nothing else. Raises RequestInvalid if it isn't clear which."""
        return _token(head, self._refresh_name)

    def set(self, pair: TokenPair, head: RequestHead) -> None:
        """Have the response set the cookies of a pair."""
        self._put(pair.access_token, pair.expires_in, pair.refresh_token, self._refresh_age, head.mount)
        host = head.header("HOST") or ""
        if head.scheme == "http" and is_loopback(host) and not self._told:
            self._told = True
            logger.warning(
                "cookies over plain http: Chromium and Firefox keep them, as %a is this machine; Safari, and any browser "
                "at another name, needs https",
                host,
            )

    def remove(self, head: RequestHead) -> None:
        """Have the response remove the cookies."""
        self._put("", 0, "", 0, head.mount)

    def _put(self, access: str, access_age: int, refresh: str, refresh_age: int, mount: str) -> None:
        path = quote(mount + self._refresh_path) if self._refresh_path else "/"
        forbid_storing()
        set_cookie(SetCookie(ACCESS, access, "/", access_age))
        set_cookie(SetCookie(self._refresh_name, refresh, path, refresh_age))


def _token(head: RequestHead, name: str) -> bytes | None:
    value = read_cookies(head.header("COOKIE") or "", (name,)).get(name)
    return value.encode("latin-1", "replace") if value else None


class _Visit(NamedTuple):
    """A request in cookie mode."""

    mode: CookieMode
    head: RequestHead


def _visit() -> _Visit | None:
    request = REQUEST.get()
    return None if request is None else request.get(VISIT)


def can_hand_over() -> bool:
    """Whether there is a response that can set cookies."""
    return _visit() is not None


def hand_over(pair: TokenPair) -> None:
    """In cookie mode, have the response to the current request set the cookies of a pair."""
    if (visit := _visit()) is not None:
        visit.mode.set(pair, visit.head)


def take_back() -> None:
    """In cookie mode, have the response to the current request remove the cookies."""
    if (visit := _visit()) is not None:
        visit.mode.remove(visit.head)


def check_origin() -> None:
    """In cookie mode, that the current request may set cookies. Raises CrossSite."""
    if (visit := _visit()) is not None:
        visit.mode.check(visit.head)


def read_cookies(header: str, names: tuple[str, ...]) -> dict[str, str]:
    """The cookies by these names in the value of a Cookie header. Raises RequestInvalid for two by one of them.

    A browser separates cookies by semicolons, and quotes mean nothing to it (RFC 6265bis section 5.8.3); other programs put
    several of what a browser takes for cookies into one quoted value. One of ours that would be inside of such a value is
    refused, since the two don't agree on whether it is there. Names are compared exactly; each character is looked at once.
    """
    found: dict[str, str] = {}
    is_open = False
    inside = False
    for part in header.split(";"):
        name, _, value = part.partition("=")
        name, value = name.strip(" \t"), value.strip(" \t")
        if is_open and '"' in part:
            if inside:
                raise RequestInvalid("a cookie of jwtguard's is in another's quoted value")
            is_open = False
        elif not is_open:
            is_open = value.startswith('"') and (len(value) == 1 or not value.endswith('"') or value.endswith('\\"'))
        if name in names:
            if name in found:
                raise RequestInvalid("more than one cookie of the same name")
            found[name] = value
            inside = inside or is_open
    return found
