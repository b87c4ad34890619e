from __future__ import annotations

from apportion.text.byte_level import BYTE_OF_CHAR, CHAR_OF_BYTE, to_bytes, to_chars


def test_the_alphabet_is_gpt2s() -> None:
    assert CHAR_OF_BYTE[ord(" ")] == "Ġ"
    assert CHAR_OF_BYTE[ord("\n")] == "Ċ"
    assert CHAR_OF_BYTE[0xAD] == "Ń"  # the last of those that are moved
    assert CHAR_OF_BYTE[ord("A")] == "A"


def test_all_bytes_survive_the_way_there_and_back() -> None:
    data = bytes(range(256))
    assert len(BYTE_OF_CHAR) == 256
    assert to_bytes(to_chars(data)) == data


def test_text_outside_the_alphabet_stands_for_itself() -> None:
    assert to_bytes("你好") == "你好".encode()
