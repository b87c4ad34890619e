"""Mooncake's traces: arrival, lengths, and which pieces of 512 tokens prompts begin with.

Source: R. Qin et al., "Mooncake: Trading More Storage for Less Computation", FAST 2025, arXiv:2407.00079;
github.com/kvcache-ai/Mooncake, Apache-2.0.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from apportion.simulate.serving.traces.reading import bad_line, count
from apportion.simulate.serving.traces.trace import TracedRequest

PIECE_TOKENS = 512


def read(lines: Iterator[str], path: Path) -> Iterator[TracedRequest]:
    """The requests; those without a prompt or an answer are left out."""
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line)
            arrival_s = float(record["timestamp"]) / 1000
            num_prompt, num_output = count(record["input_length"]), count(record["output_length"])
            prefix = tuple(count(piece) for piece in record["hash_ids"])
            if not 0 <= arrival_s < float("inf") or len(prefix) * PIECE_TOKENS < num_prompt:
                raise ValueError("the time or the pieces make no sense")
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise bad_line(path, number, error) from error
        if num_prompt and num_output:
            yield TracedRequest(arrival_s, num_prompt, num_output, prefix, PIECE_TOKENS)
