"""A server that serves OLMoE under 2 GiB, as the page sees it: recorded plans, and figures that move like
those of such a server. The same second always shows the same figures.
"""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PLANS = json.loads((HERE / "plans.json").read_text(encoding="utf-8"))
RAM = 2 * 2**30
LAYERS, EXPERTS = 16, 64
START_S = 5400  # how long the server has run when the page opens


def plan_of(ram: int) -> dict[str, Any]:
    """The recorded plan of the largest budget that is not larger.

    Raises:
        LookupError: the budget is too small for any.
    """
    fitting = [plan for plan in PLANS["plans"] if plan["ram"] <= ram + 2]
    if not fitting:
        raise LookupError(ram)
    return {**max(fitting, key=lambda plan: plan["ram"]), "ram": ram}


def wave(second: int, period: float, phase: float = 0.0) -> float:
    """Between 0 and 1, slowly up and down with a little noise."""
    noise = random.Random(second * 7919 + int(period)).uniform(-0.15, 0.15)
    return min(1.0, max(0.0, 0.5 + 0.4 * math.sin(second / period + phase) + noise))


def rates(second: int) -> dict[str, float | None]:
    reading = second % 70 < 16  # a prompt is being read
    busy = second % 210 > 12  # now and then there is nothing to do
    decode = (0.9 if reading else 2.7) + 0.55 * wave(second, 19)
    ttft = 3.3 + 1.1 * wave(second, 41)
    tpot = 0.31 + 0.06 * wave(second, 23)
    return {
        "decode_tok_s": decode if busy else 0.0,
        "prefill_tok_s": 78 + 9 * wave(second, 9) if reading and busy else 0.0,
        "disk_read_bytes_s": (0.82 + 0.22 * wave(second, 13)) * 2**30 if busy else 0.0,
        "ttft_p50_s": ttft,
        "ttft_p99_s": ttft * 1.22 + 0.5 * wave(second, 31),
        "tpot_p50_s": tpot,
        "tpot_p99_s": tpot * 1.25 + 0.05 * wave(second, 17),
    }


def stalls(second: int) -> dict[str, float]:
    return {"experts": 0.312 * second, "layers": 0.0, "embedding": 0.0, "kv": 0.018 * second}


def requests(second: int) -> list[dict[str, Any]]:
    base = {
        "model": "olmoe-1b-7b",
        "choices": 1,
        "cached_tokens": 0,
        "ttft_s": None,
        "tok_s": None,
        "max_tokens": 512,
    }
    step = second - START_S
    return [
        base
        | {
            "id": "chatcmpl-5d2c41e07a9b4f86",
            "state": "decode",
            "prompt_tokens": 1184,
            "cached_tokens": 1024,
            "computed_tokens": 1184,
            "output_tokens": min(512, 231 + 2 * step),
            "age_s": 81.4 + step,
            "ttft_s": 2.31,
            "tok_s": 1.52,
        },
        base
        | {
            "id": "chatcmpl-0b7713c9d5e84a12",
            "state": "decode",
            "prompt_tokens": 342,
            "computed_tokens": 342,
            "output_tokens": 57 + step,
            "age_s": 44.2 + step,
            "max_tokens": 256,
            "ttft_s": 4.18,
            "tok_s": 1.43,
        },
        base
        | {
            "id": "msg_91be20c7f4d34465",
            "state": "prefill",
            "prompt_tokens": 2816,
            "cached_tokens": 512,
            "computed_tokens": min(2816, 1536 + 80 * step),
            "output_tokens": 0,
            "age_s": 12.6 + step,
        },
        base
        | {
            "id": "cmpl-f3a8817e2c6d4b90",
            "state": "waiting",
            "prompt_tokens": 96,
            "computed_tokens": 0,
            "output_tokens": 0,
            "age_s": 3.1 + step,
            "max_tokens": 64,
        },
    ]


