"""djangorestframework-simplejwt, as its documentation has it: it has no registry of access tokens."""

import secrets

import django
from django.conf import settings

from ..asking import Subject

SECRET = secrets.token_urlsafe(48)


def configure(**more):
    if not settings.configured:
        settings.configure(
            SECRET_KEY=SECRET,
            ALLOWED_HOSTS=["*"],
            ROOT_URLCONF=__name__,
            INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth", "rest_framework"],
            REST_FRAMEWORK={"UNAUTHENTICATED_USER": None, "DEFAULT_RENDERER_CLASSES": [RENDERER]},
            MIDDLEWARE=["django.middleware.common.CommonMiddleware"],  # as every new project has it: it tells the length
            USE_TZ=True,
            **more,
        )
        django.setup()


RENDERER = "rest_framework.renderers.JSONRenderer"
urlpatterns = []


def view(**options):
    from rest_framework.decorators import api_view, authentication_classes, permission_classes
    from rest_framework.response import Response

    @api_view(["GET"])
    @authentication_classes(options.get("authentication", []))
    @permission_classes(options.get("permission", []))
    def me(_request):
        return Response({"sub": "user-1"})

    return me


def app_at(script):
    """The Django app, with its paths below a prefix: a process has one Django."""
    from django.core.wsgi import get_wsgi_application

    inner = get_wsgi_application()

    def app(environ, start_response):
        environ["PATH_INFO"] = script + environ["PATH_INFO"]
        return inner(environ, start_response)

    return app


def bare_app():
    from django.urls import path

    configure()
    if not urlpatterns:
        urlpatterns.append(path("bare/me", view()))
    return app_at("/bare")


def guarded_app():
    from django.urls import path
    from rest_framework.permissions import IsAuthenticated
    from rest_framework_simplejwt.authentication import JWTStatelessUserAuthentication

    urlpatterns.append(
        path("guarded/me", view(authentication=[JWTStatelessUserAuthentication], permission=[IsAuthenticated]))
    )
    return app_at("/guarded")


def token_of(subject, secret=None):
    from rest_framework_simplejwt.state import token_backend
    from rest_framework_simplejwt.tokens import AccessToken

    token = AccessToken()
    token["user_id"] = subject
    if secret is None:
        return str(token)
    import jwt

    return jwt.encode(token.payload, secret, token_backend.algorithm)


def make(_variant, _redis_url):
    bare = bare_app()
    guarded = guarded_app()
    return Subject("wsgi", bare, guarded, token_of("user-1"), {"forged": token_of("user-1", "s" * 48)})
