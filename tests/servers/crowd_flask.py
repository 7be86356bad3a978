"""The Flask example with a crowd of users; each answer tells the process that gave it."""

from examples import flask_app
from servers.crowd import CROWD
from servers.flask_worker import app

__all__ = ["app"]

flask_app.USERS |= CROWD
