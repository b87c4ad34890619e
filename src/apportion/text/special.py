"""Special tokens: found in text by their spelling, and known by it as the end of an answer."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

# Tokens that end an answer whatever a file's metadata says; their spelling is all that tells. These are never
# plain text, so they count as control tokens even where the file calls them something else.
UNMISTAKABLE_ENDS = frozenset(
    {
        "<|eot_id|>",
        "<|im_end|>",
        "<|end|>",
        "<|return|>",
        "<|call|>",
        "<|calls|>",
        "<|flush|>",
        "<end_of_turn>",
        "<|endoftext|>",
        "<|eom_id|>",
        "<|end_of_text|>",
        "<end_of_utterance>",
        "<|tool_response>",
        "<\uff5cend\u2581of\u2581sentence\uff5c>",
        "<|fim_pad|>",
        "<|fim_repo|>",
        "<|repo_name|>",
        "<|file_sep|>",
    }
)
# These are also words of markup or code, so they end an answer only where the file calls them control tokens.
_ENDS = UNMISTAKABLE_ENDS | frozenset(
    {
        "</s>",
        "<EOT>",
        "_<EOT>",
        "[EOT]",
        "[EOS]",
        "<eos>",
        "<turn|>",
        "[e~[",
        "<fim-pad>",
        "<fim_pad>",
        "<PAD>",
        "[PAD]",
        "<fim-repo>",
        "<REPO>",
        "<reponame>",
    }
)


def end_ids(id_of: Mapping[str, int]) -> set[int]:
    """Ids of the tokens that end an answer, among a vocabulary's control tokens given as text -> id."""
    found = {text for text in _ENDS if text in id_of}
    # In the harmony format (and its like) <|end|> ends a message, not the answer.
    if {"<|return|>", "<|call|>"} <= found or ("<|flush|>" in found and found & {"<|call|>", "<|calls|>"}):
        found.discard("<|end|>")
    if "<|tool_response>" in found or "<|plamo:eos|>" in id_of:
        found.discard("</s>")
    return {id_of[text] for text in found}


@dataclass(frozen=True, slots=True)
class SpecialToken:
    """One token that is matched in text as a whole; `strips_right`: white space after it goes with it."""

    id: int
    strips_right: bool = False


class SpecialSplitter:
    """Cuts text at special tokens, leftmost and then longest first. Linear for real vocabularies."""

    def __init__(self, tokens: Mapping[str, SpecialToken]) -> None:
        self._tokens = {text: token for text, token in tokens.items() if text}
        lengths: dict[str, set[int]] = {}
        for text in self._tokens:
            lengths.setdefault(text[:2], set()).add(len(text))
        self._lengths = {head: sorted(found, reverse=True) for head, found in lengths.items()}
        self._candidate = _candidates(self._lengths)

    def split(self, text: str) -> Iterator[str | int]:
        """The text as plain pieces (never empty) and token ids, in order."""
        if self._candidate is None:
            if text:
                yield text
            return
        start = place = 0
        while found := self._candidate.search(text, place):
            match = self._match_at(text, found.start())
            if match is None:
                place = found.start() + 1
                continue
            if found.start() > start:
                yield text[start : found.start()]
            yield self._tokens[match].id
            start = place = self._end_of(match, text, found.start())
        if start < len(text):
            yield text[start:]

    def _match_at(self, text: str, place: int) -> str | None:
        for head in (text[place : place + 2], text[place : place + 1]):
            for length in self._lengths.get(head, ()):
                candidate = text[place : place + length]
                if candidate in self._tokens:
                    return candidate
        return None

    def _end_of(self, match: str, text: str, place: int) -> int:
        end = place + len(match)
        if self._tokens[match].strips_right:
            while end < len(text) and text[end] in " \t\n\v\f\r":
                end += 1
        return end


def _candidates(heads: Iterable[str]) -> re.Pattern[str] | None:
    """Matches where a token may begin: at its first character, with its second one (if it has one) behind."""
    seconds: dict[str, list[str]] = {}
    for head in sorted(heads):
        seconds.setdefault(head[0], []).append(re.escape(head[1:]))
    single = [re.escape(first) for first, found in seconds.items() if "" in found]
    parts = [
        f"{re.escape(first)}(?=[{''.join(found)}])" for first, found in seconds.items() if "" not in found
    ]
    if single:
        parts.append(f"[{''.join(single)}]")
    return re.compile("|".join(parts)) if parts else None
