"""One table of requests and answers, for both faces.

`<name>` stands for what the world has made (see `world`). A row's name carries the id of the requirement in the security
checklist that it shows, where it is one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from cookie_table import COOKIE_ROWS
from drivers import Body, Request
from rows import FORM, GRANT, JSON, PLAIN, Row, ask, bearer, get, passes, refuses
from world import BAD_TOKENS

from jwtguard.errors import LimitReached, ScopeMissing, StoreUnavailable, TokenExpired, TokenMissing

__all__ = ["ROWS", "Row"]


def authorization(value: str, target: str = "/me") -> Request:
    return get(target, None, ("Authorization", value))


def tokens() -> Iterator[Row]:
    """The answers table, for requests to the app."""
    yield passes("a good token", get(token="<good>"), "alice")
    yield passes("a good token, and HEAD", ask("HEAD", "/me", "<good>"), "alice")
    yield passes("a subject beyond ASCII", get(token="<unicode>"), "zoë·雪")
    yield refuses("C34 no credentials", get(), "token_missing")
    yield refuses("no credentials, and HEAD", ask("HEAD", "/me"), "token_missing")
    yield refuses("expired", get(token="<expired>"), "token_expired")
    yield passes("expired within LEEWAY", get(token="<expired>"), "alice", settings={"leeway": 1})
    yield refuses("superseded", get(token="<superseded>"), "token_superseded")
    yield passes("C51 an older token within grace", get(token="<good>"), "alice", made=("replayed",))
    yield refuses("C43 revoked", get(token="<revoked>"), "session_revoked")
    yield refuses("evicted", get(token="<evicted>"), "session_evicted")
    yield refuses("C41 idle", get(token="<idle>"), "session_expired", settings={"idle_timeout": 60})
    yield refuses("unknown session", get(token="<unknown>"), "session_unknown")
    yield refuses("C26 a refresh token", get(token="<refresh>"), "token_invalid")
    yield refuses("C26 a ticket", get(token="<ticket>"), "token_invalid", settings={"on_limit": "choose"})
    yield refuses("another secret", get(token="<foreign>"), "token_invalid")
    fallback = {"secret_fallbacks": ["Zp0-r7Tq2Wv9XyB4nM6kLs8HdJ3fGa5CuEiO"]}
    yield passes("C80 a fallback secret", get(token="<foreign>"), "alice", settings=fallback)
    yield refuses("C37 store down", get(token="<good>"), "store_unavailable", down=True)
    yield refuses("C37 store down, bad signature", get(token="<bad signature>"), "token_invalid", down=True)
    yield refuses("C37 store down, expired", get(token="<expired>"), "token_expired", down=True)
    yield refuses("C37 store down, no credentials", get(), "token_missing", down=True)
    realm = {"realm": "a b"}
    yield refuses(
        "REALM", get(token="<expired>"), "token_expired", 'Bearer realm="a b", error="invalid_token"', settings=realm
    )
    for name in BAD_TOKENS:
        yield refuses(f"C02 to C28 {name}", get(token=f"<{name}>"), "token_invalid")


def headers() -> Iterator[Row]:
    """How credentials come."""
    for scheme in ("bearer", "BEARER", "BeArEr", "Bearer  ", "Bearer    "):
        yield passes(f"C31 scheme {scheme!r}", authorization(f"{scheme} <good>"), "alice")
    malformed = {
        "nothing": "Bearer",
        "a space": "Bearer ",
        "spaces": "bearer    ",
        "tab": "Bearer\t<good>",
        "space and tab": "Bearer \t<good>",
        "tab after": "Bearer <good>\t",
        "space after": "Bearer <good> ",
        "space before": " Bearer <good>",
        "non-breaking space": "Bearer\xa0<good>",
        "non-breaking space after": "Bearer <good>\xa0",
        "vertical tab": "Bearer\x0b<good>",
        "NUL": "Bearer <good>\0",
        "two words": "Bearer <good> x",
        "twice Bearer": "Bearer Bearer <good>",
        "parameter": 'Bearer realm="x"',
        "quoted": 'Bearer "<good>"',
        "colon": "Bearer: <good>",
        "equals": "Bearer=<good>",
        "semicolon": "Bearer <good>;",
        "newline": "Bearer <good>\n",
        "non-ASCII": "Bearer \xe9\xe8\xff<good>",
        "only padding": "Bearer ===",
    }
    for name, value in malformed.items():
        yield refuses(f"C31 malformed: {name}", authorization(value), "token_invalid")
        yield refuses(f"C31 malformed, optional: {name}", authorization(value), "token_invalid", settings=OPTIONAL)
        yield passes(f"C31 malformed, public: {name}", authorization(value, "/login"), "")
    two = get("/me", "<good>", *bearer("<good>"))
    yield refuses("C32 two headers", two, "request_invalid")
    yield refuses("C32 two headers, optional", two, "request_invalid", settings=OPTIONAL)
    yield passes("C32 two headers, public", replace(two, target="/login"), "")
    yield refuses(
        "C32 the other first", get("/me", None, ("Authorization", "Basic eDp5"), *bearer("<good>")), "request_invalid"
    )
    yield refuses("C32 joined", authorization("Bearer <good>, Bearer <good>"), "request_invalid")
    yield refuses("C32 joined without space", authorization("Bearer <good>,bearer <bob>"), "request_invalid")
    yield refuses("C32 joined with tabs", authorization("Basic eDp5,\t \tBEARER <good>"), "request_invalid")
    yield refuses("C32 joined with nothing", authorization("Bearer <good>,"), "request_invalid")
    yield refuses("C32 nothing first", authorization(", Bearer <good>"), "request_invalid")
    for name, value in {
        "basic": "Basic YWxpY2U6d29uZGVybGFuZA==",
        "digest": 'Digest username="x", realm="bearer", uri="/"',
        "longer": "BearerToken <good>",
        "with dash": "Bearer-x <good>",
        "DPoP": "DPoP <good>",
        "none": "<good>",
        "empty": "",
        "long negotiation": "Negotiate " + "A" * 100_000,
    }.items():
        yield refuses(f"another scheme: {name}", authorization(value), "token_missing")
        yield passes(f"another scheme, optional: {name}", authorization(value), "", settings=OPTIONAL)
    yield refuses("C33 in the query", get("/me?access_token=<good>"), "token_missing")
    yield refuses("C33 in a cookie", get("/me", None, ("Cookie", "access_token=<good>")), "token_missing")
    yield refuses("C33 in a form", ask("POST", "/me", None, FORM, body=b"access_token=<good>"), "token_missing")
    yield passes("C32 a query is not looked at", get("/me?access_token=<bob>", "<good>"), "alice")


OPTIONAL: Final = {"mode": "optional"}


def public_paths() -> Iterator[Row]:
    for target in ("/", "/login", "/login?next=/admin", "/items/5", "/%6cogin"):
        yield passes(f"public {target}", get(target), "")
        yield passes(f"public {target}, known", get(target, "<good>"), "alice")
        yield passes(f"public {target}, expired", get(target, "<expired>"), "")
    yield passes("public, store down", get("/login", "<good>"), "", down=True)
    yield passes("public by method", ask("HEAD", "/items/5"), "")
    yield refuses("public by another method", ask("POST", "/items/5"), "token_missing")
    yield refuses("a method in lower case", ask("get", "/items/5"), "token_missing")
    for target in (
        "//login",
        "/login/",
        "/login//",
        "/./login",
        "/login/.",
        "/login/..",
        "/login/../admin",
        "/x/../login",
        "/login%2f..%2fadmin",
        "/login%2F",
        "/LOGIN",
        "/Login",
        "/login;x",
        "/login;x=1",
        "/login%0a",
        "/login%0d%0a",
        "/login%00",
        "/login%20",
        "/login%3f",
        "/login%23",
        "/login%5c..%5cadmin",
        "/login%252f",
        "/login%c3%28",
        "/login%ff",
        "/login%c0%af",
        "/lo%67in%09",
        "/login.json",
        "/items/",
        "/items//5",
        "/items/../admin",
        "/items/..%2fadmin",
        "/items/%2e%2e/admin",
        "/items/5%0a",
        "/items/5;x",
        "/items/5%5cx",
        "/login\xa0",
        "login",
        "http://testserver/login",
        "*",
    ):
        for mount in ("", "/api"):
            name = f"not public {target!a}, mounted at {mount!r}"
            yield refuses(name, get(target, mount=mount), "token_missing")
        if not target.startswith("/") or target == "/login%2F":  # an ASGI server tells that this slash was encoded
            continue
        code, challenge = ("scope_missing", SCOPE_ALL) if odd(target) else (None, None)
        yield Row(
            f"but routed {target!a}",
            get(target, "<good>"),
            403 if code else 200,
            code,
            challenge,
            None if code else "alice",
        )


def odd(target: str) -> bool:
    """Whether a path isn't in canonical form, so it may be routed anywhere and needs the scopes of all rules."""
    marks = ("//", "/.", ";", "%0", "%3f", "%23", "%5c", "%25", "%c3%28", "%ff", "%c0", "%2f", "%2e", "%09")
    return any(mark in target for mark in marks) and target not in ("/login.json",)


