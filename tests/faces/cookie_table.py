"""The rows of cookie mode: which token counts, and whose pages may send what (see `table`)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final

from drivers import Request
from rows import FORM, GRANT, INVALID, JSON, Row, ask, get, passes, refuses

__all__ = ["ACCESS", "CLICK", "COOKIE_ROWS", "KEPT", "OWN", "REFRESH", "cookies"]

Headers = tuple[tuple[str, str], ...]

ON: Final = {"cookie": "on", "trusted_origins": "https://sister.example"}
SILENT: Final = {**ON, "cookie": "silent"}
OPTIONAL: Final = {**ON, "mode": "optional"}
ACCESS: Final = "__Host-jwtguard"
REFRESH: Final = "__Secure-jwtguard-refresh"
KEPT: Final = "__Host-jwtguard-refresh"
OWN: Final = (("Sec-Fetch-Site", "same-origin"), ("Sec-Fetch-Mode", "cors"), ("Sec-Fetch-Dest", "empty"))
CLICK: Final = (("Sec-Fetch-Site", "cross-site"), ("Sec-Fetch-Mode", "navigate"), ("Sec-Fetch-Dest", "document"))
HOST: Final = ("Host", "app.example:8443")
TEXT: Final = ("Content-Type", "text/plain")
BASIC: Final = ("Authorization", "Basic eDp5")


def cookies(*pairs: str) -> tuple[str, str]:
    return "Cookie", "; ".join(pairs)


GOOD: Final = cookies(f"{ACCESS}=<good>")


def by_cookie(method: str, target: str, *headers: tuple[str, str], cookie: tuple[str, str] = GOOD, **other: Any) -> Request:
    return ask(method, target, None, cookie, *headers, **other)


def access() -> Iterator[Row]:
    yield passes("cookie, good", get("/me", None, GOOD), "alice", settings=ON)
    yield passes("cookie, by header all the same", get(token="<good>"), "alice", settings=ON)
    yield passes("cookie, among others", get("/me", None, cookies("a=1", f"{ACCESS}=<good>", "b")), "alice", settings=ON)
    yield passes("cookie, and another scheme", get("/me", None, BASIC, GOOD), "alice", settings=ON)
    yield refuses("cookie, none", get(), "token_missing", settings=ON)
    yield refuses("C33 a cookie with cookies off", get("/me", None, GOOD), "token_missing")
    yield refuses("C37 cookie, store down", get("/me", None, GOOD), "store_unavailable", settings=ON, down=True)
    for name, code in (("expired", "token_expired"), ("superseded", "token_superseded"), ("revoked", "session_revoked")):
        cookie = cookies(f"{ACCESS}=<{name}>")
        yield refuses(f"C64 cookie, {name}", get("/me", None, cookie), code, settings=ON)
        yield refuses(f"cookie, {name}, optional", get("/me", None, cookie), code, settings=OPTIONAL)
        yield passes(f"cookie, {name}, public", get("/login", None, cookie), "", settings=ON)


def malformed() -> Iterator[Row]:
    values = {"quoted": '"<good>"', "long": "a" * 9000, "no text": "\xe9\xff", "refresh token": "<refresh>"}
    for name, value in values.items():
        yield refuses(f"cookie, {name}", get("/me", None, cookies(f"{ACCESS}={value}")), "token_invalid", settings=ON)
    headers = {
        "another case": f"{ACCESS.lower()}=<good>",
        "a longer name": f"{ACCESS}2=<good>",
        "a prefixed name": f"x{ACCESS}=<good>",
        "no prefix": "jwtguard=<good>",
        "a comma": f"a=1,{ACCESS}=<good>",
        "nothing": f"{ACCESS}=",
    }
    for name, header in headers.items():
        yield refuses(f"cookie, {name}", get("/me", None, ("Cookie", header)), "token_missing", settings=ON)
    ambiguous = {
        "C32 cookie twice": get("/me", None, cookies(*[f"{ACCESS}=<good>"] * 2)),
        "C32 header and cookie": get("/me", "<good>", GOOD),
        "cookie, within quotes": get("/me", None, cookies('a="', f"{ACCESS}=<good>", '"')),
    }
    for name, request in ambiguous.items():
        yield refuses(name, request, "request_invalid", settings=ON)
        yield passes(f"{name}, public", replace(request, target="/login"), "", settings=ON)


def planted() -> Iterator[Row]:
    """Another host can set a `__Secure-` cookie, so only who asks for the refresh token reads it."""
    planted = cookies(f"{ACCESS}=<good>", f"{REFRESH}=a", f"{REFRESH}=b")
    yield passes("C63 refresh cookie twice", get("/me", None, planted), "alice", settings=ON)
    twice = ask("POST", "/auth/refresh", None, planted, OWN[0])
    yield refuses("C63 refresh cookie twice, refresh", twice, "request_invalid", settings=ON)


EVIL, SISTER = ("Origin", "https://evil.example"), ("Origin", "https://sister.example")
MINE: Final = ("Origin", "https://app.example:8443")
CROSS: Final = ("Sec-Fetch-Site", "cross-site")
ALLOWED: Final[dict[str, Headers]] = {
    "same origin": (OWN[0],),
    "same origin, whatever Origin": (OWN[0], EVIL),
    "typed in": (("Sec-Fetch-Site", "none"),),
    "no browser": (),
    "Origin is Host": (MINE,),
    "Origin is Host, over http": (("Origin", "http://app.example:8443"),),
    "trusted": (CROSS, SISTER),
    "trusted, same site": (("Sec-Fetch-Site", "same-site"), SISTER),
    "trusted, old browser": (SISTER,),
}
REFUSED: Final[dict[str, Headers]] = {
    "cross site": (CROSS,),
    "cross site, Origin is Host": (CROSS, MINE),
    "same site": (("Sec-Fetch-Site", "same-site"), ("Origin", "https://other.app.example")),
    "another word": (("Sec-Fetch-Site", "Same-Origin"),),
    "another origin, old browser": (EVIL,),
    "null": (("Origin", "null"),),
    "no origin at all": (("Origin", "app.example:8443"),),
    "another scheme": (("Origin", "ftp://app.example:8443"),),
    "another port": (("Origin", "https://app.example"),),
    "more than trusted": (("Origin", "https://sister.example.evil.example"),),
    "trusted, another port": (("Origin", "https://sister.example:8443"),),
}


def origins() -> Iterator[Row]:
    """Unsafe methods, by what browsers tell; on a guarded path, and on a public one: a login is public."""
    for name, headers in (ALLOWED | REFUSED).items():
        requests = {
            "alice": ask("POST", "/me", None, GOOD, HOST, FORM, *headers, body=b"a=b"),
            "": ask("POST", "/login", None, HOST, TEXT, *headers, body=b"a=b"),
        }
        for seen, request in requests.items():
            about = f"C65 C67 POST {request.target}, {name}"
            if name in ALLOWED:
                yield passes(about, request, seen, settings=ON)
            else:
                yield refuses(about, request, "csrf", settings=ON)
    for method in ("GET", "HEAD"):
        yield passes(f"C66 {method}, cross site", by_cookie(method, "/me", CROSS, EVIL), "alice", settings=ON)
    yield refuses("C65 a method in lower case", by_cookie("get", "/me", CROSS, EVIL), "csrf", settings=ON)
    yield passes("C65 a bearer token is no cookie", ask("POST", "/me", "<good>", CROSS, EVIL), "alice", settings=ON)
    added = by_cookie("POST", "/me", BASIC, CROSS, EVIL)
    yield refuses("C65 what a browser adds by itself is no bearer token", added, "csrf", settings=ON)
    yield passes("cross site, cookies off", ask("POST", "/login", None, CROSS, EVIL), "")
    both = cookies(f"{ACCESS}=<good>", f"{REFRESH}=<refresh>")
    for method, target in (
        ("POST", "/auth/logout"),
        ("POST", "/auth/refresh"),
        ("DELETE", "/auth/sessions?keep=none"),
        ("DELETE", "/auth/sessions/<sid>"),
        ("POST", "/auth/sessions"),
    ):
        yield refuses(f"C65 {method} {target}", by_cookie(method, target, CROSS, cookie=both), "csrf", settings=ON)


def endpoints() -> Iterator[Row]:
    refresh = cookies(f"{REFRESH}=<refresh>")
    twice = by_cookie("POST", "/auth/refresh", JSON, cookie=refresh, body=b'{"refresh_token": "<refresh>"}')
    yield refuses("C32 cookie, refresh with a body too", twice, "request_invalid", settings=ON)
    without = ask("POST", "/auth/refresh", None, JSON, body=b"{}")
    yield refuses("cookie, refresh with a body without one", without, "request_invalid", settings=ON)
    yield Row("cookie, refresh without one", ask("POST", "/auth/refresh"), 401, "token_missing", GRANT, settings=ON)
    refused = {"reused": "refresh_reused", "refresh-expired": "refresh_expired", "revoked-refresh": "session_revoked"}
    for name, code in refused.items():
        request = by_cookie("POST", "/auth/refresh", *OWN, cookie=cookies(f"{REFRESH}=<{name}>"))
        yield Row(f"cookie, refresh {name}", request, 401, code, GRANT, settings=ON)
    yield Row("cookie, sessions", by_cookie("GET", "/auth/sessions"), settings=ON)
    form = by_cookie("POST", "/auth/sessions", FORM, body=b"end=<second-sid>")
    yield Row("cookie, end by a form", form, 303, settings=ON)
    yield refuses(
        "C45 cookie, end another's by a form", replace(form, body=b"end=<bob-sid>"), "session_not_found", settings=ON
    )
    yield refuses("end, by a form without a word", replace(form, body=b""), "request_invalid", settings=ON)
    yield passes("a form, cookies off", ask("POST", "/auth/sessions", "<good>", FORM, body=b"keep=none"), "alice")
    for target in ("/auth/logout", "/auth/refresh"):
        yield refuses(f"C66 cookie, GET {target}", by_cookie("GET", target, cookie=refresh), "token_missing", settings=ON)


FOREIGN: Final[dict[str, Headers]] = {
    "nothing told": (),
    "another site's image": (CROSS, ("Sec-Fetch-Mode", "no-cors"), ("Sec-Fetch-Dest", "image")),
    "another site's frame": (*CLICK[:2], ("Sec-Fetch-Dest", "iframe")),
    "prefetch": (*OWN, ("Sec-Purpose", "prefetch")),
    "prerender": (*CLICK, ("Sec-Purpose", "prefetch;prerender")),
    "old prefetch": (*OWN, ("Purpose", "prefetch")),
    "older prefetch": (*OWN, ("X-Moz", "prefetch")),
}
"""Requests that renew nothing."""
RENEWING: Final[dict[str, tuple[str, str, Headers]]] = {
    "own page": ("GET", "/me", OWN),
    "own POST": ("POST", "/me", OWN),
    "a click elsewhere": ("GET", "/me", CLICK),
    "public": ("GET", "/login", CLICK),
}


def silent() -> Iterator[Row]:
    kept = f"{KEPT}=<refresh-of-expired>"
    for code, cookie in (("token_expired", cookies(f"{ACCESS}=<expired>", kept)), ("token_missing", cookies(kept))):
        for what, (method, target, headers) in RENEWING.items():
            request = by_cookie(method, target, *headers, cookie=cookie)
            yield passes(f"silent, {code}, {what}", request, "alice", settings=SILENT, verifications=3)
        yield refuses(f"{code}, COOKIE=on", by_cookie("GET", "/me", *OWN, cookie=cookie), code, settings=ON)
        for what, foreign in FOREIGN.items():
            request = by_cookie("GET", "/me", *foreign, cookie=cookie)
            yield refuses(f"silent, {code}, {what}", request, code, settings=SILENT)
            yield passes(f"silent, {code}, {what}, public", replace(request, target="/login"), "", settings=SILENT)
    yield passes("silent, good", by_cookie("GET", "/me", *OWN), "alice", settings=SILENT)
    header = get("/me", "<good>", cookies(f"{KEPT}=<refresh>"), *OWN)
    yield passes("silent, by header all the same", header, "alice", settings=SILENT)
    refused = {
        "ended": (cookies(f"{KEPT}=<revoked-refresh>"), "session_revoked", INVALID),
        "invalid": (cookies(f"{KEPT}=<bad cut>"), "refresh_invalid", GRANT),
        "invalid access token": (cookies(f"{ACCESS}=<bad cut>", f"{KEPT}=<refresh>"), "token_invalid", INVALID),
    }
    for name, (cookie, code, challenge) in refused.items():
        request = by_cookie("GET", "/me", *OWN, cookie=cookie)
        yield refuses(f"silent, {name}", request, code, challenge, settings=SILENT)
        yield passes(f"silent, {name}, public", replace(request, target="/login"), "", settings=SILENT)
    down = by_cookie("GET", "/me", *OWN, cookie=cookies(kept))
    yield refuses("silent, store down", down, "store_unavailable", settings=SILENT, down=True)


COOKIE_ROWS: Final = tuple(row for rows in (access, malformed, planted, origins, endpoints, silent) for row in rows())