def status(second: int) -> dict[str, Any]:
    plan = plan_of(RAM)
    used = 1.71 + 0.12 * wave(second, 37)
    blocks = 256
    hits, misses = 41_873 + 38 * (second - START_S), 61_004 + 55 * (second - START_S)
    model = {
        "name": "olmoe-1b-7b",
        "state": "loaded",
        "progress": 1.0,
        "error": None,
        "ctx": 4096,
        "scheduler": "layer_major",
        "kv": {"codec": "f16", "block_tokens": 16, "blocks": blocks, "free_blocks": 71, "kept_blocks": 64},
        "plan": plan,
        "forecast": {name: plan["forecast"][name] for name in ("decode_tok_s", "prefill_tok_s", "ttft_s")},
        "measured": {"decode_tok_s": 2.94, "prefill_tok_s": 80.1, "ttft_s": 3.94},
        "experts": {
            "layers": LAYERS,
            "experts": EXPERTS,
            "slots": sum(plan["expert_slots"]),
            "hits": hits,
            "misses": misses,
            "resident": sum(plan["expert_slots"]),
        },
    }
    kinds = plan["bytes"]
    return {
        "version": "0.1.0",
        "uptime_s": float(second),
        "ready": True,
        "draining": False,
        "budget": {
            "ram": {
                "limit_bytes": RAM,
                "leased_bytes": sum(kinds.values()),
                "rss_bytes": int(used * 2**30),
                "peak_rss_bytes": int(1.878 * 2**30),
                "kinds": kinds,
            },
            "disk": {"limit_bytes": 8 * 2**30, "used_bytes": int(2.37 * 2**30)},
        },
        "models": [model],
        "requests": requests(second),
        "rates": rates(second),
        "stalls": stalls(second),
        "counters": {"requests": 418, "prompt_tokens": 301_442, "output_tokens": 52_310},
    }


def experts() -> dict[str, Any]:
    """Uses that are skewed as a trained router's are; what is used most is in memory."""
    dice = random.Random(6)
    slots = plan_of(RAM)["expert_slots"]
    table: dict[str, Any] = {
        "layers": LAYERS,
        "experts": EXPERTS,
        "numbers": [*range(LAYERS)],
        "resident": [],
        "hits": [],
        "misses": [],
    }
    for layer in range(LAYERS):
        liked = [dice.lognormvariate(0, 0.9 + layer / 40) for _ in range(EXPERTS)]
        recent = [weight * dice.lognormvariate(0, 0.7) for weight in liked]
        inside = set(sorted(range(EXPERTS), key=recent.__getitem__, reverse=True)[: slots[layer]])
        uses = [int(6430 * weight / sum(liked)) for weight in liked]
        shares = [
            0.42 + 0.3 * dice.random() if expert in inside else 0.25 * dice.random()
            for expert in range(EXPERTS)
        ]
        hits = [int(use * share) for use, share in zip(uses, shares, strict=True)]
        table["resident"].append([int(expert in inside) for expert in range(EXPERTS)])
        table["hits"].append(hits)
        table["misses"].append([use - hit for use, hit in zip(uses, hits, strict=True)])
    return table


THOUGHT = "The person wants the idea and a small example: routing per token, memory against speed."

ANSWER = """A **mixture of experts** replaces one large feed-forward network by many small ones, and a \
*router* that sends each token to a few of them.

- Each layer here has **64 experts**, and a token uses **8**.
- All of them must be somewhere, but only an eighth is needed at a time.
- So memory can hold the experts that are asked for often, and the disk the others.

```python
def moe(x, router, experts, k=8):
    scores = softmax(router @ x)
    chosen = top_k(scores, k)
    return sum(scores[e] * experts[e](x) for e in chosen)
```

What is not in memory is read when a token is routed to it: a *miss* costs about 6 MB of reading."""


def chat_events() -> list[dict[str, Any]]:
    """The chunks of a streamed answer."""
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 0, "model": "olmoe-1b-7b"}

    def chunk(delta: dict[str, str], reason: str | None = None) -> dict[str, Any]:
        return {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}

    thought = [chunk({"reasoning_content": f"{word} "}) for word in THOUGHT.split()]
    answer = [chunk({"content": piece}) for piece in pieces(ANSWER)]
    timings = {
        "ttft_s": 3.71,
        "prefill_s": 3.6,
        "decode_s": 48.2,
        "prefill_tok_s": 81.3,
        "decode_tok_s": 3.04,
    }
    last = {
        **head,
        "choices": [],
        "usage": {"prompt_tokens": 294, "completion_tokens": len(answer) + len(thought)},
        "x_apportion": {"timings": {**timings, "cached_tokens": 256}},
    }
    return [chunk({"role": "assistant", "content": ""}), *thought, *answer, chunk({}, "stop"), last]


def pieces(text: str) -> list[str]:
    return [text[at : at + 5] for at in range(0, len(text), 5)]