SCOPE_ALL: Final = PLAIN + ', error="insufficient_scope", scope="admin write read"'
SCOPE: Final = PLAIN + ', error="insufficient_scope", scope="admin"'


def mounts() -> Iterator[Row]:
    yield passes("mounted, public", get("/login", mount="/api"), "")
    yield passes("mounted at what is public", get("/", mount="/login"), "")
    yield passes("the mount point itself is its root", get("", mount="/api"), "")
    yield refuses("mounted, guarded", get("/me", mount="/login"), "token_missing")
    yield refuses("mounted, under a rule", get("/admin/x", "<good>", mount="/api"), "scope_missing", SCOPE)
    yield passes("mounted, an endpoint of the same name is elsewhere", ask("POST", "/me", "<good>", mount="/auth"), "alice")
    yield Row("mounted, an endpoint", get("/auth/sessions", "<good>", mount="/api"))


def rules() -> Iterator[Row]:
    yield passes("a rule, met", get("/admin/x", "<bob>"), "bob")
    for target in ("/admin", "/admin/", "/admin/x", "/admin/x/y"):
        yield refuses(f"C34 a rule, not met: {target}", get(target, "<good>"), "scope_missing", SCOPE)
        yield refuses(f"a rule, nobody: {target}", get(target), "token_missing")
        yield refuses(f"a rule, optional, nobody: {target}", get(target), "token_missing", settings=OPTIONAL)
    both = PLAIN + ', error="insufficient_scope", scope="write read"'
    yield refuses("a rule, half met", ask("POST", "/notes", "<writer>"), "scope_missing", both)
    yield refuses("a rule, method in lower case", ask("post", "/notes", "<writer>"), "scope_missing", both)
    yield passes("a rule, another method", ask("PUT", "/notes", "<writer>"), "carol")
    yield refuses("a rule, bad token first", get("/admin", "<expired>"), "token_expired")
    yield refuses("a rule that covers a public path", get("/x", "<good>"), "scope_missing", SCOPE, settings=CLOSED)
    yield refuses("a rule that covers a public path, nobody", get("/x"), "token_missing", settings=CLOSED)
    yield refuses("a rule that covers a public path, expired", get("/x", "<expired>"), "token_expired", settings=CLOSED)
    yield passes("no rules, odd path", get("//x", "<good>"), "alice", settings={"rules": ""})
    yield Row("rules don't hold for the endpoints", get("/auth/sessions", "<good>"), settings={"rules": "/*: admin"})


