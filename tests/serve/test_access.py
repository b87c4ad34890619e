"""Keys, and who they stand for."""

from __future__ import annotations

import ast
import hmac
import inspect
from typing import Any

import pytest

from apportion.core.errors import UsageError
from apportion.serve import access
from apportion.serve.access import NOBODY, Caller, Keys, check_exposed, is_loopback

ALICE, BOB, ADMIN = "alice-key-1", "bob-key-22222", "admin-key-333"


def test_each_key_is_somebody_and_no_other_is() -> None:
    keys = Keys([ALICE, BOB], ADMIN)
    alice, bob, admin = (keys.caller(key) for key in (ALICE, BOB, ADMIN))
    assert alice is not None
    assert bob is not None
    assert admin is not None
    assert admin.is_admin
    assert not alice.is_admin
    assert len({alice.name, bob.name, admin.name}) == len({alice.salt, bob.salt, admin.salt}) == 3


@pytest.mark.parametrize(
    "tried",
    [
        "",
        " ",
        ALICE[:-1],
        ALICE + "x",
        ALICE + "\0",
        ALICE.upper(),
        " " + ALICE,
        ALICE * 1000,
        "\udcff",
        "*",
        "None",
    ],
)
def test_what_is_nearly_a_key_is_none(tried: str) -> None:
    assert Keys([ALICE], ADMIN).caller(tried) is None


def test_where_users_have_no_keys_everybody_may_ask_and_the_admin_is_still_the_admin() -> None:
    keys = Keys((), ADMIN)
    assert keys.caller("") is NOBODY
    assert keys.caller("whatever") is NOBODY
    assert keys.caller(ADMIN) == Caller.of(ADMIN, is_admin=True)


def test_a_caller_has_the_same_name_and_salt_after_a_restart() -> None:
    assert Keys([ALICE]).caller(ALICE) == Keys([BOB, ALICE]).caller(ALICE)


def test_neither_name_nor_salt_holds_the_key_or_a_plain_digest_of_it() -> None:
    caller = Caller.of(ALICE)
    for digest in ("sha256", "blake2b", "md5", "sha1"):
        assert caller.name not in __import__("hashlib").new(digest, ALICE.encode()).hexdigest()
    assert ALICE not in caller.name + caller.salt
    assert caller.name not in caller.salt, "the name stands in logs; the salt must not follow from it"


def test_keys_are_compared_in_constant_time_as_digests_of_one_length(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[int, int]] = []
    real = hmac.compare_digest

    def watched(left: Any, right: Any) -> bool:
        compared.append((len(left), len(right)))
        return real(left, right)

    keys = Keys([ALICE, BOB], ADMIN)
    monkeypatch.setattr(hmac, "compare_digest", watched)
    for tried in (ALICE, BOB, ADMIN, "x", ""):
        keys.caller(tried)
    assert compared == [(32, 32)] * 15, "each try is compared with every key, whichever fits"


def test_no_key_is_ever_compared_with_an_operator() -> None:
    tree = ast.parse(inspect.getsource(access.Keys))
    names = [node for node in ast.walk(tree) if isinstance(node, ast.Compare) if "key" in ast.unparse(node)]
    assert names == []


@pytest.mark.parametrize(
    "bad", ["", "brief", "with space", "tab\tin it", "ümlaut-key", "line\nbreak-key", "x" * 513]
)
def test_a_key_that_cannot_be_used_is_refused_without_being_shown(bad: str) -> None:
    for make in (lambda: Keys([bad]), lambda: Keys([], bad)):
        with pytest.raises(UsageError) as caught:
            make()
        assert not bad or bad not in str(caught.value)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.8.9.1", True),
        ("::1", True),
        ("[::1]", True),
        ("localhost", True),
        ("LOCALHOST", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.168.1.2", False),
        ("fe80::1%eth0", False),
        ("localhost.example", False),
        ("127.0.0.1.example", False),
        ("", False),
        ("2130706433", False),
    ],
)
def test_what_is_reached_from_this_machine_alone(host: str, expected: bool) -> None:
    assert is_loopback(host) == expected
    if expected:
        check_exposed(host, Keys())
    else:
        check_exposed(host, Keys([ALICE]))
        for keys in (Keys(), Keys((), ADMIN)):
            with pytest.raises(UsageError):
                check_exposed(host, keys)
