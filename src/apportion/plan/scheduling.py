"""Which scheduler suits a plan, how many requests run at once, and why, by the cost model."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from apportion.plan.arrangement import Arrangement
from apportion.plan.cost import CostModel
from apportion.policies.scheduler import SCHEDULERS

AUTO = "auto"
COMPANY_GAIN = 1.25  # that running fewer at once must bring, since the others wait for their first token
PIECE = 128  # tokens of a prompt that pass beside answers, as in the policies' own defaults


class Chosen(NamedTuple):
    """A scheduler by name, and what speaks for it."""

    name: str
    why: str


def chosen_scheduler(cost: CostModel, found: Arrangement, prompt: int, wanted: str = AUTO) -> Chosen:
    """The scheduler that was asked for, or the better one for prompts of so many tokens.

    Where weights come and go every step reads them again, and prompts pass whole if that is faster. Where
    they stay, prompts in pieces cost little, and no answer waits for a whole prompt.

    Raises:
        NotFound, UsageError: there is no such scheduler, or it has no such parameter.
    """
    if wanted != AUTO:
        SCHEDULERS.choose(wanted)
        return Chosen(wanted, "it was asked for")
    whole_s = cost.prefill_s(replace(found, prefill="layer_major"), prompt)
    pieces_s = cost.prefill_s(replace(found, prefill="chunked", tokens_per_pass=PIECE), prompt)
    told = f"a prompt of {prompt} tokens takes {whole_s:.2g} s whole, {pieces_s:.2g} s in pieces of {PIECE}"
    if found.prefill == "layer_major" and whole_s < pieces_s:
        return Chosen("layer_major", f"weights come and go: {told}")
    return Chosen("chunked", f"{told}, beside which answers go on")


def company(cost: CostModel, found: Arrangement, depth: int, concurrency: int) -> int:
    """How many requests run at once, of the `concurrency` that there is room for, so that all of them
    together get on fastest; `concurrency` unless fewer gain much.

    Where experts come and go, each sequence brings experts of its own and leaves less room to what the others
    come back to: several may be slower together than one after the other.
    """
    counts = [1 << power for power in range(concurrency.bit_length()) if 1 << power < concurrency]
    rates = {count: count / cost.together_s(found, depth, count) for count in (*counts, concurrency)}
    best = max(rates, key=lambda count: rates[count])
    return best if rates[best] > COMPANY_GAIN * rates[concurrency] else concurrency
