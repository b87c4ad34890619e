"""How fast products and attention run on this machine, in operations and bytes a second.

    python benchmarks/kernels.py [--threads 1,2] [--formats q4_0,q8_0] [--cpu-time] [--json]

A decode line reads the weight once for one token and shows how near it comes to the memory's bandwidth; a
prefill line multiplies 512 tokens. The best of several repeats is shown, since other work on the machine only
slows down. `--cpu-time` counts the calling thread's processor time instead of the clock's: on a busy machine
it tells what one thread could do on an idle one.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from apportion.bench.limits import Bandwidth
from apportion.formats.blocks import FORMATS
from apportion.kernels import KvPool, KvTable, LayerShape, NativeOps, Segment, Weight, page_layout
from apportion.kernels.kv import num_blocks_for

FORMAT_NAMES = "q4_0,q4_1,q5_0,q8_0,q4_k,q5_k,q6_k,iq4_xs,mxfp4,q2_k,q3_k,f16,bf16"
SECONDS = 0.3  # per line
DECODE_BYTES = 128 << 20  # well past every cache

clock = time.perf_counter


def best_seconds(work: Callable[[], object]) -> float:
    """The shortest of the repeats that fit into the time."""
    best, end, repeats = float("inf"), clock() + SECONDS, 0
    while repeats < 3 or clock() < end:
        begin = clock()
        work()
        best = min(best, clock() - begin)
        repeats += 1
    return best


def random_weight(name: str, shape: tuple[int, ...]) -> Weight:
    """Random bytes: the time does not depend on the numbers, as long as none is subnormal."""
    block_format = FORMATS[name]
    data = np.full((*shape[:-1], block_format.row_nbytes(shape[-1])), 0x35, np.uint8)
    return Weight(block_format, shape, data).interleave()


def measure_linear(ops: NativeOps, name: str, rows: int, cols: int, tokens: int) -> dict[str, Any]:
    one = FORMATS[name].row_nbytes(cols) * rows
    copies = max(1, DECODE_BYTES // one) if tokens == 1 else 1
    weight = random_weight(name, (copies, rows, cols))
    x = np.random.default_rng(0).standard_normal((tokens, cols)).astype(np.float32)

    def every_copy() -> None:
        for copy in range(copies):
            ops.linear(x, weight[copy])

    seconds = best_seconds(every_copy) / copies
    return {
        "work": "decode" if tokens == 1 else "prefill",
        "format": name,
        "shape": [rows, cols],
        "tokens": tokens,
        "threads": ops.threads,
        "isa": ops.isa,
        "gops": 2 * tokens * rows * cols / seconds / 1e9,
        "gbytes_s": one / seconds / 1e9,
    }


def measure_attention(ops: NativeOps, tokens: int, start: int) -> dict[str, Any]:
    groups, heads, size = 2, 8, 128
    rows = np.ones((start + tokens, groups, size), np.float32)
    pool, table = (
        KvPool.of(page_layout([LayerShape(groups, size, size)], "f16"), num_blocks_for(len(rows))),
        KvTable(),
    )
    for block in range(pool.num_blocks):
        table.append(pool, block)
    ops.append([Segment(table, 0, len(rows))], 0, rows, rows)
    q, own = np.ones((tokens, heads, size), np.float32), [Segment(table, start, tokens)]
    seconds = best_seconds(lambda: ops.attend(q, own, 0, 0.1))
    seen = tokens * start + tokens * (tokens + 1) // 2
    return {
        "work": f"attend {tokens} tokens at {start}",
        "format": "f16",
        "shape": [heads, size],
        "tokens": tokens,
        "threads": ops.threads,
        "isa": ops.isa,
        "gops": 4 * seen * heads * size / seconds / 1e9,
        "gbytes_s": pool.memory.nbytes / seconds / 1e9,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--formats", default=FORMAT_NAMES)
    parser.add_argument("--isa", default=None)
    parser.add_argument("--rows", type=int, default=2048)
    parser.add_argument("--cols", type=int, default=2048)
    parser.add_argument("--cpu-time", action="store_true")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.cpu_time:
        global clock
        clock, options.threads = time.thread_time, "1"
    results: list[dict[str, Any]] = []

    def report(line: dict[str, Any]) -> None:
        results.append(line)
        if not options.json:
            print(
                f"{line['work']:24} {line['format']:7} {line['threads']} threads "
                f"{line['gops']:8.1f} GOP/s {line['gbytes_s']:7.2f} GB/s",
                flush=True,
            )

    bandwidth = {}
    for threads in (int(word) for word in options.threads.split(",")):
        ops = NativeOps(threads, isa=options.isa)
        bandwidth[threads] = Bandwidth(threads).measure(threads)
        if not options.json:
            print(f"reading memory: {bandwidth[threads]:.1f} GB/s on {threads} threads ({ops.isa})")
        for name in options.formats.split(","):
            for tokens in (1, 512):
                report(measure_linear(ops, name, options.rows, options.cols, tokens))
        for tokens, start in ((512, 0), (1, 511), (1, 8191)):
            report(measure_attention(ops, tokens, start))
    if options.json:
        print(json.dumps({"bandwidth_gbytes_s": bandwidth, "results": results}))


if __name__ == "__main__":
    main()
