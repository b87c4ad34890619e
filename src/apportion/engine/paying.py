"""Within a budget, what some requests need and no plan set aside is paid for when it is first needed."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING

from apportion.core.claim import Kind
from apportion.core.errors import DoesNotFit
from apportion.engine.grammar import Grammars
from apportion.engine.grammar.vocabulary import KEPT_NBYTES
from apportion.engine.observers import OBSERVING_NBYTES

if TYPE_CHECKING:
    from apportion.engine.assembly import Serving
    from apportion.engine.budget import Apportioned
    from apportion.engine.loading import LoadedModel


def grammars_for(loaded: LoadedModel, serving: Serving) -> Grammars:
    """The grammars of a model. Within a budget that has no room set aside for them they pay for it."""
    if loaded.apportioned is None:
        return Grammars(loaded.tokenizer)
    if serving.structured:
        return Grammars(loaded.tokenizer, KEPT_NBYTES)
    paying = partial(pay, loaded.apportioned, "holding answers to forms", "structured")
    return Grammars(loaded.tokenizer, KEPT_NBYTES, paying)


def states_payer(loaded: LoadedModel, serving: Serving) -> Callable[[], None]:
    """Pays, once, for hidden states that somebody looks at, within a budget that set nothing aside."""
    if loaded.apportioned is None or serving.observing:
        return lambda: None
    apportioned, paying, paid = loaded.apportioned, Lock(), False

    def pay_once() -> None:
        nonlocal paid
        with paying:
            if not paid:
                what = "log-probabilities of prompts and for embeddings"
                pay(apportioned, what, "observing", OBSERVING_NBYTES)
                paid = True

    return pay_once


def pay(apportioned: Apportioned, what: str, argument: str, nbytes: int) -> None:
    """Lease bytes for what a caller should have asked for with an argument of `LLM`.

    Raises:
        DoesNotFit: the budget has no room for it.
    """
    try:
        apportioned.pay(Kind.WORKSPACE, nbytes)
    except DoesNotFit as error:
        raise DoesNotFit(
            f"the budget has no room for {what}",
            error.why,
            f"load the model with {argument}=True, which sets it aside",
            **error.numbers,
        ) from None
