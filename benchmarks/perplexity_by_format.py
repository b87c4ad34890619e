"""Perplexity of one model in every block format: by default, in float32 throughout, and by llama.cpp.

    python benchmarks/perplexity_by_format.py MODEL-F32.gguf TEXT --windows 20

The model's matrices are encoded in each format in turn (those whose rows are not whole blocks, and the
embedding, stay as they are), and all three score the same file. Needs `llama-perplexity` on the PATH. Prints
Markdown, or with --json one object.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from peers import require_program
from perplexity_side_by_side import run_apportion, run_llama

FORMATS = (
    "q4_0,q4_1,q5_0,q5_1,q8_0,q2_k,q3_k,q4_k,q5_k,q6_k,iq4_nl,iq4_xs,mxfp4,f16,bf16"  # those with kernels
)
KEPT = ("token_embd.weight", "output.weight")


def main() -> None:
    wanted = arguments()
    require_program("llama-perplexity")
    report = measure(wanted)
    print(json.dumps(report) if wanted.json else markdown(report))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", help="a GGUF file of float32 or float16 numbers")
    parser.add_argument("text", help="a UTF-8 text file")
    parser.add_argument("--formats", default=FORMATS, help="[default: all that have kernels]")
    parser.add_argument("--ctx", type=int, default=512, help="tokens of a window [default: 512]")
    parser.add_argument("--windows", type=int, default=20, help="from the first [default: 20]")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def measure(wanted: argparse.Namespace) -> dict[str, Any]:
    rows = []
    for name in wanted.formats.split(","):
        print(name, file=sys.stderr)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"{name}.gguf"
            share = encode(Path(wanted.model), path, name)
            rows.append({"format": name, "share": share, **score(wanted, path)})
    from apportion.bench.provenance import provenance

    return {
        "model": wanted.model,
        "text": wanted.text,
        "ctx": wanted.ctx,
        "windows": wanted.windows,
        "results": rows,
        "provenance": asdict(provenance()),
    }


def encode(source: Path, target: Path, name: str) -> float:
    """Write the model with its matrices in the format -> which share of its numbers that is."""
    from apportion.formats.blocks import format_by_name
    from apportion.formats.gguf import open_gguf, write_gguf

    wanted = format_by_name(name)
    tensors, encoded, total = [], 0, 0
    with open_gguf(source) as checkpoint:
        for info in checkpoint.tensors.values():
            stored = np.empty(info.nbytes, np.uint8)
            checkpoint.read(info, stored)
            block_format, data = info.format, stored
            total += int(np.prod(info.shape))
            if len(info.shape) == 2 and info.name not in KEPT and info.shape[-1] % wanted.block_size == 0:
                block_format = wanted
                data = wanted.quantize(info.format.dequantize(stored).reshape(info.shape))
                encoded += int(np.prod(info.shape))
            tensors.append((info.name, block_format, info.shape, data))
        write_gguf(target, checkpoint.metadata, tensors, types=checkpoint.value_types)
    return encoded / total


def score(wanted: argparse.Namespace, path: Path) -> dict[str, float]:
    def asked(exact: bool) -> argparse.Namespace:
        return argparse.Namespace(**{**vars(wanted), "model": str(path), "exact": exact, "llama": ""})

    return {
        "default": run_apportion(asked(exact=False))[0],
        "exact": run_apportion(asked(exact=True))[0],
        "llama.cpp": run_llama(asked(exact=False))[0],
    }


def markdown(report: dict[str, Any]) -> str:
    from apportion.bench.kernel_table import aligned

    head = ["format", "of all numbers", "default", "float32", "llama.cpp", "by float32", "by llama.cpp"]
    rows = [
        [
            row["format"],
            f"{row['share']:.0%}",
            *(f"{row[key]:.4f}" for key in ("default", "exact", "llama.cpp")),
            f"{row['default'] / row['exact'] - 1:+.2%}",
            f"{row['default'] / row['llama.cpp'] - 1:+.2%}",
        ]
        for row in report["results"]
    ]
    windows = f"{report['windows']} windows of {report['ctx']} tokens"
    made = report["provenance"]
    return aligned([head, *rows]) + f"\n\n{windows}; {made['processor']}, commit {made['commit']}."


if __name__ == "__main__":
    main()