CLOSED: Final = {"public": "/*", "rules": "/x: admin"}


def optional_mode() -> Iterator[Row]:
    yield passes("optional, nobody", get(), "", settings=OPTIONAL)
    yield passes("optional, known", get(token="<good>"), "alice", settings=OPTIONAL)
    yield refuses("optional, expired", get(token="<expired>"), "token_expired", settings=OPTIONAL)
    yield refuses("optional, revoked", get(token="<revoked>"), "session_revoked", settings=OPTIONAL)
    yield refuses("optional, store down", get(token="<good>"), "store_unavailable", settings=OPTIONAL, down=True)
    yield passes("optional, nobody, store down", get(), "", settings=OPTIONAL, down=True)
    yield refuses("optional, the endpoints", get("/auth/sessions"), "token_missing", settings=OPTIONAL)


ORIGIN: Final = ("Origin", "https://app.example")
ASKS: Final = ("Access-Control-Request-Method", "DELETE")


def preflights() -> Iterator[Row]:
    for target in ("/me", "/admin/x", "/auth/logout", "//odd"):
        yield passes(f"a preflight of {target}", ask("OPTIONS", target, None, ORIGIN, ASKS), "")
    yield refuses("no preflight: no Origin", ask("OPTIONS", "/me", None, ASKS), "token_missing")
    yield refuses("no preflight: no Access-Control-Request-Method", ask("OPTIONS", "/me", None, ORIGIN), "token_missing")
    yield refuses("no preflight: another method", ask("POST", "/me", None, ORIGIN, ASKS), "token_missing")
    yield refuses("no preflight: lower case", ask("options", "/me", None, ORIGIN, ASKS), "token_missing")
    yield refuses("no preflight: GET", get("/me", None, ORIGIN, ASKS), "token_missing")
    yield refuses("no preflight: credentials", ask("OPTIONS", "/me", "<bad cut>", ORIGIN, ASKS), "token_invalid")
    yield passes("no preflight: good credentials", ask("OPTIONS", "/me", "<good>", ORIGIN, ASKS), "alice")
    yield refuses("no preflight: scopes", ask("OPTIONS", "/admin", "<good>", ORIGIN, ASKS), "scope_missing", SCOPE)
    for name, value in (
        ("Cookie", "a=b"),
        ("Transfer-Encoding", "chunked"),
        ("X-HTTP-Method", "DELETE"),
        ("X-HTTP-Method-Override", "DELETE"),
        ("X_Method-Override", "DELETE"),
        ("Content-Type", "application/json"),
        ("Content-Length", "2"),
    ):
        odd = ask("OPTIONS", "/me", None, ORIGIN, ASKS, (name, value))
        yield refuses(f"no preflight: {name}", odd, "token_missing")
    for origin, method in (("x", "GET"), ("https://", "GET"), ("https://a/b", "GET"), ("null", "x y"), ("null", "(")):
        odd = ask("OPTIONS", "/me", None, ("Origin", origin), ("Access-Control-Request-Method", method))
        yield refuses(f"no preflight: {origin} {method}", odd, "token_missing")
    for origin in ("null", "http://localhost:3000", "chrome-extension://abcdef", "https://[::1]:8443"):
        yield passes(f"a preflight from {origin}", ask("OPTIONS", "/me", None, ("Origin", origin), ASKS), "")
    yield passes("a preflight without a body", ask("OPTIONS", "/me", None, ORIGIN, ASKS, ("Content-Length", "0")), "")
    yield passes("a preflight, store down", ask("OPTIONS", "/me", None, ORIGIN, ASKS), "", down=True)


