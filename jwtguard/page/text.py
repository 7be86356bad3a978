"""All words of the page, to be translated in one place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = ["ENGLISH", "Text"]


@dataclass(frozen=True, slots=True)
class Text:
    """The words of the page, in one language: plain text, which is escaped. `lang` is its BCP 47 tag; `time` is a format
    of `strftime`, for a time in UTC; `end_one` may name `{device}`, `{address}` and `{since}`."""

    lang: str = "en"
    time: str = "%Y-%m-%d %H:%M UTC"
    title: str = "Your sessions"
    introduction: str = "These devices are signed in to your account. Sign out any that you don't know."
    current: str = "This device"
    address: str = "Address"
    since: str = "Signed in"
    seen: str = "Last seen"
    unknown_device: str = "Unknown device"
    unknown_address: str = "unknown address"
    end: str = "Sign out"
    end_one: str = "{device}, {address}, signed in {since}"
    """What a screen reader adds to `end`, so that each button has a name of its own."""
    end_others: str = "Sign out all other devices"
    end_all: str = "Sign out everywhere, here too"
    home: str = "Back to the site"
    back: str = "Your sessions"
    signed_out: str = "You are signed out"
    signed_out_more: str = "Nobody is signed in here. Sign in again to see your sessions."
    gone: str = "This session is over"
    gone_more: str = "It had been signed out before, or was never yours."
    failed: str = "That didn't work"
    failed_more: str = "Your sessions can't be reached at the moment. Nothing may have changed. Try again later."


ENGLISH: Final = Text()
