"""A guarded Flask app. Configured by the environment alone; run it with `gunicorn examples.flask_app:app`."""

import hmac
from typing import Any

from flask import Flask, abort, request

from jwtguard.flask import JWTGuard, current_identity

USERS = {"alice": ("wonderland", []), "bob": ("builder", ["admin"])}

app = Flask(__name__)
guard = JWTGuard(app)


@app.get("/")
@guard.public
def home() -> dict[str, str]:
    return {"hello": "world"}


@app.post("/login")
@guard.public
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
@guard.requires("admin")  # else a 403 with its challenge
def admin() -> dict[str, str]:
    return {"hello": current_identity().subject}