def forged_names() -> Iterator[Row]:
    spellings = ("Remote-User", "remote_user", "REMOTE.USER", "JWTGuard-Identity", "jwtguard_identity", "jwtguard.identity")
    for spelling in (*spellings, "JWTGUARD_Identity", "rEmOtE-uSeR"):
        forged = (spelling, "mallory")
        yield passes(f"C38 {spelling}", get("/me", "<good>", forged), "alice")
        yield passes(f"C38 {spelling}, public", get("/login", None, forged), "")
        yield passes(f"C38 {spelling}, twice", get("/", None, forged, forged), "")
        yield passes(f"C38 {spelling}, preflight", ask("OPTIONS", "/me", None, ORIGIN, ASKS, forged), "")
    yield refuses("C38 and that is all", get("/me", None, ("Remote-User", "mallory")), "token_missing")


PAIR: Final = {"token_type": "Bearer", "expires_in": 1800}


def json_refresh(token: str, *headers: tuple[str, str], sent: Body = "whole") -> Request:
    body = b'{"refresh_token": "%s", "grant_type": "refresh_token"}' % token.encode()
    return ask("POST", "/auth/refresh", None, JSON, *headers, body=body, sent=sent)


def refreshing() -> Iterator[Row]:
    yield Row("C36 refresh, JSON", json_refresh("<refresh>"), json=PAIR)
    form = ask("POST", "/auth/refresh", None, FORM, body=b"grant_type=refresh_token&refresh_token=<refresh>")
    yield Row("refresh, form", form, json=PAIR)
    charset = ("Content-Type", "Application/JSON ; charset=utf-8")
    yield Row("refresh, with parameters", replace(json_refresh("<refresh>"), headers=(charset,)), json=PAIR)
    yield Row("refresh, chunked", json_refresh("<refresh>", sent="chunked"), json=PAIR)
    yield Row("refresh, of an expired access token", json_refresh("<refresh-of-expired>", *bearer("<expired>")), json=PAIR)
    yield Row("refresh, whatever the header", json_refresh("<refresh>", ("Authorization", "Bearer x, y")), json=PAIR)
    yield Row("C55 refresh, again within grace", json_refresh("<replayed>"), json=PAIR)
    yield Row("refresh, mounted", replace(json_refresh("<refresh>"), mount="/api"), json=PAIR)
    for name, token, code in (
        ("C52 reused", "<reused>", "refresh_reused"),
        ("C20 expired", "<refresh-expired>", "refresh_expired"),
        ("revoked", "<revoked-refresh>", "session_revoked"),
        ("evicted", "<evicted-refresh>", "session_evicted"),
        ("unknown", "<unknown-refresh>", "session_unknown"),
        ("another secret", "<foreign-refresh>", "refresh_invalid"),
        ("C26 an access token", "<good>", "refresh_invalid"),
        ("nonsense", "x", "refresh_invalid"),
        ("empty", "", "refresh_invalid"),
        ("beyond ASCII", "\\u00e9\\u96ea", "refresh_invalid"),
        ("long", "a" * 16_000, "refresh_invalid"),
    ):
        yield refuses(f"refresh, {name}", json_refresh(token), code, GRANT, json={"error": "invalid_grant"})
    refuse = {"on_reuse": "refuse"}
    yield refuses("refresh, ON_REUSE", json_refresh("<reused>"), "refresh_superseded", GRANT, settings=refuse)
    idle = {"idle_timeout": 60}
    yield refuses("refresh, idle", json_refresh("<idle-refresh>"), "session_expired", GRANT, settings=idle)
    yield refuses("C26 a ticket to refresh", json_refresh("<ticket>"), "refresh_invalid", GRANT, settings=CHOOSE)
    down = {"error": "store_unavailable"}
    yield refuses("refresh, store down", json_refresh("<refresh>"), "store_unavailable", down=True, json=down)
    yield refuses("refresh, store down, bad", json_refresh("x"), "refresh_invalid", GRANT, down=True)
    yield refuses("refresh, token in the header only", ask("POST", "/auth/refresh", "<refresh>"), "request_invalid")
    yield from bodies("/auth/refresh")


