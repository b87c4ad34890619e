"""How each family cuts text into words before byte-pair merging, by the name in `tokenizer.ggml.pre`.

A family's rule is a list of regular expressions (Oniguruma syntax, as the `tokenizers` library runs them).
Each one in turn isolates its matches within the pieces that the ones before it left. The expressions are
facts of the model families: they stand in the `tokenizer.json` that each family publishes. Those that look
ahead over a whole run of digits are restated so that they take linear time.
"""

from __future__ import annotations

from dataclasses import dataclass

from apportion.core.errors import Unsupported

_CONTRACTION = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_SYMBOLS_AND_SPACE = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_SLASHED_AND_SPACE = r" ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_UPPER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]"
_LOWER = r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_UPPER_NOT_HAN = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]"
_LOWER_NOT_HAN = r"[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]"
_PREFIX = r"[^\r\n\p{L}\p{N}]?"

_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_LLAMA3 = rf"{_CONTRACTION}|{_PREFIX}\p{{L}}+|\p{{N}}{{1,3}}|{_SYMBOLS_AND_SPACE}"
_QWEN2 = rf"{_CONTRACTION}|{_PREFIX}\p{{L}}+|\p{{N}}|{_SYMBOLS_AND_SPACE}"
_CASED = rf"{_PREFIX}{_UPPER}*{_LOWER}+{_CONTRACTION}?|{_PREFIX}{_UPPER}+{_LOWER}*{_CONTRACTION}?"
_GPT4O = rf"{_CASED}|\p{{N}}{{1,3}}|{_SLASHED_AND_SPACE}"
_TEKKEN = rf"{_PREFIX}{_UPPER}*{_LOWER}+|{_PREFIX}{_UPPER}+{_LOWER}*|\p{{N}}|{_SLASHED_AND_SPACE}"


def _chars(ranges: str) -> str:
    """The inside of a character class from hexadecimal code points and ranges."""
    return "".join("-".join(rf"\x{{{point}}}" for point in item.split("-")) for item in ranges.split())


_CJK = f"[{_chars('4E00-9FA5 800-4E00 AC00-D7FF')}]+"
_HAN_KANA = f"[{_chars('4E00-9FA5 3040-309F 30A0-30FF')}]+"
_BLOOM = rf" ?[^(\s|.,!?{_chars('2026 3002 FF0C 3001 964 6D4 60C')})]+"
_PUNCTUATED_WORD = r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
_DEEPSEEK3 = rf"{_PUNCTUATED_WORD}| ?[\p{{P}}\p{{S}}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_YOUTU_SCRIPTS = "|".join(
    f"[{_chars(ranges)}]+"
    for ranges in (
        "AC00-D7A3 3131-318E",
        "FF01 2026 201C 201D 2018 2019 2014 FF1A FF1B FF0C 3001-303F FE30-FE4F",
        "3105-312F",
        "4E00-9FA5 3040-309F 30A0-30FF",
    )
)
_ASIAN_SCRIPTS = _chars(
    "4E00-9FFF 3400-4DBF F900-FAFF 3040-309F 30A0-30FF FF65-FF9F 2F00-2FDF E40-E7F E80-EFF 1780-17FF "
    "1000-109F AA60-AA7F A9E0-A9FF AC00-D7AF 1100-11FF"
)
_CASED_LETTERS = _chars(
    "41-5A 61-7A B5 C0-D6 D8-F6 F8-1BA 1BC-1BF 1C4-293 295-2AF 370-373 376 377 37B-37D 37F 386 388-38A "
    "38C 38E-3A1 3A3-3F5 3F7-481 48A-52F 531-556 10A0-10C5 13A0-13F5 13F8-13FD 1C90-1CBA 1CBD-1CBF "
    "1D00-1D2B 1D6B-1D77 1D79-1D9A 1E00-1F15 1F18-1F1D 1F20-1F45 1F48-1F4D 1F50-1F57 1F59 1F5B 1F5D "
    "1F5F-1F7D 1F80-1FB4 1FB6-1FBC 1FBE 1FC2-1FC4 1FC6-1FCC 1FD0-1FD3 1FD6-1FDB 1FE0-1FEC 1FF2-1FF4 "
    "1FF6-1FFC 2102 2107 210A-2113 2115 2119-211D 2124 2126 2128 212A-212D 212F-2134 2139 213C-213F "
    "2145-2149 214E 2183 2184 2C00-2C7B 2C7E-2CE4 2CEB-2CEE 2CF2 2CF3 A640-A66D A680-A69B A722-A76F "
    "A771-A787 A78B-A78E AB70-ABBF FB00-FB06 FB13-FB17 FF21-FF3A FF41-FF5A 10400-1044F 104B0-104D3 "
    "104D8-104FB 10C80-10CB2 10CC0-10CF2 118A0-118DF 1E900-1E943 "
)


