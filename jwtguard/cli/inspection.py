"""`jwtguard token`: what is in a token, whether it would be accepted now, and why not; and a token to try things with.

Inspecting changes nothing: it is no use of the session. Nothing of it is logged.
"""

from __future__ import annotations

import base64
import json
import sys
from typing import Annotated, Any, Final, NamedTuple

import typer

from ..authentication import ENDED
from ..document import Document, decode, document_key, everyone_key
from ..errors import AuthError, TokenExpired, TokenInvalid, TokenSuperseded
from ..guard import Guard
from ..model import Device
from ..policy import Active, Ended, Moment, judge
from ..stores.base import Loaded
from ..tokens import Access, token_bytes
from .output import AsJSON, Exit, fail, flat, moment, note, open_guard, print_json, print_table, print_text, right_arguments

__all__ = ["inspect", "issue"]

LONGEST: Final = 64 * 1024
"""Characters of a token that are read, whatever MAX_TOKEN says: a longer one is only refused."""

CHECKS: Final = {
    "form": "it is longer than JWTGUARD_MAX_TOKEN allows, or isn't three segments of base64url",
    "base64url": "it isn't in the one canonical form of base64url",
    "encoding": "its header or payload isn't JSON in UTF-8",
    "object": "its header or payload isn't a JSON object, or is nested too deeply",
    "duplicate names": "a name comes twice in its header or payload",
    "signature": "the signature is wrong: another secret signed it, or it was changed",
    "issuer or audience": "its iss or aud isn't this service's (JWTGUARD_ISSUER, JWTGUARD_AUDIENCE)",
    "dates": "a date of it lies in the future, or it claims to live longer than any token here does",
    "date": "exp or iat is missing, or a date isn't a number",
    "jti": "its jti isn't a session's id and a generation, so it isn't a token of jwtguard",
    "sid": "its sid isn't the session that its jti names",
    "sub": "its sub isn't 1 to 255 bytes of text without control characters",
    "text": "sub or scope is missing, or isn't text",
}


class Verdict(NamedTuple):
    """Whether a token would be accepted now: the code that a client would be answered, and why."""

    code: str
    why: str

    @property
    def accepted(self) -> bool:
        return not self.code


def inspect(
    token: Annotated[str | None, typer.Argument(help="The token; left out or -, it is read from standard input.")] = None,
    as_json: AsJSON = False,
) -> None:
    """Show a token's header and claims, whether it would be accepted now, and why not."""
    if token in (None, "-"):
        token = sys.stdin.read(LONGEST).strip()
    else:
        note(
            "jwtguard: the token is in your shell's history now, and others can see it in the list of processes: pipe it in"
        )
    raw = token_bytes(token or "")
    header, claims = (_part(raw, place) for place in range(2))
    with open_guard() as guard:
        verdict = _verdict(guard, raw, header)
    if as_json:
        plain = {"code": verdict.code or None, "why": verdict.why}
        print_json({"accepted": verdict.accepted, **plain, "header": header, "claims": claims})
    else:
        _show(verdict, header, claims)
    raise typer.Exit(Exit.YES if verdict.accepted else Exit.NO)


def _show(verdict: Verdict, header: Any, claims: Any) -> None:
    rows = [
        (part, name, _shown(name, value))
        for part, values in (("header", header), ("claim", claims))
        if isinstance(values, dict)
        for name, value in values.items()
    ]
    if rows:
        print_table(("", "name", "value"), rows)
        print_text()
    if verdict.accepted:
        print_text(f"Accepted: {verdict.why}.", "green")
    else:
        print_text(f"Refused ({verdict.code}): {verdict.why}.", "red")


def _shown(name: str, value: Any) -> str:
    if name in ("exp", "iat", "nbf", "auth_time") and type(value) is int and 0 <= value < 2**37:
        return f"{value} ({moment(value)})"
    return flat(value)


def _part(token: bytes, place: int) -> Any:
    """A part of a token as it stands there, unverified; None if it can't be read."""
    try:
        text = token.split(b".")[place]
        return json.loads(base64.urlsafe_b64decode(text + b"=" * (-len(text) % 4)))
    except (IndexError, ValueError, RecursionError):
        return None


def _verdict(guard: Guard, token: bytes, header: Any) -> Verdict:
    """Raises StoreUnavailable."""
    try:
        access = guard.core.tokens.read_access(token)
    except TokenExpired as error:
        return Verdict(error.code, "its exp has passed")
    except TokenInvalid as error:
        check = guard.core.tokens.failed_check(token) or ""
        return Verdict(error.code, _why_the_header(guard, header) if check in ("header", "typ") else CHECKS[check])
    return _judged(guard, access)


def _why_the_header(guard: Guard, header: Any) -> str:
    """Which of what the header says no token here says."""
    header = header if isinstance(header, dict) else {}
    if strange := sorted(header.keys() - {"alg", "kid", "typ"}):
        return f"its header has {flat(strange)}, and may have alg, kid and typ only"
    if header.get("typ") in ("rt+jwt", "session-choice+jwt"):
        return "it is a refresh token or a ticket, and no access token"
    if header.get("typ") != "at+jwt":
        return f"its typ is {flat(header.get('typ'))}, and an access token's is at+jwt"
    key_id = header.get("kid")
    if isinstance(key_id, str) and guard.core.tokens.keyring.has(key_id):
        return f"its alg is {flat(header.get('alg'))}, and that isn't what its key {flat(key_id)} is for"
    return f"its kid {flat(key_id)} is none of the keys here: another key or secret signed it"


def _judged(guard: Guard, access: Access) -> Verdict:
    """What the store says of a token that is verified. Asked by loads only."""
    issuer = guard.core.tokens.issuer
    everyone, _ = _load(guard, everyone_key(issuer), "")
    document, loaded = _load(guard, document_key(issuer, access.subject), access.subject)
    now = Moment(loaded.now, guard.core.policy, everyone.not_before)
    verdict = judge(document, now, access.session_id, access.generation)
    if isinstance(verdict, Active):
        return Verdict("", f"the session is active, and goes on for {verdict.remaining // 1000} s if nothing happens to it")
    if verdict is None:
        return Verdict("", "its generation is newer than the store's, which must have lost writes: a guard takes it over")
    refusal: type[AuthError] = ENDED[verdict.reason] if isinstance(verdict, Ended) else TokenSuperseded
    return Verdict(refusal.code, refusal.description[0].lower() + refusal.description.partition(".")[0][1:])


def _load(guard: Guard, key: bytes, subject: str) -> tuple[Document, Loaded]:
    loaded = guard._store.load(key)
    return decode(loaded.data, subject), loaded


def issue(
    subject: Annotated[str, typer.Argument(help="The user to log in.")],
    scope: Annotated[list[str] | None, typer.Option(help="A scope; may be given several times.")] = None,
    as_json: AsJSON = False,
) -> None:
    """Log a user in, as `guard.login` does, and print the access token; with --json the whole pair."""
    if not subject:
        fail("name a user", Exit.WRONG)
    with open_guard() as guard, right_arguments():
        pair = guard.login(subject, scopes=scope or (), device=Device("jwtguard token issue"))
    if as_json:
        print_json(pair.to_dict())
    else:
        typer.echo(pair.access_token)
