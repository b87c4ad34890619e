"""Items of tasks in the shapes that are about."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from apportion.bench.tasks.items import Item, asked, item_of, read_task, task_name
from apportion.core.errors import BadFile, Unsupported


@pytest.mark.parametrize(
    ("record", "item"),
    [
        (
            {"query": "Question: Why?\n", "choices": ["a", "b"], "gold": 1},
            Item(("Question: Why?\nAnswer:",), ("a", "b"), 1),
        ),
        (
            {"query": "It rained, so", "choices": ["a", "b"], "gold": 0},
            Item(("It rained, so",), ("a", "b"), 0),
        ),
        (
            {"query": "Act: he ", "endings": ["a", "b"], "label": 1, "ind": 7},
            Item(("Act: he",), ("a", "b"), 1),
        ),
        (
            {"subject": "s", "i": 3, "question": "Q?", "choices": ["one", "two", "three"], "answer": 2},
            Item(("Q?\nA. one\nB. two\nC. three\nAnswer:",), ("A", "B", "C"), 2),
        ),
        (
            {"context_options": ["so Ann", "so Bob"], "continuation": "won.", "gold": 1},
            Item(("so Ann", "so Bob"), ("won.",), 1),
        ),
        ({"context": "He said ", "continuation": "yes"}, Item(("He said",), ("yes",), None)),
    ],
)
def test_every_shape_is_read(record: dict, item: Item) -> None:
    assert item_of(record) == item


def test_pairs_are_contexts_and_what_follows_after_a_space() -> None:
    assert Item(("q",), ("a", "b"), 0).pairs == [("q", " a"), ("q", " b")]
    assert Item(("q", "r"), ("a",), 0).pairs == [("q", " a"), ("r", " a")]


def test_a_question_is_followed_by_answer_once() -> None:
    assert asked("Passage: p\nQuestion: q?") == "Passage: p\nQuestion: q?\nAnswer:"
    assert asked("Question: q?\nAnswer: ") == "Question: q?\nAnswer:"
    assert asked("The question: why") == "The question: why"


@pytest.mark.parametrize(
    "record",
    [
        [1],
        {"query": "q", "choices": ["a"], "gold": 0},
        {"query": "q", "choices": ["a", "b"], "gold": 2},
        {"query": "q", "choices": ["a", "b"], "gold": True},
        {"query": "q", "choices": ["a", " "], "gold": 0},
        {"query": "", "choices": ["a", "b"], "gold": 0},
        {"query": "q", "choices": "ab", "gold": 0},
        {"context": "c", "continuation": 5},
    ],
)
def test_a_broken_item_is_refused_with_its_line(record: object, tmp_path: Path) -> None:
    path = tmp_path / "task.jsonl"
    path.write_text(json.dumps({"query": "q", "choices": ["a", "b"], "gold": 0}) + "\n" + json.dumps(record))
    with pytest.raises(BadFile, match=r"line 2 of task\.jsonl"):
        read_task(path)


def test_tasks_whose_answers_are_written_are_not_supported() -> None:
    with pytest.raises(Unsupported, match="answer, question"):
        item_of({"question": "1 + 1?", "answer": "2 #### 2"})


def test_compressed_files_are_read_up_to_the_limit(tmp_path: Path) -> None:
    path = tmp_path / "piqa.dev.jsonl.gz"
    line = json.dumps({"query": "q", "choices": ["a", "b"], "gold": 0})
    path.write_bytes(gzip.compress(f"{line}\n\n{line}\n{line}\n".encode()))
    task = read_task(path, limit=2)
    assert (task.name, len(task.items), task.has_choices) == ("piqa", 2, True)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(BadFile, match="cannot be read"):
        read_task(path)


def test_files_of_two_shapes_or_of_none_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text("")
    with pytest.raises(BadFile, match="no items"):
        read_task(path)
    path.write_text(
        '{"query": "q", "choices": ["a", "b"], "gold": 0}\n{"context": "c", "continuation": "d"}\n'
    )
    with pytest.raises(BadFile, match="another shape"):
        read_task(path)


def test_a_task_is_called_by_its_file() -> None:
    assert task_name(Path("a/arc_easy.dev.jsonl.gz")) == "arc_easy"
    assert task_name(Path("b.v2.json")) == "b.v2"
