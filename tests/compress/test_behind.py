from __future__ import annotations

import threading

import pytest

from apportion.compress.behind import Behind


def test_work_is_done_in_order_on_another_thread() -> None:
    done: list[tuple[int, bool]] = []
    behind, caller = Behind(), threading.get_ident()
    for number in range(100):
        behind.then(lambda number=number: done.append((number, threading.get_ident() == caller)))
    behind.wait()
    behind.close()
    assert done == [(number, False) for number in range(100)]


def test_what_went_wrong_first_is_raised_by_waiting() -> None:
    def fail(name: str) -> None:
        raise KeyError(name)

    behind = Behind()
    behind.then(lambda: None)
    behind.then(lambda: fail("first"))
    behind.then(lambda: fail("second"))
    with pytest.raises(KeyError, match="first"):
        behind.wait()
    behind.wait()
    behind.close()
