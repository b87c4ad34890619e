"""Which scheduler suits a plan, and why, by the cost model."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from apportion.plan.arrangement import Arrangement
from apportion.plan.cost import CostModel
from apportion.policies.scheduler import SCHEDULERS

AUTO = "auto"
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
