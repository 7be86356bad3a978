"""Django in the tests' process: its settings, once, and sites made of a middleware and a few views."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import django
from django.conf import settings
from django.test.utils import override_settings
from django.urls import clear_url_caches, path, re_path
from django.utils.functional import empty

import jwtguard.django

__all__ = ["GUARD", "site", "unconfigured"]

GUARD = "jwtguard.django.JWTGuardMiddleware"

if not settings.configured:
    settings.configure(
        ALLOWED_HOSTS=["*"],
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth", "django.contrib.sessions"],
        PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],
        SECRET_KEY="of these tests alone",
        USE_TZ=True,
    )
    django.setup()


@contextmanager
def site(
    views: dict[str, Callable[..., Any]] | Callable[..., Any],
    *,
    jwtguard: Any,
    middleware: tuple[str, ...] = (GUARD,),
    **more: Any,
) -> Iterator[None]:
    """While this lasts, Django serves these views: by route, or one for every path."""
    urls = ModuleType("urls")
    routes = [re_path("", views)] if callable(views) else [path(route, view) for route, view in views.items()]
    urls.urlpatterns = routes  # type: ignore[attr-defined]
    given = {name.upper(): value for name, value in jwtguard.items()} if isinstance(jwtguard, dict) else jwtguard
    with override_settings(ROOT_URLCONF=urls, MIDDLEWARE=list(middleware), JWTGUARD=given, **more):
        yield


@contextmanager
def unconfigured() -> Iterator[None]:
    """While this lasts, Django has no settings, so that an app can bring its own."""
    before = settings._wrapped
    jwtguard.django._made.forget()
    settings._wrapped = empty
    clear_url_caches()
    try:
        yield
    finally:
        settings._wrapped = before
        jwtguard.django._made.forget()
        clear_url_caches()
