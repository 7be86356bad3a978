"""A steady load: users who log in, use their sessions, refresh and log out, on all servers by turns; and what was wrong.

What a user may expect, whatever befalls the store:
- A session whose login was answered, and that nobody has ended, is let in, or told 503.
- One whose end was answered is never let in when that is longer ago than the bound.
- No answer is 500, and none takes forever.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Final, NamedTuple

import httpx2

from servers.crowd import CROWD
from servers.serving import Client, until

__all__ = ["Answer", "Load", "Report"]

PAUSE: Final = 0.01
"""Seconds between two requests of one user."""
LONGEST: Final = 20.0
"""Seconds after which a request hangs. The guards give up after 2, and the servers have a queue."""
MOST: Final = 6
"""Active sessions per user."""
REMEMBERED: Final = 40
"""Ended sessions per user that are still tried."""
WEIGHTS: Final = {"use": 60, "use_ended": 20, "log_in": 8, "refresh": 6, "log_out": 6}
IN_A_ROW: Final = 15
"""Answers without a 503 in between, of every user, that show that all is well again."""


class Answer(NamedTuple):
    """To what was asked when. `status`: 0 if the connection broke. `wrong`: what must not be, "" if all is well."""

    kind: str
    asked: float
    answered: float
    status: int
    code: str
    wrong: str = ""


class Report(NamedTuple):
    """What came of a load. `recovery`: seconds from the fault's end to the last 503."""

    requests: int
    unavailable: int
    broken: int
    wrong: dict[str, int]
    stray: int
    recovery: float
    slowest: float


class Session:
    """A session as its user knows it: `since` its login was answered; over by an answer of `ended`, or `ending` if the
    answer to that is still missing."""

    def __init__(self, pair: dict[str, Any], since: float) -> None:
        self.pair = pair
        self.since = since
        self.ended = float("inf")
        self.ending = False


class Load:
    """A load on servers. Arguments: `bound`, seconds after which an ending is known everywhere."""

    def __init__(self, urls: Sequence[str], *, users: int = 6, bound: float, pause: float = PAUSE) -> None:
        self.urls = urls
        self.bound = bound
        self.pause = pause
        self.over = threading.Event()
        self.kinds = WEIGHTS
        self.answers: list[Answer] = []
        self.emptied = float("-inf")
        self._fault = (float("inf"), float("inf"), float("inf"))
        self._users = [_User(self, name) for name in random.sample(sorted(CROWD), users)]

    def __enter__(self) -> Load:
        for user in self._users:
            user.start()
        self.more(IN_A_ROW)
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.over.set()
        for user in self._users:
            user.join(2 * LONGEST)

    def more(self, count: int) -> None:
        """Wait until each user has so many more answers."""
        goals = {user: user.count + count for user in self._users}
        until(f"{count} more answers", lambda: self._all(lambda user: user.count >= goals[user]))

    def lasts(self, seconds: float) -> None:
        """Let a fault last."""
        self.over.wait(seconds)
        self.more(2)

    def forget(self) -> None:
        """Sessions from before now may be unknown: the store forgets them."""
        self.emptied = time.monotonic()

    @contextmanager
    def fault(self) -> Iterator[None]:
        """What may be answered 503: what is asked from here until all is well again after the end."""
        began = time.monotonic()
        self._fault = (began, float("inf"), float("inf"))
        yield
        ended = time.monotonic()
        goals = {user: user.count + IN_A_ROW for user in self._users}

        def is_well(user: _User) -> bool:
            return user.count >= goals[user] and user.row >= IN_A_ROW

        until("all is well again", lambda: self._all(is_well))
        self._fault = (began, ended, time.monotonic())
        self.more(IN_A_ROW)

    @contextmanager
    def without(self, *kinds: str) -> Iterator[None]:
        """Nothing of these kinds is asked meanwhile, nor on its way."""
        self.kinds = {kind: weight for kind, weight in WEIGHTS.items() if kind not in kinds}
        self.more(2)
        yield
        self.kinds = WEIGHTS

    def _all(self, is_so: Callable[[_User], bool]) -> bool:
        for user in self._users:
            assert user.is_alive() or self.over.is_set(), "a user's thread has failed"
        return all(map(is_so, self._users))

    def finish(self) -> Report:
        """Stop, ask for each session once more on each server, and judge."""
        self.__exit__()
        for user in self._users:
            user.sum_up()
        began, ended, well = self._fault
        refused = [answer for answer in self.answers if answer.status == 503]
        in_fault = [answer for answer in refused if answer.answered >= began and answer.asked <= well]
        last = max((answer.answered for answer in refused), default=ended)
        return Report(
            requests=len(self.answers),
            unavailable=len(refused),
            broken=sum(answer.status == 0 for answer in self.answers),
            wrong=dict(Counter(answer.wrong for answer in self.answers if answer.wrong)),
            stray=len(refused) - len(in_fault),
            recovery=max(0.0, last - ended),
            slowest=max(answer.answered - answer.asked for answer in self.answers),
        )


