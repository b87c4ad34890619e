"""A model's vocabulary as llguidance wants it: the bytes that each token adds to an answer's text."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from apportion.text.tokenizer import Tokenizer

MARK = "\n"  # goes before text whose first token would carry a space that the text does not have
FORMS_NBYTES = 8 << 20  # compiled grammars that are kept under a budget, and answers' own states
KEPT_NBYTES = 4 << 20  # of them, the compiled grammars
NBYTES_PER_TOKEN = 184  # measured: 7.4 MiB for 49k tokens, 46 MiB for 262k, the library among them


def guide_tokenizer(tokenizer: Tokenizer) -> Any:
    """An `LLTokenizer` over `tokenizer.vocab_size` tokens, and one more where the model has no end of
    generation.

    Takes some 3 us for each token; `NBYTES_PER_TOKEN` stay.
    """
    from llguidance import LLTokenizer

    ends = sorted(tokenizer.eog_ids) or [tokenizer.vocab_size]
    num_tokens = max(tokenizer.vocab_size, ends[-1] + 1)
    words = cast(Any, Words(tokenizer, ends, num_tokens))  # it asks for no more than these attributes
    # No slices: they make some masks quicker and take four times the memory; masks overlap with computing.
    return LLTokenizer(words, n_vocab=num_tokens, eos_token=ends, slices=[])


class Words:
    """What llguidance reads of a tokenizer, once."""

    is_tokenizer_wrapper = True

    def __init__(self, tokenizer: Tokenizer, ends: list[int], num_tokens: int) -> None:
        self._tokenizer = tokenizer
        self._ends = ends
        self._num_tokens = num_tokens
        self.eos_token_id = ends[0]
        self.bos_token_id = tokenizer.bos_id

    @property
    def special_token_ids(self) -> list[int]:
        """Tokens that are no text."""
        known = self._tokenizer.vocab_size
        return [i for i in range(self._num_tokens) if i >= known or self._tokenizer.is_special(i)]

    @property
    def tokens(self) -> list[bytes]:
        """The bytes of each; not kept."""
        known = self._tokenizer.vocab_size
        return [*map(self._tokenizer.bytes_of, range(known)), *[b"<end>"] * (self._num_tokens - known)]

    def __call__(self, text: str | bytes) -> list[int]:
        """The tokens that the model itself would use for text that an answer is bound to go on with."""
        data = text if isinstance(text, bytes) else text.encode()
        ids = self._tokenizer.encode(MARK + data.decode("utf-8", "replace"), add_special=False)
        mark = self._tokenizer.encode(MARK, add_special=False)
        ids = ids[len(mark) :] if ids[: len(mark)] == mark else []
        whole = b"".join(map(self._tokenizer.token_bytes, ids)) == data
        return ids if whole else self._longest(data)

    def _longest(self, data: bytes) -> list[int]:
        """The longest tokens one after the other, for tokenizers that do not keep text as it is."""
        ids, start = [], 0
        while start < len(data):
            end = min(len(data), start + self._id_of[1])
            while end > start + 1 and data[start:end] not in self._id_of[0]:
                end -= 1
            token = self._id_of[0].get(data[start:end])
            if token is None:
                break  # what no token spells, nothing can force
            ids.append(token)
            start = end
        return ids

    @cached_property
    def _id_of(self) -> tuple[dict[bytes, int], int]:
        """Ids by their bytes, and the length of the longest."""
        special = set(self.special_token_ids)
        id_of = {word: i for i, word in enumerate(self.tokens) if word and i not in special}
        return id_of, max(map(len, id_of), default=0)
