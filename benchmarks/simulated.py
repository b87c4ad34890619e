"""The simulator against the engine: the same requests, the same decisions, and how far its times are off.

    python benchmarks/simulated.py MODEL TRACE [--requests 60] [--length 0.125] [--interval 4]

Serves the beginning of a trace on the engine, whose steps are logged. Then the simulator is given the times
at which steps began and how long they took, and has to decide the same. Then a cost model is fitted to the
first half of the steps, and the simulator foretells what requests wait for.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

from apportion import LLM
from apportion.bench.requests import Arrival, serve
from apportion.engine.step_log import StepLog
from apportion.simulate.serving.cost import fit, with_gaps
from apportion.simulate.serving.replay import Setting, replay, replay_steps
from apportion.simulate.serving.report import percentiles
from apportion.simulate.serving.traces import TracedRequest, prompt_ids, read_trace, scaled

CTX = 2048


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("trace", type=Path)
    parser.add_argument("--requests", type=int, default=60)
    parser.add_argument("--length", type=float, default=0.125)
    parser.add_argument("--interval", type=float, default=4.0)
    parser.add_argument("--scheduler", default="chunked")
    parser.add_argument("--concurrency", type=int, default=8)
    parser.add_argument("--log", type=Path)
    args = parser.parse_args()
    traced = list(
        islice(scaled(read_trace(args.trace), interval=args.interval, length=args.length), args.requests)
    )
    with LLM(args.model, ctx=CTX, concurrency=args.concurrency, scheduler=args.scheduler) as llm:
        log, arrived, measured = on_engine(llm, traced)
        setting = Setting(
            args.scheduler,
            llm.engine.space.pool.num_blocks,
            log.num_layers,
            step_tokens=llm.engine.step_tokens,
        )
    if args.log:
        log.write(args.log)
    print(json.dumps(compared(log, arrived, measured, setting), indent=2))


def on_engine(
    llm: LLM, traced: Sequence[TracedRequest]
) -> tuple[StepLog, list[TracedRequest], dict[str, dict[str, float]]]:
    """The engine's steps, when requests came by its clock, and what they waited for."""
    vocab = llm.tokenizer.vocab_size
    arrivals = [
        Arrival(one.arrival_s, prompt_ids(one, number, vocab), one.num_output)
        for number, one in enumerate(traced)
    ]
    warm = Arrival(0.0, prompt_ids(TracedRequest(0.0, 300, 8), len(traced), vocab), 8)
    serve(llm, [warm, warm])  # memory is touched; none of the trace's prompts is known
    log = StepLog(llm.model.config.num_layers)
    llm.engine.on_step = log
    requests, add = [], llm.engine.add

    def adding(request, **options):  # type: ignore[no-untyped-def]
        requests.append(request)
        return add(request, **options)

    llm.engine.add = adding  # type: ignore[method-assign]
    served = serve(llm, arrivals)
    came = [
        replace(one, arrival_s=request.spent.added_s) for one, request in zip(traced, requests, strict=True)
    ]
    waits = {
        "ttft_s": percentiles([request.spent.first_token_s - request.spent.added_s for request in requests]),
        "tpot_s": percentiles([one.tpot_s for one in served]),
    }
    return log, came, waits


def compared(
    log: StepLog, arrived: Sequence[TracedRequest], measured: dict[str, dict[str, float]], setting: Setting
) -> dict[str, object]:
    """Decisions with the measured times; waits with foretold ones."""
    first = min(item.request for step in log.steps for item in step.items)
    decided = [
        tuple(replace(item, request=item.request - first) for item in step.items) for step in log.steps
    ]
    same = replay_steps(arrived, setting, log.steps)
    equal = sum(one == other for one, other in zip(decided, same, strict=False))
    half = StepLog(log.num_layers, log.steps[: len(log.steps) // 2])
    fitted = fit(half)
    foretold = replay(arrived, setting, lambda items: fitted.cost.seconds(items, log.num_layers))
    return {
        "steps": len(decided),
        "equal_decisions": equal,
        "simulated_steps": len(same),
        "fit": fitted.sentence(),
        "cost": fitted.cost.to_dict(),
        "measured": measured,
        "foretold": {
            "ttft_s": percentiles([one.ttft_s for one in foretold.served]),
            "tpot_s": percentiles([one.tpot_s for one in foretold.served]),
        },
        "busy_s": {
            "measured": sum(step.seconds for step in with_gaps(log.steps)),
            "foretold": foretold.busy_s,
        },
    }


if __name__ == "__main__":
    main()