CHOOSE: Final = {"on_limit": "choose"}


def bodies(target: str) -> Iterator[Row]:
    """What isn't a body with a refresh token."""
    malformed: dict[str, tuple[tuple[str, str], bytes]] = {
        "no member": (JSON, b"{}"),
        "null": (JSON, b'{"refresh_token": null}'),
        "not JSON": (JSON, b"refresh_token=x"),
        "cut JSON": (JSON, b'{"refresh_token": "x"'),
        "a list": (JSON, b'["x"]'),
        "text": (JSON, b'"x"'),
        "a number": (JSON, b'{"refresh_token": 5}'),
        "an object": (JSON, b'{"refresh_token": {"refresh_token": "x"}}'),
        "deep": (JSON, b"[" * 16_000),
        "deep inside": (JSON, b'{"x": ' * 2_000 + b"1" + b"}" * 2_000),
        "long number": (JSON, b'{"refresh_token": "x", "n": ' + b"9" * 15_000 + b"}x"),
        "invalid UTF-8": (JSON, b'{"refresh_token": "\xff"}'),
        "lone surrogate": (JSON, b'{"refresh_token": "\\ud800"}'),
        "UTF-16": (JSON, '{"refresh_token": "x"}'.encode("utf-16")),
        "BOM": (JSON, b'\xef\xbb\xbf{"refresh_token": "x"}'),
        "NUL": (JSON, b"\0"),
        "form, twice": (FORM, b"refresh_token=x&refresh_token=x"),
        "form, no pairs": (FORM, b"refresh_token"),
        "form, many": (FORM, b"a=1&" * 17 + b"refresh_token=x"),
        "form, another name": (FORM, b"token=x"),
        "form, beyond ASCII": (FORM, b"refresh_token=\xff"),
        "text/plain": (("Content-Type", "text/plain"), b'{"refresh_token": "x"}'),
        "multipart": (("Content-Type", "multipart/form-data; boundary=x"), b"--x--"),
        "JSON of another kind": (("Content-Type", "application/json-seq"), b'{"refresh_token": "x"}'),
        "no type": (("X-Nothing", "1"), b'{"refresh_token": "x"}'),
    }
    for name, (header, body) in malformed.items():
        if target.endswith("logout") and name in ("no member", "null", "form, another name", "deep inside"):
            continue  # it has no refresh token, so it is the access token that counts
        yield refuses(f"{target}, body: {name}", ask("POST", target, None, header, body=body), "request_invalid")
    whole = b'{"refresh_token": "x"}'
    exact = whole + b" " * (16 * 1024 - len(whole))
    sendings: tuple[Body, ...] = ("whole", "chunked", "cut")
    for sent in sendings:
        if sent != "cut":
            exactly = ask("POST", target, None, JSON, body=exact, sent=sent)
            yield refuses(f"{target}, 16 KB, {sent}", exactly, "refresh_invalid", GRANT)
        large = ask("POST", target, "<good>", JSON, body=exact + b" ", sent=sent)
        yield refuses(f"{target}, over 16 KB, {sent}", large, "body_too_large")
        huge = ask("POST", target, None, JSON, body=b"[" * 1_000_000, sent=sent)
        yield refuses(f"{target}, 1 MB, {sent}", huge, "body_too_large")
    yield refuses(f"{target}, cut", ask("POST", target, "<good>", JSON, body=whole, sent="cut"), "request_invalid")


