"""Authlib's ResourceProtector for Flask, with its validator for JWTs. It has no registry."""

import secrets
import time

from authlib.integrations.flask_oauth2 import ResourceProtector
from authlib.jose import jwt
from authlib.oauth2.rfc7523 import JWTBearerTokenValidator
from flask import Flask

from ..asking import Subject

SECRET = secrets.token_urlsafe(48)


def app(*, guarded):
    made = Flask(__name__)
    require = ResourceProtector()
    require.register_token_validator(JWTBearerTokenValidator(SECRET))

    def me():
        return {"sub": "user-1"}

    made.add_url_rule("/me", view_func=require("read")(me) if guarded else me)
    return made.wsgi_app


def token(secret=SECRET, age=0):
    now = int(time.time()) - age
    claims = {"sub": "user-1", "client_id": "app", "grant_type": "x", "iat": now, "exp": now + 1800, "scope": "read write"}
    return jwt.encode({"alg": "HS256"}, claims, secret).decode()


def make(_variant, _redis_url):
    bad = {"forged": token("s" * 48), "expired": token(age=3600)}
    return Subject("wsgi", app(guarded=False), app(guarded=True), token(), bad)
