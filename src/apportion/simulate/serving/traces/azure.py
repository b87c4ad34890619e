"""Azure's LLM inference traces of 2023: arrival and lengths of the requests of two services.

Source: P. Patel et al., "Splitwise: Efficient Generative LLM Inference Using Phase Splitting", ISCA 2024;
github.com/Azure/AzurePublicDataset, CC BY 4.0.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from apportion.core.errors import BadFile
from apportion.simulate.serving.traces.reading import bad_line, count
from apportion.simulate.serving.traces.trace import TracedRequest

HEADER = ["TIMESTAMP", "ContextTokens", "GeneratedTokens"]


def read(lines: Iterator[str], path: Path) -> Iterator[TracedRequest]:
    """The requests; those without a prompt or an answer, which failed, are left out."""
    rows = csv.reader(lines)
    if next(rows, None) != HEADER:
        raise BadFile(f"{path.name} is no Azure trace", f"its first line is not {','.join(HEADER)}")
    first: datetime | None = None
    for number, row in enumerate(rows, 2):
        try:
            stamp, prompt, output = row
            when = datetime.fromisoformat(stamp)
            num_prompt, num_output = count(prompt), count(output)
            first = first or when
            arrival_s = (when - first).total_seconds()
        except (ValueError, TypeError) as error:
            raise bad_line(path, number, error) from error
        if num_prompt and num_output:
            yield TracedRequest(max(arrival_s, 0.0), num_prompt, num_output)
