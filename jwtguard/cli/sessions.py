"""`jwtguard sessions` and `jwtguard purge`: what administrators do to the store."""

from __future__ import annotations

from typing import Annotated, Protocol, runtime_checkable

import typer

from ..model import Session
from .output import AsJSON, Exit, fail, moment, open_guard, print_json, print_table, print_text, right_arguments

__all__ = ["purge", "revoke", "revoke_all", "show"]

Subject = Annotated[str, typer.Argument(help="The user: the `sub` of their tokens.")]


@runtime_checkable
class Purgeable(Protocol):
    """A store that keeps what has expired until it is told to drop it."""

    def purge(self) -> int: ...


def show(subject: Subject, as_json: AsJSON = False) -> None:
    """List a user's active sessions, newest first."""
    with open_guard() as guard, right_arguments():
        found = guard.sessions(subject)
    if as_json:
        print_json([_plain(session) for session in found])
    elif found:
        columns = ("id", "device", "address", "opened", "last seen", "ends", "scopes")
        print_table(columns, map(_row, found))
    else:
        print_text(f"{subject} has no active session.")


def _plain(session: Session) -> dict[str, object]:
    plain = session.to_dict()
    del plain["current"]  # nobody's request asks here
    return plain


def _row(session: Session) -> tuple[str, ...]:
    times = map(moment, (session.created_at, session.last_seen_at, session.expires_at))
    return (session.id, session.device.name, session.device.ip or "", *times, " ".join(session.scopes))


def revoke(
    subject: Subject,
    session_id: Annotated[str, typer.Argument(metavar="ID", help="The session's id, as `sessions list` has it.")],
    as_json: AsJSON = False,
) -> None:
    """End one session of a user."""
    with open_guard() as guard, right_arguments():
        ended = guard.revoke(subject, session_id)
    if as_json:
        print_json({"revoked": int(ended)})
        raise typer.Exit(Exit.YES if ended else Exit.NO)
    if not ended:
        fail(f"{subject} has no active session with this id", Exit.NO)
    print_text("The session is over.")


def revoke_all(
    subject: Annotated[str | None, typer.Argument(help="The user; left out with --everyone.")] = None,
    everyone: Annotated[bool, typer.Option("--everyone", help="End every session of every user, by one write.")] = False,
    as_json: AsJSON = False,
) -> None:
    """End all sessions of a user, or of all users."""
    if (subject is None) is not everyone:
        fail("name a user, or say --everyone", Exit.WRONG)
    with open_guard() as guard, right_arguments():
        if subject is None:
            guard.revoke_everyone()
            ended = None
        else:
            ended = guard.revoke_all(subject)
    if as_json:
        print_json({"revoked": ended})
    elif ended is None:
        print_text("Every session of every user is over.")
    else:
        print_text(f"{ended} session{'s are' if ended != 1 else ' is'} over.")


def purge(as_json: AsJSON = False) -> None:
    """Delete what has expired from a store that doesn't do so by itself (SQL). Run it daily."""
    with open_guard() as guard:
        store = guard._store
        purged = store.purge() if isinstance(store, Purgeable) else None
    if as_json:
        print_json({"purged": purged})
    elif purged is None:
        print_text("This store drops what has expired by itself.")
    else:
        print_text(f"{purged} expired document{'s' * (purged != 1)} deleted.")
