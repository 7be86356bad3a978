"""A guarded Flask app. Configured by the environment alone; run it with `gunicorn examples.flask_app:app`."""

import hmac
from typing import Any

from flask import Flask, abort, request

from jwtguard import ScopeMissing
from jwtguard.flask import JWTGuard, current_identity

USERS = {"alice": ("wonderland", []), "bob": ("builder", ["admin"])}

app = Flask(__name__)
guard = JWTGuard(app, public="/, POST /login")


@app.get("/")
def home() -> dict[str, str]:
    return {"hello": "world"}


@app.post("/login")
def login() -> dict[str, Any]:
    credentials = request.get_json()
    username, given = str(credentials.get("username")), str(credentials.get("password"))
    password, scopes = USERS.get(username, ("", []))
    if not password or not hmac.compare_digest(password.encode(), given.encode()):
        abort(401, "wrong username or password")
    return guard.login(username, scopes=scopes).to_dict()


@app.get("/me")
def me() -> dict[str, Any]:
    identity = current_identity()
    return {"sub": identity.subject, "sid": identity.session_id, "scopes": list(identity.scopes)}


@app.get("/admin")
def admin() -> dict[str, str]:
    identity = current_identity()
    if "admin" not in identity.scopes:
        raise ScopeMissing(["admin"])  # becomes a 403 with its challenge
    return {"hello": identity.subject}
