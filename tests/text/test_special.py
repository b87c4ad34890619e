from __future__ import annotations

from apportion.text.special import SpecialSplitter, SpecialToken


def split(text: str, *tokens: str, strips: tuple[str, ...] = ()) -> list[str | int]:
    table = {token: SpecialToken(place, token in strips) for place, token in enumerate(tokens)}
    return list(SpecialSplitter(table).split(text))


def test_without_tokens_the_text_stays_whole() -> None:
    assert split("abc") == ["abc"]
    assert split("") == []


def test_tokens_are_cut_out_in_order() -> None:
    assert split("a<x>b<y><x>", "<x>", "<y>") == ["a", 0, "b", 1, 0]


def test_the_leftmost_and_then_the_longest_wins() -> None:
    assert split("abcd", "bc", "abc", "bcd") == [1, "d"]
    assert split("aaaaa", "a", "aa", "aaa") == [2, 1]


def test_one_character_tokens_live_beside_longer_ones() -> None:
    assert split("x]]^y-", "]", "]^", "-", "^") == ["x", 0, 1, "y", 2]
    assert split("aab", "a", "ab") == [0, 1]


def test_characters_of_regular_expressions_are_plain() -> None:
    assert split("[^a]|(.*)\\", "[^a]", "|", "(.*)", "\\") == [0, 1, 2, 3]


def test_a_near_miss_is_text() -> None:
    assert split("<x<x>", "<x>") == ["<x", 0]
    assert split("<x", "<x>") == ["<x"]


def test_white_space_after_a_token_goes_where_the_token_says_so() -> None:
    assert split("<x> \n\ta <y> b", "<x>", "<y>", strips=("<x>",)) == [0, "a ", 1, " b"]
    assert split("<x>  ", "<x>", strips=("<x>",)) == [0]