def logging_out() -> Iterator[Row]:
    yield Row("logout", ask("POST", "/auth/logout", "<good>"), 204)
    yield Row("logout, JSON", ask("POST", "/auth/logout", "<good>", JSON, body=b"{}"), 204)
    body = b'{"refresh_token": "<refresh>"}'
    yield Row("logout, by refresh token", ask("POST", "/auth/logout", None, JSON, body=body), 204)
    yield Row("C61 logout, both", ask("POST", "/auth/logout", "<good>", JSON, body=body), 204)
    form = ask("POST", "/auth/logout", None, FORM, body=b"refresh_token=<refresh-of-expired>")
    yield Row("logout, expired access token", form, 204)
    yield refuses("logout, nobody", ask("POST", "/auth/logout"), "token_missing")
    yield refuses("logout, nobody, JSON", ask("POST", "/auth/logout", None, JSON, body=b"{}"), "token_missing")
    yield refuses("logout, expired", ask("POST", "/auth/logout", "<expired>"), "token_expired")
    yield refuses("logout, again", ask("POST", "/auth/logout", "<revoked>"), "session_revoked")
    yield refuses("logout, two headers", ask("POST", "/auth/logout", "<good>", *bearer("<good>")), "request_invalid")
    yield refuses("C26 logout, a refresh token in the header", ask("POST", "/auth/logout", "<refresh>"), "token_invalid")
    yield refuses("C61 logout, store down", ask("POST", "/auth/logout", "<good>"), "store_unavailable", down=True)
    over = ask("POST", "/auth/logout", None, JSON, body=b'{"refresh_token": "<revoked-refresh>"}')
    yield refuses("logout, again by refresh token", over, "session_revoked")
    yield from bodies("/auth/logout")


