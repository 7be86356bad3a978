"""flask-jwt-extended: without a registry, with a set of revoked tokens, and with one in Redis, as its pages have it."""

import secrets

from flask import Flask
from flask_jwt_extended import JWTManager, create_access_token, get_jti, jwt_required

from ..asking import Subject

SECRET = secrets.token_urlsafe(48)


def app(*, guarded, secret=SECRET):
    made = Flask(__name__)
    made.config["JWT_SECRET_KEY"] = secret
    manager = JWTManager(made)

    def me():
        return {"sub": "user-1"}

    made.add_url_rule("/me", view_func=jwt_required()(me) if guarded else me)
    return made, manager


def token_of(made):
    with made.app_context():
        return create_access_token("user-1", additional_claims={"scope": "read write"})


def make(variant, redis_url):
    guarded, manager = app(guarded=True)
    good = token_of(guarded)
    bad = {"forged": token_of(app(guarded=True, secret="s" * 48)[0])}
    if variant != "none":
        bad["revoked"] = token_of(guarded)
        with guarded.app_context():
            blocked = get_jti(bad["revoked"])
        manager.token_in_blocklist_loader(in_set({blocked}) if variant == "set" else in_redis(redis_url, blocked))
    return Subject("wsgi", app(guarded=False)[0].wsgi_app, guarded.wsgi_app, good, bad)


def in_set(revoked):
    return lambda _header, payload: payload["jti"] in revoked


def in_redis(redis_url, blocked):
    import redis

    client = redis.Redis.from_url(redis_url)
    client.set(blocked, "", ex=1800)
    return lambda _header, payload: client.get(payload["jti"]) is not None
