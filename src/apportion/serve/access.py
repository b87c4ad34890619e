"""Who may ask for what. Every route declares a class; one that declares none is refused."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from hashlib import blake2b
from typing import Annotated, Any, TypeVar

from fastapi import Depends, Request

F = TypeVar("F", bound=Callable[..., Any])
MARK = "apportion_access"


class Access(StrEnum):
    """Classes of routes."""

    OPEN = "open"  # to everybody
    USER = "user"  # to whoever has a key, where there are keys
    ADMIN = "admin"  # to whoever has the admin's key; where there is none, to nobody


def marked(access: Access) -> Callable[[F], F]:
    def mark(endpoint: F) -> F:
        setattr(endpoint, MARK, access)
        return endpoint

    return mark


open_to_all = marked(Access.OPEN)
for_users = marked(Access.USER)
for_admins = marked(Access.ADMIN)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks.

    Attributes:
        name: a digest of the key; empty where no keys are set.
        salt: keys and values are shared between requests of one salt alone.
    """

    name: str = ""
    salt: str = ""
    is_admin: bool = False


NOBODY = Caller()


def caller_of(request: Request) -> Caller:
    """The caller that the gate let through."""
    caller = request.scope.get("apportion.caller", NOBODY)
    assert isinstance(caller, Caller)
    return caller


CallerHere = Annotated[Caller, Depends(caller_of)]


def digest(key: str) -> bytes:
    return blake2b(key.encode("utf-8", "surrogatepass"), digest_size=32, person=b"apportion").digest()


class Keys:
    """Keys by their digests, so that comparing takes the same time whatever is tried."""

    def __init__(self, users: Iterable[str], admin: str | None) -> None:
        self._users = [digest(key) for key in users]
        self._admin = None if admin is None else digest(admin)

    @property
    def has_admin(self) -> bool:
        return self._admin is not None

    def caller(self, key: str | None) -> Caller | None:
        """Who has this key; None for somebody who may not ask."""
        tried = digest(key or "")
        if self._admin is not None and hmac.compare_digest(tried, self._admin):
            return Caller(tried.hex()[:12], tried.hex()[12:44], is_admin=True)
        known = [hmac.compare_digest(tried, user) for user in self._users]
        if any(known):
            return Caller(tried.hex()[:12], tried.hex()[12:44])
        return None if self._users else NOBODY
