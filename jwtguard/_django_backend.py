"""For Django: the user of a request whose token's subject is a user's primary key.

Apart from `jwtguard.django`, since Django's authentication can only be imported once its models are there.
"""

from __future__ import annotations

from typing import Any

from asgiref.sync import sync_to_async
from django.contrib.auth.backends import ModelBackend
from django.contrib.auth.models import AnonymousUser
from django.core.exceptions import ValidationError
from django.http import HttpRequest

from .model import Identity

__all__ = ["IdentityBackend"]


class IdentityBackend(ModelBackend):
    """Makes `request.user` the user whose primary key is the token's subject: `guard.login(user.pk)`.

    For AUTHENTICATION_BACKENDS. It reads the user once per request, and not before it is asked for. Who is gone or not
    active is the anonymous user. Without a token `request.user` stays what Django's session says, where there are sessions.

    A subclass may find users in another way, by its `get_user(subject)`.
    """

    def authenticate(  # type: ignore[override]
        self, request: HttpRequest | None, identity: Identity | None = None
    ) -> Any:
        """The user of an identity, or None: `django.contrib.auth.authenticate(request, identity=request.identity)`."""
        del request
        return self.get_user(identity.subject) if identity is not None and identity.is_authenticated else None

    async def aauthenticate(  # type: ignore[override]
        self, request: HttpRequest | None, identity: Identity | None = None
    ) -> Any:
        """The same for `django.contrib.auth.aauthenticate`."""
        return await sync_to_async(self.authenticate)(request, identity)

    def get_user(self, subject: Any) -> Any:
        """The active user with this primary key, or None."""
        try:
            user = super().get_user(subject)
        except (ValueError, ValidationError):  # no key of the kind that users have
            return None
        return user if user is not None and str(user.pk) == str(subject) else None  # "01" is another subject than "1"

    async def aget_user(self, subject: Any) -> Any:
        """The same, awaited."""
        return await sync_to_async(self.get_user)(subject)

    def user_of(self, identity: Identity) -> Any:
        """The user of an identity, or the anonymous one."""
        return self.authenticate(None, identity=identity) or AnonymousUser()
