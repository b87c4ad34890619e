"""Who may ask for what. Every route declares a class; one that declares none is refused."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from hashlib import blake2b, pbkdf2_hmac
from ipaddress import ip_address
from typing import Annotated, Any, TypeVar

from fastapi import Depends, Request

from apportion.core.errors import UsageError

F = TypeVar("F", bound=Callable[..., Any])
MARK = "apportion_access"
MAX_KEY_NBYTES = 512
MIN_KEY_CHARS = 8
ROUNDS = 20_000  # of deriving names and salts: from a log or a store on disk nobody guesses a key quickly


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
        name: a digest of the key, for logs; empty where no keys are set.
        salt: keys and values are shared between requests of one salt alone. The same key has the same salt
            after a restart.
    """

    name: str = ""
    salt: str = ""
    is_admin: bool = False

    @classmethod
    def of(cls, key: str, is_admin: bool = False) -> Caller:
        derived = pbkdf2_hmac("sha256", _bytes(key), b"apportion caller", ROUNDS, 22).hex()
        return cls(derived[:12], derived[12:], is_admin)


NOBODY = Caller()


def caller_of(request: Request) -> Caller:
    """The caller that the gate let through."""
    caller = request.scope.get("apportion.caller", NOBODY)
    assert isinstance(caller, Caller)
    return caller


CallerHere = Annotated[Caller, Depends(caller_of)]


class Keys:
    """Keys that are accepted. They are kept and compared as digests of one length under a secret of this
    process: how long it takes says nothing about a key, whatever is tried.

    Raises:
        UsageError: a key is too short, too long, or cannot be sent in a header.
    """

    def __init__(self, users: Iterable[str] = (), admin: str | None = None) -> None:
        self._secret = secrets.token_bytes(32)
        everybody = [(key, False) for key in dict.fromkeys(users)]
        if admin is not None:
            everybody.insert(0, (admin, True))  # who has the admin's key is the admin, also if users share it
        for key, _ in everybody:
            check_key(key)
        self._known = [(self._digest(key), Caller.of(key, is_admin)) for key, is_admin in everybody]
        self.has_admin = admin is not None
        self.has_users = len(everybody) > self.has_admin

    def caller(self, key: str) -> Caller | None:
        """Who has this key; None for somebody who may not ask. Where users have no keys everybody may."""
        tried = self._digest(key)
        found: Caller | None = None if self.has_users else NOBODY
        for known, caller in reversed(self._known):  # all of them, whichever it is
            if hmac.compare_digest(tried, known):
                found = caller
        return found

    def _digest(self, key: str) -> bytes:
        return blake2b(_bytes(key), digest_size=32, key=self._secret).digest()


def _bytes(key: str) -> bytes:
    return key.encode("utf-8", "surrogatepass")


def check_key(key: str) -> None:
    """Raises UsageError for a key that is easily guessed or cannot be sent; the error does not show it."""
    if len(key) < MIN_KEY_CHARS or len(_bytes(key)) > MAX_KEY_NBYTES:
        raise UsageError(
            "a key is too short or too long",
            f"keys have {MIN_KEY_CHARS} to {MAX_KEY_NBYTES} characters",
            "make one with: openssl rand -hex 24",
            length=len(key),
        )
    if not all("!" <= letter <= "~" for letter in key):
        raise UsageError(
            "a key cannot be sent in a header",
            "it has spaces or other characters than printable ASCII",
            "make one with: openssl rand -hex 24",
        )


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    try:
        return ip_address(host.strip("[]").partition("%")[0]).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def check_exposed(host: str, keys: Keys) -> None:
    """Raises UsageError where others than this machine would reach a server that asks for no key."""
    if not keys.has_users and not is_loopback(host):
        raise UsageError(
            f"{host!r} can be reached from other machines, and no key is set",
            "everybody who reaches the address could use the models",
            "give --api-key or --api-key-file, or listen at 127.0.0.1",
        )
