"""What programs are told of the tokenizer that leave cutting texts to the server."""

from __future__ import annotations

import httpx
from tests.models.tiny import CHAT_TEMPLATE


def test_the_tokenizer_is_told_with_its_marks_and_the_chat_template(client: httpx.Client) -> None:
    told = client.get("/tokenizer_info").json()
    assert told["chat_template"] == CHAT_TEMPLATE
    assert (told["model_max_length"], told["vocab_size"]) == (256, 320)
    for mark in (told["bos_token"], told["eos_token"]):
        asked = {"prompt": mark, "add_special_tokens": False}
        assert client.post("/tokenize", json=asked).json()["count"] == 1


def test_a_model_that_is_not_there_is_not_found(client: httpx.Client) -> None:
    assert client.get("/tokenizer_info", params={"model": "none"}).status_code == 404
