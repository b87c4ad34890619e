"""`apportion embed`: a vector for each text, on lines or as one object."""

from __future__ import annotations

import io

import numpy as np
import pytest

from apportion import LLM


def test_each_text_is_a_line_of_numbers(apportion, tiny_path) -> None:
    outcome = apportion("embed", tiny_path, "one text", "another")
    vectors = np.array([[float(number) for number in line.split()] for line in outcome.out.splitlines()])
    assert outcome.status == 0
    assert vectors.shape == (2, 64)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-4)


def test_json_is_one_object_with_the_vectors(apportion, tiny_path) -> None:
    found = apportion("embed", tiny_path, "one text", "--pooling", "last", "--no-normalize", "--json").object
    assert (found["model"], found["pooling"]) == ("llama", "last")
    want = LLM(tiny_path).embed("one text", "last", normalize=False)
    np.testing.assert_allclose(found["embeddings"], want, rtol=1e-6)


def test_a_text_comes_from_standard_input(apportion, tiny_path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = apportion("embed", tiny_path, "piped")
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"piped\n"), "utf-8"))
    assert apportion("embed", tiny_path, "-").out == given.out


def test_a_text_that_is_longer_than_the_context_is_refused_with_the_numbers(apportion, tiny_path) -> None:
    outcome = apportion("embed", tiny_path, "a long text", "--ctx", 4, "--json")
    assert outcome.status != 0
    assert outcome.object["error"]["numbers"]["ctx"] == 4


def test_vectors_are_made_within_a_budget(apportion, tiny_path) -> None:
    within = apportion("embed", tiny_path, "a text", "--ram", "4GiB", "--ctx", 64, "--json").object
    whole = apportion("embed", tiny_path, "a text", "--ctx", 64, "--json").object
    assert within["embeddings"] == whole["embeddings"]