def listing() -> Iterator[Row]:
    yield Row("C47 list", get("/auth/sessions", "<good>"))
    yield Row("list, with a query", get("/auth/sessions?x=1", "<good>"))
    yield refuses("list, nobody", get("/auth/sessions"), "token_missing")
    yield refuses("list, revoked", get("/auth/sessions", "<revoked>"), "session_revoked")
    yield refuses("list, store down", get("/auth/sessions", "<good>"), "store_unavailable", down=True)
    stale = {"stale_if_down": 60}
    yield refuses("list, never stale", get("/auth/sessions", "<good>"), "store_unavailable", down=True, settings=stale)


def ending() -> Iterator[Row]:
    yield Row("end one", ask("DELETE", "/auth/sessions/<second-sid>", "<good>"), 204)
    yield Row("end one's own", ask("DELETE", "/auth/sessions/<sid>", "<good>"), 204)
    yield Row("end the others", ask("DELETE", "/auth/sessions?keep=current", "<good>"), 204)
    yield Row("end all", ask("DELETE", "/auth/sessions?keep=none", "<good>"), 204)
    for query in (
        "",
        "?keep",
        "?keep=",
        "?keep=all",
        "?keep=current&keep=none",
        "?keep=none&x=1",
        "?KEEP=none",
        "?keep=none ",
    ):
        yield refuses(f"end, {query!r}", ask("DELETE", f"/auth/sessions{query}", "<good>"), "request_invalid")
        yield refuses(f"end, {query!r}, nobody", ask("DELETE", f"/auth/sessions{query}"), "token_missing")
    for name, target in {
        "C47 another user's": "<bob-sid>",
        "ended": "<revoked-sid>",
        "no id": "x",
        "C28 braces": "%7b%7d",
        "C28 injection": "x'%20OR%201=1--",
        "dots": "..",
        "lines": "a%0d%0ab",
        "long": "a" * 5000,
    }.items():
        yield refuses(f"end one, {name}", ask("DELETE", f"/auth/sessions/{target}", "<good>"), "session_not_found")
    yield refuses("end one, nobody", ask("DELETE", "/auth/sessions/<sid>"), "token_missing")
    yield refuses("end one, revoked", ask("DELETE", "/auth/sessions/<sid>", "<revoked>"), "session_revoked")
    yield refuses("C26 end one, refresh token", ask("DELETE", "/auth/sessions/<sid>", "<refresh>"), "token_invalid")
    yield refuses("end one, malformed", ask("DELETE", "/auth/sessions/<sid>", "<good> x"), "token_invalid")
    yield refuses("end one, store down", ask("DELETE", "/auth/sessions/<sid>", "<good>"), "store_unavailable", down=True)
    yield Row("a ticket", ask("DELETE", "/auth/sessions/<listed>", "<ticket>"), 204, settings=CHOOSE)
    for name, token, target, code in (
        ("used", "<used-ticket>", "<listed>", "token_invalid"),
        ("old", "<old-ticket>", "<listed>", "token_expired"),
        ("not listed", "<ticket>", "<bob-sid>", "session_not_found"),
        ("no id", "<ticket>", "x", "session_not_found"),
    ):
        row = refuses(f"a ticket, {name}", ask("DELETE", f"/auth/sessions/{target}", token), code)
        yield replace(row, settings=CHOOSE)
    for name, request in {
        "listing": get("/auth/sessions", "<ticket>"),
        "ending all": ask("DELETE", "/auth/sessions?keep=none", "<ticket>"),
        "logout": ask("POST", "/auth/logout", "<ticket>"),
    }.items():
        yield refuses(f"C26 a ticket, {name}", request, "token_invalid", settings=CHOOSE)