class _User(threading.Thread):
    """A user, and the program that they use."""

    def __init__(self, load: Load, name: str) -> None:
        super().__init__(name=name, daemon=True)
        self._load = load
        self._active: list[Session] = []
        self._ended: list[Session] = []
        self._clients: list[Client] = []
        self.count = 0
        self.row = 0

    def run(self) -> None:
        with self._connected():
            while not self._load.over.wait(self._load.pause):
                self._act()
                self.count += 1

    def sum_up(self) -> None:
        """Ask for all that are known, on each server."""
        with self._connected():
            for client in self._clients:
                for session in list(self._active):
                    self._use(session, client)
                for session in self._ended:
                    self._use_ended(session, client)

    @contextmanager
    def _connected(self) -> Iterator[None]:
        with ExitStack() as stack:
            self._clients = [stack.enter_context(Client(url)) for url in self._load.urls]
            for client in self._clients:
                client.http.timeout = LONGEST
            yield

    def _act(self) -> None:
        kinds = self._load.kinds
        kind = random.choices(list(kinds), list(kinds.values()))[0]
        if kind == "log_in" and len(self._active) >= MOST:
            kind = "log_out" if "log_out" in kinds else "use"
        if kind != "log_in" and not self._active:
            kind = "log_in" if "log_in" in kinds else "use_ended"
        if kind == "log_in":
            self._log_in()
        elif kind == "use_ended":
            if self._ended:
                self._use_ended(random.choice(self._ended), self._client())
        else:
            session = random.choice(self._active)
            if session.ending or kind == "log_out":
                self._log_out(session)
            elif kind == "refresh":
                self._refresh(session)
            else:
                self._use(session, self._client())

    def _client(self) -> Client:
        return random.choice(self._clients)

    # -- requests ----------------------------------------------------------------------------------------------------------

    def _log_in(self) -> None:
        answer, pair = self._ask("log_in", self._client(), lambda client: client.try_to_log_in(self.name, "secret"))
        if answer.status == 200:
            self._active.append(Session(pair, answer.answered))
        self._note(answer, self._unless(answer, 200))

    def _use(self, session: Session, client: Client) -> None:
        if session.ending:
            return
        answer, _ = self._ask("use", client, lambda client: client.me(session.pair))
        self._note(answer, self._for_active(answer, session))

    def _use_ended(self, session: Session, client: Client) -> None:
        answer, _ = self._ask("use_ended", client, lambda client: client.me(session.pair))
        is_late = answer.status == 200 and answer.asked > session.ended + self._load.bound
        self._note(answer, "admitted" if is_late else self._unless(answer, 200, 401))

    def _refresh(self, session: Session) -> None:
        answer, pair = self._ask("refresh", self._client(), lambda client: client.refresh(session.pair))
        if answer.status == 200:
            session.pair = pair
        self._note(answer, self._for_active(answer, session))

    def _log_out(self, session: Session) -> None:
        answer, _ = self._ask("log_out", self._client(), lambda client: client.try_to_log_out(session.pair))
        over = answer.status == 204 or (session.ending and answer.status == 401)
        wrong = "" if over else self._for_active(answer, session)
        if over:
            self._end(session, answer)
        session.ending = True
        self._note(answer, wrong)

    def _ask(self, kind: str, client: Client, ask: Callable[[Client], httpx2.Response]) -> tuple[Answer, dict[str, Any]]:
        asked = time.monotonic()
        status = 0
        found: dict[str, Any] = {}
        try:
            response = ask(client)
        except httpx2.TimeoutException:
            return Answer(kind, asked, time.monotonic(), 0, "hangs", "hangs"), {}
        except httpx2.TransportError:
            pass
        else:
            status = response.status_code
            found = response.json() if response.content and status != 500 else {}
        return Answer(kind, asked, time.monotonic(), status, str(found.get("code", ""))), found

    # -- judgement ---------------------------------------------------------------------------------------------------------

    def _for_active(self, answer: Answer, session: Session) -> str:
        """What is wrong with an answer about a session that nobody has ended."""
        if answer.status != 401:
            return self._unless(answer, 200, 204)
        self._end(session, answer)
        if answer.code == "session_unknown":
            return "" if session.since < self._load.emptied else "lost"
        return f"refused: {answer.code}"

    def _unless(self, answer: Answer, *statuses: int) -> str:
        if answer.status in (0, 503, *statuses):
            return answer.wrong
        return f"answered {answer.status} {answer.code}"

    def _end(self, session: Session, answer: Answer) -> None:
        session.ended = answer.answered
        self._active.remove(session)
        self._ended = [*self._ended[-REMEMBERED:], session]

    def _note(self, answer: Answer, wrong: str) -> None:
        self._load.answers.append(answer._replace(wrong=wrong))
        self.row = 0 if answer.status in (0, 503) else self.row + 1
