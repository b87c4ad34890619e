"""The order in which requests of groups begin."""

from __future__ import annotations

from types import SimpleNamespace

from apportion.engine.batch.queue import GroupQueue


def always(item: str) -> bool:
    return True


def test_the_second_of_a_group_waits_until_the_first_has_read_its_prompt() -> None:
    queue: GroupQueue[str] = GroupQueue()
    queue.add([["a1", "a2", "a3"], ["b1", "b2"], []])
    assert len(queue) == 5
    item, first = queue.pop(always)
    first.leader = leader = SimpleNamespace(has_read_prompt=False)
    assert item == "a1"
    item, second = queue.pop(always)
    second.leader = SimpleNamespace(has_read_prompt=False)
    assert (item, queue.pop(always)) == ("b1", None)
    leader.has_read_prompt = True
    assert [queue.pop(always)[0] for _ in range(2)] == ["a2", "a3"]
    assert queue.pop(always) is None
    assert len(queue) == 1


def test_where_the_first_could_not_begin_the_next_one_leads() -> None:
    queue: GroupQueue[str] = GroupQueue()
    queue.add([["a1", "a2", "a3"]])
    assert queue.pop(always)[0] == "a1"
    item, group = queue.pop(always)
    group.leader = SimpleNamespace(has_read_prompt=False)
    assert (item, queue.pop(always)) == ("a2", None)


def test_a_group_that_waits_for_its_first_is_not_put_at_risk_by_the_next_one() -> None:
    queue: GroupQueue[str] = GroupQueue()
    queue.add([["a1", "a2"], ["b1", "b2"], ["c1"]])
    _, group = queue.pop(always)
    group.leader = leader = SimpleNamespace(has_read_prompt=False)
    assert queue.pop(lambda item: item != "b1") is None
    leader.has_read_prompt = True
    assert queue.pop(lambda item: False)[0] == "a2"
    assert queue.pop(lambda item: False)[0] == "b1"