def not_endpoints() -> Iterator[Row]:
    """What is the app's, though it is below `/auth`."""
    for method, target in (
        ("GET", "/auth/logout"),
        ("GET", "/auth/refresh"),
        ("HEAD", "/auth/logout"),
        ("HEAD", "/auth/sessions"),
        ("OPTIONS", "/auth/sessions"),
        ("PUT", "/auth/sessions"),
        ("POST", "/auth/sessions"),
        ("PATCH", "/auth/sessions/x"),
        ("GET", "/auth/sessions/x"),
        ("delete", "/auth/sessions/x"),
        ("post", "/auth/logout"),
        ("DELETE", "/auth/sessions/"),
        ("DELETE", "/auth/sessions/x/y"),
        ("DELETE", "/auth/sessions/x/"),
        ("POST", "/auth"),
        ("POST", "/auth/"),
        ("POST", "/auth/logout/"),
        ("POST", "/auth/login"),
        ("POST", "/AUTH/logout"),
        ("POST", "/auth/Logout"),
        ("POST", "/authlogout"),
        ("POST", "/x/auth/logout"),
        ("POST", "/logout"),
    ):
        yield passes(f"C66 the app's: {method} {target}", ask(method, target, "<good>"), "alice")
        yield refuses(f"C66 the app's: {method} {target}, nobody", ask(method, target), "token_missing")
    for target in ("//auth/logout", "/auth//logout", "/auth/./logout", "/auth/logout;x", "/auth/logout%0a"):
        yield refuses(f"not an endpoint: {target}", ask("POST", target), "token_missing")
    off = {"endpoints": "off"}
    yield passes("endpoints off", ask("POST", "/auth/logout", "<good>"), "alice", settings=off)
    yield passes("endpoints by default", ask("POST", "/auth/logout", "<good>"), "alice", settings={"endpoints": None})
    moved = {"endpoints": "/session/v1"}
    yield Row("endpoints elsewhere", ask("POST", "/session/v1/logout", "<good>"), 204, settings=moved)
    yield passes("endpoints elsewhere, so not here", ask("POST", "/auth/logout", "<good>"), "alice", settings=moved)


def errors_in_views() -> Iterator[Row]:
    """Errors that the app lets out become their answers."""
    login = ask("POST", "/login")
    yield Row("C36 login", login, json=PAIR, view="login", seen="")
    deny = {"max_sessions": 1, "on_limit": "deny"}
    yield refuses("C48 login, deny", login, "limit_reached", view="login", seen="", settings=deny, made=("newer",))
    choose = {**deny, "on_limit": "choose"}
    yield refuses("C48 login, choose", login, "limit_reached", view="login", seen="", settings=choose, made=("newer",))
    yield refuses("login, store down", login, "store_unavailable", view="login", seen="", down=True)
    yield Row("C40 login with a token", ask("POST", "/login", "<good>"), json=PAIR, view="login", seen="alice")
    missing = ScopeMissing(["admin"])
    yield refuses("a view asks for a scope", get(token="<good>"), "scope_missing", SCOPE, view=missing, seen="alice")
    bare = PLAIN + ', error="insufficient_scope"'
    yield refuses(
        "a view asks for some scope", get(token="<good>"), "scope_missing", bare, view=ScopeMissing(), seen="alice"
    )
    yield refuses("a view asks for a login", get("/login"), "token_missing", view=TokenMissing(), seen="")
    yield refuses("a view authenticates", get("/login"), "token_expired", view=TokenExpired(), seen="")
    down = StoreUnavailable("hunter2-hunter2")
    yield refuses("a view's store is down", get(token="<good>"), "store_unavailable", view=down, seen="alice")
    yield refuses("a view's limit", get(token="<good>"), "limit_reached", view=LimitReached(), seen="alice")


ROWS: Final = (
    tuple(
        row
        for rows in (
            tokens,
            headers,
            public_paths,
            mounts,
            rules,
            optional_mode,
            preflights,
            forged_names,
            refreshing,
            logging_out,
            listing,
            ending,
            not_endpoints,
            errors_in_views,
        )
        for row in rows()
    )
    + COOKIE_ROWS
)