def _digits_from_the_right(digit: str) -> str:
    """Runs of digits in threes, the odd one or two first; each run is scanned once."""
    odd = rf"(?<!{digit}){digit}{{1,2}}(?=(?:{digit}{{3}})++(?!{digit}))"
    return rf"{odd}|{digit}{{3}}|{digit}+"


@dataclass(frozen=True, slots=True)
class PreTokenizer:
    """One family's rule.

    `whole_words`: a word that is itself a token is taken as it is, without merging.
    `bytes_as_chars`: words are spelled in the byte-level alphabet; else in plain text with spaces as U+2581.
    `adds_bos`: what to assume where the file does not say.
    `spans_spaces`: a word may go on over a space between letters.
    """

    splits: tuple[str, ...]
    whole_words: bool = False
    bytes_as_chars: bool = True
    adds_bos: bool = False
    spans_spaces: bool = False


def _cut(
    *splits: str,
    whole_words: bool = False,
    bytes_as_chars: bool = True,
    adds_bos: bool = False,
    spans_spaces: bool = False,
) -> PreTokenizer:
    return PreTokenizer(splits, whole_words, bytes_as_chars, adds_bos, spans_spaces)


_LINES = _cut(r"[^\n]+|\n+", bytes_as_chars=False, spans_spaces=True)
_RULES: tuple[tuple[str, PreTokenizer], ...] = (
    (
        "default",
        _cut(r"[\p{P}\$\+<=>\^~\|]+", _GPT2, r"\p{N}+", r"[0-9][0-9][0-9]"),
    ),
    (
        "llama3 llama-v3 llama-bpe falcon3 falcon-h1 pixtral midm-2.0 lfm2 jina-v5-nano",
        _cut(_LLAMA3, whole_words=True, adds_bos=True),
    ),
    ("dbrx smaug-bpe chatglm-bpe", _cut(_LLAMA3)),
    ("glm4 glm5", _cut(_LLAMA3, whole_words=True)),
    (
        (
            "gpt-2 phi-2 jina-es jina-de gigachat jina-v2-es jina-v2-de a.x-4.0 mellum modern-bert "
            "jina-v1-en jina-v2-code roberta-bpe mpt olmo jais trillion granite-docling exaone4"
        ),
        _cut(_GPT2),
    ),
    (
        "starcoder refact command-r smollm codeshell exaone minerva-7b mellum2",
        _cut(r"\p{N}", _GPT2),
    ),
    (
        "qwen2 deepseek-r1-qwen kormo f2llmv2 megrez stablelm2 hunyuan solar-open grok-2",
        _cut(_QWEN2),
    ),
    (
        "qwen35",
        _cut(
            rf"{_CONTRACTION}|{_PREFIX}[\p{{L}}\p{{M}}]+|\p{{N}}"
            r"| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
        ),
    ),
    ("ufakzeka", _cut(rf"{_PREFIX}\p{{L}}+|\p{{N}}|{_SYMBOLS_AND_SPACE}")),
    ("laguna", _cut(r"[^\n]+|\n+", _QWEN2)),
    (
        "seed-coder",
        _cut(
            rf"{_CONTRACTION}|{_PREFIX}\p{{L}}+|\p{{N}}"
            r"| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+"
        ),
    ),
    (
        "bailingmoe bailingmoe2 llada-moe",
        _cut(
            r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}"
            r"| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"
        ),
    ),
    (
        "exaone-moe",
        _cut(
            rf"{_CONTRACTION}|{_PREFIX}(?:\p{{L}}\p{{M}}*(?: \p{{L}}\p{{M}}*)*)+|\p{{N}}"
            r"| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]|\s+(?!\S)|\s+",
            spans_spaces=True,
        ),
    ),
    (
        "minicpm5",
        _cut(
            r"\p{N}{1,3}",
            rf"{_CONTRACTION}|{_PREFIX}\p{{L}}+|\p{{N}}+|{_SYMBOLS_AND_SPACE}",
            whole_words=True,
        ),
    ),
    (
        "jais-2",
        _cut(
            rf"{_CONTRACTION}|{_PREFIX}\p{{L}}+|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|\s*[\r\n]+|"
            + "|".join(rf"\s{{{1 << n}}}(?!\S)" for n in range(9, 1, -1))
            + r"|\s{1,2}(?!\S)|\s{1}"
        ),
    ),
    ("gpt-4o llama4 kanana2 talkie minimax-m2", _cut(_GPT4O)),
    ("granite-embed-multi-97m", _cut(_GPT4O, whole_words=True)),
    (
        "tiny_aya cohere2moe",
        # The look-ahead is bounded so that a run of digits takes linear time: exact up to 123 digits.
        _cut(r"\d{1,3}(?=(?>(?:\d{3}){0,40})\b)", _GPT4O),
    ),
    ("tekken", _cut(_TEKKEN, whole_words=True, adds_bos=True)),
    (
        "kimi-k2",
        _cut(
            rf"\p{{Han}}+|{_PREFIX}{_UPPER_NOT_HAN}*{_LOWER_NOT_HAN}+{_CONTRACTION}?"
            rf"|{_PREFIX}{_UPPER_NOT_HAN}+{_LOWER_NOT_HAN}*{_CONTRACTION}?"
            rf"|\p{{N}}{{1,3}}|{_SYMBOLS_AND_SPACE}"
        ),
    ),
    (
        "youtu",
        _cut(
            _YOUTU_SCRIPTS,
            rf"{_CASED}|\p{{N}}|{_SLASHED_AND_SPACE}",
            whole_words=True,
        ),
    ),
    (
        "deepseek-llm",
        _cut(
            r"[\r\n]",
            rf"\s?[{_CASED_LETTERS}]+",
            rf"\s?[!-/:-~{_chars('FF01-FF0F FF1A-FF5E 2018-201F 3000-3002')}]+",
            r"\s+$",
            _CJK,
            r"\p{N}+",
        ),
    ),
    (
        "deepseek-coder",
        _cut(r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", _CJK, r"\p{N}"),
    ),
    (
        "deepseek-v3 hunyuan-dense hy_v4 joyai-llm",
        _cut(r"\p{N}{1,3}", _HAN_KANA, _DEEPSEEK3),
    ),
    (
        "spark2_5",
        _cut(
            r"\p{N}{1,3}",
            _HAN_KANA,
            rf"{_PUNCTUATED_WORD}| ?[\p{{P}}\p{{S}}]+|[\r\n]|\s+(?!\S)|\s+",
            r"\p{N}",
        ),
    ),
    ("afmoe", _cut(_digits_from_the_right(r"\p{N}"), f"[{_ASIAN_SCRIPTS}]+", _DEEPSEEK3)),
    ("falcon", _cut(r"[\p{P}\$\+<=>\^~\|`]+", _GPT2, r"[0-9][0-9][0-9]")),
    ("superbpe", _cut(r"\p{N}+", _digits_from_the_right(r"\d"), spans_spaces=True)),
    ("poro-chat bloom gpt3-finnish", _cut(_BLOOM)),
    ("viking", _cut(_BLOOM, r"\p{N}")),
    (
        "chameleon",
        _cut(
            r"<sentinel:[0-9]+>",
            r"(IMGIMG)((A|B|C|D|E|F|G|H|I){1,4})Z",
            r"([\t\n]|    |  )",
            r"\p{N}",
            r"[\p{P}!-/:-@\[-`{-~]",
            _GPT2,
            adds_bos=True,
        ),
    ),
    ("gemma4 granite-embed-multi-311m sarvam-moe", _LINES),
)

PRE_TOKENIZERS: dict[str, PreTokenizer] = {name: rule for names, rule in _RULES for name in names.split()}


def pre_tokenizer(name: str) -> PreTokenizer:
    """The rule of a family. Raises Unsupported, listing the known names, for any other."""
    rule = PRE_TOKENIZERS.get(name)
    if rule is None:
        raise Unsupported(
            f"tokenizer: the pre-tokenizer {name[:64]!r} is not known",
            "text would be cut into other words than the model was trained on",
            "known: " + " ".join(sorted(PRE_TOKENIZERS)),
        )
    return rule
