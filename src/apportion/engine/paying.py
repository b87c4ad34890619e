"""Within a budget, what some requests need and no plan set aside is paid for when it is first needed."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import TYPE_CHECKING

from apportion.core.claim import Kind
from apportion.core.errors import DoesNotFit
from apportion.engine.grammar import Grammars
from apportion.engine.grammar.vocabulary import KEPT_NBYTES
from apportion.engine.observers import OBSERVING_NBYTES

if TYPE_CHECKING:
    from apportion.engine.assembly import Serving
    from apportion.engine.loading import LoadedModel


def grammars_for(loaded: LoadedModel, serving: Serving) -> Grammars:
    """The grammars of a model. Within a budget that has no room set aside for them they pay for it."""
    if loaded.apportioned is None:
        return Grammars(loaded.tokenizer)
    if serving.structured:
        return Grammars(loaded.tokenizer, KEPT_NBYTES)
    apportioned = loaded.apportioned

    def pay(nbytes: int) -> None:
        try:
            apportioned.pay(Kind.WORKSPACE, nbytes)
        except DoesNotFit as error:
            raise DoesNotFit(
                "the budget has no room for holding answers to forms",
                error.why,
                "load the model with structured=True, which sets it aside",
                **error.numbers,
            ) from None

    return Grammars(loaded.tokenizer, KEPT_NBYTES, pay)


def states_payer(loaded: LoadedModel, serving: Serving) -> Callable[[], None]:
    """Pays, once, for hidden states that somebody looks at, within a budget that set nothing aside."""
    if loaded.apportioned is None or serving.observing:
        return lambda: None
    apportioned, paying, paid = loaded.apportioned, Lock(), False

    def pay() -> None:
        nonlocal paid
        with paying:
            if paid:
                return
            try:
                apportioned.pay(Kind.WORKSPACE, OBSERVING_NBYTES)
            except DoesNotFit as error:
                raise DoesNotFit(
                    "the budget has no room for log-probabilities of prompts and for embeddings",
                    error.why,
                    "load the model with observing=True, which sets it aside",
                    **error.numbers,
                ) from None
            paid = True

    return pay
