"""Options that several verbs share, each defined once; groups of them arrive in a verb as one object."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import click

from apportion.core.errors import NotFound, UsageError

if TYPE_CHECKING:
    from apportion.engine.assembly import Serving
    from apportion.engine.budget import Budget
    from apportion.plan import HitRates

F = TypeVar("F", bound=Callable[..., Any])


def print_version(ctx: click.Context, _param: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        from apportion import __version__

        click.echo(f"apportion {__version__}")
        ctx.exit()


version_option = click.Option(
    ["--version"],
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=print_version,
    help="Show the version and exit.",
)

model_argument = click.argument("model", metavar="MODEL")

json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object on stdout and nothing else there."
)

offline_option = click.option(
    "--offline", is_flag=True, help="Never use the network; fail if it would be needed [APPORTION_OFFLINE]."
)

text_file_argument = click.argument(
    "file", metavar="FILE", type=click.Path(exists=True, dir_okay=False, readable=True, path_type=Path)
)

ctx_option = click.option("--ctx", type=click.IntRange(min=1), help="Context length in tokens.")


class Counts(click.ParamType[tuple[int, ...]]):
    """`512,2048`: whole numbers, none negative; zeros are left out unless they are asked for."""

    name = "counts"

    def __init__(self, keep_zero: bool = False) -> None:
        self.keep_zero = keep_zero

    def convert(
        self, value: str | tuple[int, ...], param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        if isinstance(value, tuple):
            return value
        try:
            counts = tuple(int(word) for word in value.split(",") if word.strip())
        except ValueError:
            self.fail(f"{value!r} is no list of numbers such as 512,2048", param, ctx)
        if any(count < 0 for count in counts):
            self.fail(f"{value!r} holds a negative number", param, ctx)
        return tuple(count for count in counts if count or self.keep_zero)


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """How a model is to be computed; the arguments of `LLM` by their names."""

    threads: int | None
    kv: str
    exact: bool
    offline: bool


@dataclass(frozen=True, slots=True)
class BudgetOptions:
    """What a model may take, and how that is to be divided."""

    ram: str | None
    plan: Path | None
    placement: str
    expert_cache: str
    prediction: str
    load_order: str
    prefill_order: Literal["layer-major", "chunked"]

    def budget(self, ctx: int | None, kv: str | None = None, serving: Serving | None = None) -> Budget | None:
        """For the engine; None where nothing was stated."""
        from apportion.engine.budget import budget_of
        from apportion.plan import PolicyNames

        policies = PolicyNames(self.placement, self.expert_cache, self.prediction, self.load_order)
        if serving is not None:
            policies = replace(policies, scheduler=serving.scheduler, retention=serving.retention)
        prefill: Literal["layer_major", "chunked"] = (
            "chunked" if self.prefill_order == "chunked" else "layer_major"
        )
        return budget_of(
            self.ram,
            self.plan,
            ctx=ctx,
            kv=kv,
            policies=policies,
            prefill=prefill,
            concurrency=1 if serving is None else serving.concurrency,
            beside=0 if serving is None else serving.beside_nbytes,
            beside_per_token=0 if serving is None else serving.beside_per_token,
        )


def compose(*options: Callable[[Any], Any]) -> Callable[[F], F]:
    """Several options as one decorator, shown in `--help` in the given order."""

    def decorate(function: F) -> F:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


def engine_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options of `EngineOptions`; the verb gets them as `engine`."""

    @ENGINE_OPTIONS
    @wraps(function)
    def call(threads: int | None, kv: str, exact: bool, offline: bool, **rest: Any) -> Any:
        return function(engine=EngineOptions(threads, kv, exact, offline), **rest)

    return call


def budget_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """The fields of `BudgetOptions`; the verb gets them as `budget`."""

    @BUDGET_OPTIONS
    @wraps(function)
    def call(**values: Any) -> Any:
        chosen = {field.name: values.pop(field.name) for field in fields(BudgetOptions)}
        return function(budget=BudgetOptions(**chosen), **values)

    return call


def sampling_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """The fields of `SamplingParams` as options; the verb gets the checked `params`."""

    @SAMPLING_OPTIONS
    @wraps(function)
    def call(logit_bias: tuple[str, ...], **values: Any) -> Any:
        from apportion.engine import SamplingParams

        chosen = {name: values.pop(name) for name in SAMPLING_NAMES}
        for name in ("json_schema", "grammar"):
            chosen[name] = None if chosen[name] is None else read_text(chosen[name])
        params = SamplingParams(logit_bias=parse_bias(logit_bias), **chosen)
        return function(params=params, **values)

    return call


def parse_bias(pairs: tuple[str, ...]) -> dict[int, float] | None:
    """`ID=VALUE` words as a mapping."""
    try:
        return {int(name): float(value) for name, value in (pair.split("=") for pair in pairs)} or None
    except ValueError as error:
        raise UsageError(
            "--logit-bias wants ID=VALUE", hint="for example --logit-bias 2=-inf", given=" ".join(pairs)
        ) from error


def read_text(path: Path) -> str:
    """A text file, as much of it as no limit allows and no more."""
    with path.open("rb") as file:
        data = file.read(MAX_TEXT_NBYTES)
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8 text", error.reason, offset=error.start) from error


