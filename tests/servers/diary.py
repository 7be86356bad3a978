"""A program that logs in and refreshes for as long as it lives, and reports each answer before it asks for the next.

    python -m servers.diary NAME

A line of its output is the session's number, and the pair that it was answered. It may be killed at any moment: a line is
written by one call, so what has been written are whole lines.
"""

import itertools
import json
import os
import random
import sys

from jwtguard import Guard, TokenPair


def main(name: str) -> None:
    guard = Guard.from_env()
    sessions: dict[int, TokenPair] = {}
    for number in itertools.count():
        place = random.choice(list(sessions)) if sessions and random.random() < 0.6 else number
        known = sessions.get(place)
        pair = guard.login(f"{name}-{place}") if known is None else guard.refresh(known.refresh_token)
        sessions[place] = pair
        os.write(1, json.dumps([f"{name}-{place}", pair.to_dict()]).encode() + b"\n")


if __name__ == "__main__":
    main(sys.argv[1])
