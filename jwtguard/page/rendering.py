"""The page as HTML."""

from __future__ import annotations

import base64
import hashlib
from datetime import UTC, datetime
from html import escape
from http import HTTPStatus
from string import Template
from typing import Final

from ..model import Session
from .model import SessionsPage
from .text import ENGLISH, Text

__all__ = ["STYLE_HASH", "render"]

STYLE: Final = """
:root { color-scheme: light dark; --ink: #1b1f24; --paper: #fff; --soft: #57606a; --line: #d0d7de; --mark: #0a5bb5 }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6edf3; --paper: #0d1117; --soft: #9aa4af; --line: #30363d; --mark: #79b8ff }
}
* { box-sizing: border-box }
body { margin: 0; background: var(--paper); color: var(--ink); font: 1rem/1.5 system-ui, sans-serif }
main { max-width: 44rem; margin: 0 auto; padding: 1rem; overflow-wrap: anywhere }
h1 { font-size: 1.6rem; line-height: 1.25 }
h2 { font-size: 1.1rem; margin: 0 0 .25rem }
ul { list-style: none; margin: 1.5rem 0; padding: 0 }
li { display: flex; flex-wrap: wrap; gap: .75rem; align-items: center; justify-content: space-between;
  border-top: 1px solid var(--line); padding: 1rem 0 }
dl { display: grid; grid-template-columns: auto 1fr; gap: 0 .75rem; margin: 0 }
dt { color: var(--soft) }
dd { margin: 0 }
a, .current { color: var(--mark) }
.current { font-size: .85rem; border: 1px solid; border-radius: 1rem; padding: 0 .6rem; white-space: nowrap }
button { font: inherit; color: inherit; background: none; border: 1px solid var(--soft); border-radius: .4rem;
  min-height: 2.75rem; padding: .3rem 1rem; cursor: pointer }
button:hover { border-color: var(--mark); color: var(--mark) }
:focus-visible { outline: 3px solid var(--mark); outline-offset: 2px }
.all { display: flex; flex-wrap: wrap; gap: .75rem }
.unseen { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap }
"""
STYLE_HASH: Final = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
"""For the Content-Security-Policy (CSP Level 3 section 2.3.1)."""

_DOCUMENT: Final = Template(
    """<!doctype html>
<html lang="$lang">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>$style</style>
</head>
<body>
<main>
<h1>$title</h1>
<p>$introduction</p>
$content
</main>
</body>
</html>
"""
)
_SESSION: Final = Template(
    """<li>
<div>
<h2><bdi>$device</bdi>$current</h2>
<dl>
<dt>$address_label</dt><dd><bdi>$address</bdi></dd>
<dt>$since_label</dt><dd>$since</dd>
<dt>$seen_label</dt><dd>$seen</dd>
</dl>
</div>
<form method="post" action="$action">
<button name="end" value="$id">$end<span class="unseen"> $end_one</span></button>
</form>
</li>"""
)
_KEEP: Final = Template('<form method="post" action="$action"><button name="keep" value="$keep">$end</button></form>')
_LINK: Final = Template('<p><a href="$to">$words</a></p>')


def render(page: SessionsPage, text: Text = ENGLISH) -> str:
    """The page as an HTML document, in the language of `text`. Every value is escaped."""
    if page.error is not None:
        return _error(page, page.error.status, text)
    sessions = "\n".join(_session(session, page.action, text) for session in page.sessions)
    endings = [("none", text.end_all)]
    if len(page.sessions) > 1:
        endings.insert(0, ("current", text.end_others))
    buttons = "\n".join(_filled(_KEEP, action=page.action, keep=keep, end=words) for keep, words in endings)
    content = f'<ul role="list">\n{sessions}\n</ul>\n<div class="all">\n{buttons}\n</div>\n'
    return _document(text, text.title, text.introduction, content + _filled(_LINK, to=page.home, words=text.home))


def _error(page: SessionsPage, status: int, text: Text) -> str:
    if status == HTTPStatus.UNAUTHORIZED:
        link = _filled(_LINK, to=page.home, words=text.home)
        return _document(text, text.signed_out, text.signed_out_more, link)
    link = _filled(_LINK, to=page.action, words=text.back)
    if status == HTTPStatus.NOT_FOUND:
        return _document(text, text.gone, text.gone_more, link)
    return _document(text, text.failed, text.failed_more, link)


def _session(session: Session, action: str, text: Text) -> str:
    device = session.device.name or text.unknown_device
    address = session.device.ip or text.unknown_address
    current = f' <span class="current">{escape(text.current)}</span>' if session.current else ""
    return _SESSION.substitute(
        _escaped(
            device=device,
            address=address,
            address_label=text.address,
            since_label=text.since,
            seen_label=text.seen,
            action=action,
            id=session.id,
            end=text.end,
            end_one=text.end_one.format(device=device, address=address, since=_moment(session.created_at, text)),
        ),
        current=current,
        since=_time(session.created_at, text),
        seen=_time(session.last_seen_at, text),
    )


def _document(text: Text, title: str, introduction: str, content: str) -> str:
    values = _escaped(lang=text.lang, title=title, introduction=introduction)
    return _DOCUMENT.substitute(values, style=STYLE, content=content)


def _time(seconds: int, text: Text) -> str:
    machine = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return f'<time datetime="{machine}">{escape(_moment(seconds, text))}</time>'


def _moment(seconds: int, text: Text) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime(text.time)


def _filled(template: Template, **values: str) -> str:
    return template.substitute(_escaped(**values))


def _escaped(**values: str) -> dict[str, str]:
    return {name: escape(value) for name, value in values.items()}
