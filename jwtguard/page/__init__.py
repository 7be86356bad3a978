"""The page "Your sessions": what a browser is shown where a program gets JSON. Pure: a model in, HTML out.

Every value is escaped where it is put into the page, and no other text reaches it. The page has no script, and its
Content-Security-Policy lets none run.
"""

from __future__ import annotations

from .answer import PageHook, page_answer, prefers_html
from .model import SessionsPage
from .rendering import render
from .text import ENGLISH, Text

__all__ = ["ENGLISH", "PageHook", "SessionsPage", "Text", "page_answer", "prefers_html", "render"]
