"""The head of a request, as the gate reads it: the same from both faces, and nothing copied.

A face makes it only where the warm path has no answer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

__all__ = ["RequestHead"]


class RequestHead(NamedTuple):
    """What a request says of itself, of who sends it, and from where.

    method: a WebSocket's handshake is a GET. path: as the app will route it, below the mount point; "" where that is
    ambiguous. authorization: its Authorization values. header: gives the value of any header by its name in upper case with
    underscores, several fields joined as one; None where there is none. is_live: whether it opens a WebSocket. mount: the
    path that the app is mounted at. scheme: of the URL, as the server reports it.
    """

    method: str
    path: str
    authorization: Sequence[bytes]
    header: Callable[[str], str | None]
    is_live: bool = False
    mount: str = ""
    scheme: str = ""
