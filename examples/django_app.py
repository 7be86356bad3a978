"""A guarded Django site in one file, configured by the environment alone.

`gunicorn examples.django_app:app`, or `uvicorn examples.django_app:asgi`: the same views under both.
"""

import asyncio
import hmac
import json
import secrets
from collections.abc import AsyncIterator

from django.conf import settings
from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, JsonResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.urls import path
from django.views.decorators.http import require_GET, require_POST

from jwtguard.django import current_identity, guard

USERS = {"alice": ("wonderland", []), "bob": ("builder", ["admin"])}

settings.configure(
    ALLOWED_HOSTS=["127.0.0.1", "localhost", "testserver"],
    JWTGUARD={"PUBLIC": "/, POST /login"},
    MIDDLEWARE=["django.middleware.common.CommonMiddleware", "jwtguard.django.JWTGuardMiddleware"],
    ROOT_URLCONF=__name__,
    SECRET_KEY=secrets.token_urlsafe(48),  # Django's own, which nothing here uses
)


@require_GET
def home(request: HttpRequest) -> JsonResponse:
    return JsonResponse({"hello": "world"})


@require_POST
def login(request: HttpRequest) -> JsonResponse:
    credentials = json.loads(request.body)
    username, given = str(credentials.get("username")), str(credentials.get("password"))
    password, scopes = USERS.get(username, ("", []))
    if not password or not hmac.compare_digest(password.encode(), given.encode()):
        return JsonResponse({"error": "wrong username or password"}, status=401)
    return JsonResponse(guard.login(username, scopes=scopes).to_dict())


@require_GET
def me(request: HttpRequest) -> JsonResponse:
    identity = current_identity(request)  # the same as request.identity
    return JsonResponse({"sub": identity.subject, "sid": identity.session_id, "scopes": identity.scopes})


@require_GET
@guard.requires("admin")
def admin(request: HttpRequest) -> JsonResponse:
    return JsonResponse({"hello": current_identity(request).subject})


@require_GET
async def stream(request: HttpRequest) -> HttpResponseBase:
    if not hasattr(request, "scope"):  # under WSGI Django waits for the end of an async stream before it sends any of it
        return JsonResponse({"error": "only the ASGI app streams"}, status=501)

    async def events() -> AsyncIterator[str]:
        number = 0
        while True:
            yield f"data: {number}\n\n"
            number += 1
            await asyncio.sleep(1)

    return StreamingHttpResponse(events(), content_type="text/event-stream")


urlpatterns = [
    path("", home),
    path("login", login),
    path("me", me),
    path("admin", admin),
    path("stream", stream),
]

app = get_wsgi_application()
asgi = get_asgi_application()