class KvCodecs(click.ParamType[str]):
    """`q8`, or by layers as `f16*2,q4`: names that there are."""

    name = "codec"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        from apportion.kernels.kv_codecs import checked

        try:
            return checked(value)
        except NotFound as error:
            self.fail(f"{error.what}: {error.hint}", param, ctx)


kv_option = click.option(
    "--kv",
    metavar="CODEC",
    type=KvCodecs(),
    default="f16",
    show_default=True,
    help="How keys and values are stored: f16, bf16, q8, q4, q4_smooth or f32; by layers as f16*2,q4.",
)

curve_option = click.option(
    "--curve",
    metavar="CURVE",
    help="Hit rates that are forecast with: uniform, the name of a family that has published ones, or a file "
    "that `apportion trace info --save-curve` wrote [default: the family's, else uniform].",
)


def hit_rates_of_curve(curve: str) -> HitRates:
    """What `--curve` names."""
    from apportion.plan import hit_rate as rates
    from apportion.plan.curves import PUBLISHED

    if curve == "uniform":
        return rates.uniform()
    return rates.expected(curve) if curve in PUBLISHED else rates.read_curve(Path(curve))


ENGINE_OPTIONS = compose(
    click.option("--threads", type=click.IntRange(min=1), help="Threads that compute [default: all cores]."),
    kv_option,
    click.option("--exact", is_flag=True, help="Compute in float32 throughout: slower, nothing rounded."),
    offline_option,
)

POLICY_OPTIONS = compose(
    click.option(
        "--placement",
        metavar="POLICY",
        default="layer_order",
        show_default=True,
        help="Under --ram: which layers stay where not all can.",
    ),
    click.option(
        "--expert-cache",
        metavar="POLICY",
        default="lru",
        show_default=True,
        help="Under --ram: which expert gives up its slot.",
    ),
    click.option(
        "--prediction",
        metavar="POLICY",
        default="none",
        show_default=True,
        help="Under --ram: which experts are read ahead.",
    ),
    click.option(
        "--load-order",
        metavar="POLICY",
        default="demand",
        show_default=True,
        help="Under --ram: in which order missing experts are read.",
    ),
    click.option(
        "--prefill-order",
        type=click.Choice(["layer-major", "chunked"]),
        default="layer-major",
        show_default=True,
        help="Under --ram: all of a prompt through a layer before the next, or chunk after chunk.",
    ),
)

BUDGET_OPTIONS = compose(
    click.option(
        "--ram",
        metavar="SIZE|PERCENT|auto",
        help="What the whole process may take, as 4GiB or 50%; auto takes what is free [default: no limit].",
    ),
    click.option(
        "--plan",
        type=click.Path(exists=True, dir_okay=False, readable=True, path_type=Path),
        help="Divide memory as this file says, which `apportion plan --out` wrote.",
    ),
    POLICY_OPTIONS,
)

MAX_TEXT_NBYTES = 1 << 20
TEXT_FILE = click.Path(exists=True, dir_okay=False, readable=True, path_type=Path)
SAMPLING_NAMES = (
    "max_tokens",
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "typical_p",
    "repetition_penalty",
    "presence_penalty",
    "frequency_penalty",
    "penalty_window",
    "seed",
    "stop",
    "logprobs",
    "ignore_eos",
    "json_schema",
    "json_object",
    "regex",
    "grammar",
)
SAMPLING_OPTIONS = compose(
    click.option("--max-tokens", "-n", type=int, help="The most tokens to answer [default: till the end]."),
    click.option("--temperature", "-t", type=float, help="0 is greedy [default: the model's own, or 0.8]."),
    click.option("--top-k", type=int, help="Keep the K likeliest tokens; 0 keeps all [default: 40]."),
    click.option("--top-p", type=float, help="Keep the likeliest that reach P together [default: 0.95]."),
    click.option("--min-p", type=float, help="Keep those P times as likely as the best [default: 0.05]."),
    click.option("--typical-p", type=float, default=1.0, help="Keep the most typical that reach P together."),
    click.option("--repetition-penalty", type=float, default=1.0, help="Above 1: less of what was said."),
    click.option("--presence-penalty", type=float, default=0.0, help="Once for each token of the answer."),
    click.option("--frequency-penalty", type=float, default=0.0, help="For each time a token was used."),
    click.option("--penalty-window", type=int, help="Tokens that penalties look back on [default: all]."),
    click.option(
        "--logit-bias", multiple=True, metavar="ID=VALUE", help="Add to a token's logit; repeatable."
    ),
    click.option("--seed", type=int, help="Repeat the same draws."),
    click.option("--stop", multiple=True, metavar="TEXT", help="End before this text; repeatable."),
    click.option("--logprobs", type=int, help="Report this many alternatives per token (in --json)."),
    click.option("--ignore-eos", is_flag=True, help="Go on until --max-tokens whatever the model says."),
    click.option("--json-schema", type=TEXT_FILE, help="The answer is JSON of the schema in this file."),
    click.option("--json-object", is_flag=True, help="The answer is some JSON object."),
    click.option("--regex", metavar="PATTERN", help="The answer matches this regular expression."),
    click.option(
        "--grammar", type=TEXT_FILE, help="The answer follows the Lark or GBNF grammar in this file."
    ),
)
