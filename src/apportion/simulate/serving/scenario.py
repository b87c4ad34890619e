"""What a seed stands for: an engine's settings, requests, and what goes wrong."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

from apportion.policies import RETENTIONS, SCHEDULERS
from apportion.simulate.serving.scripted import END

MOST_TOKENS = 48  # of a prompt or an answer: enough for several blocks, and quick


@dataclass(frozen=True, slots=True)
class Ask:
    """What a client asks for.

    Attributes:
        most: tokens of the answer at most; `answers` of them are wanted.
        cancel_s: how long after its arrival the client loses interest; None: never.
        ttl_s: after which the answer is worth nothing.
        guesses: a share of guessed tokens that is right; None: nothing is guessed.
        read_s: how long the client takes to read what has come; None: it always waits for more.
    """

    number: int
    arrival_s: float
    prompt: tuple[int, ...]
    most: int
    answers: int = 1
    tenant: str = ""
    priority: int = 0
    salt: str = ""
    program: str = ""
    tool: str = ""
    cancel_s: float | None = None
    ttl_s: float | None = None
    guesses: float | None = None
    read_s: float | None = None


@dataclass(frozen=True, slots=True)
class Scenario:
    """Everything that happens follows from this.

    Attributes:
        seed: of what goes wrong.
        retention: what keeps blocks for later requests; empty: nothing does.
        stores: blocks also go to a store, which survives restarts.
        errors, slowness: shares of the steps that fail, that take 50 times as long.
        read_errors: share of the reads from the store that fail or bring something else.
        shrinks: when, and by how many blocks, the budget is lowered.
        disk_errors: share of the calls of the store's disk that fail; rots: when a bit of it changes.
        store_blocks: blocks that the store may hold, about.
        restarts: when the process dies, and whether the power fails with it; another one takes over what its
            clients still want.
        calm_s: when the last of it is over.
    """

    seed: int
    scheduler: str
    block_tokens: int
    num_layers: int
    num_blocks: int
    max_running: int
    step_tokens: int
    asks: tuple[Ask, ...]
    streams: bool = False
    retention: str = ""
    stores: bool = False
    errors: float = 0.0
    slowness: float = 0.0
    read_errors: float = 0.0
    shrinks: tuple[tuple[float, int], ...] = ()
    disk_errors: float = 0.0
    rots: tuple[float, ...] = ()
    store_blocks: int = 0
    restarts: tuple[tuple[float, bool], ...] = ()
    calm_s: float = field(default=0.0)


def scenario_of(seed: int, num_asks: int = 16) -> Scenario:
    """The scenario of a seed, with about `num_asks` requests."""
    random = Random(f"scenario {seed}")
    block_tokens = random.choice([2, 4, 8])
    asks = _asks(random, random.randint(2, 2 * num_asks - 2), random.choice([0.02, 0.1, 0.5, 2.0]))
    needed = max(most_blocks(ask, block_tokens) for ask in asks)
    num_blocks = needed + random.choice([0, 2, needed // 2, needed, 6 * needed])
    horizon_s = asks[-1].arrival_s + 1.0
    deaths = _times(random, random.choice([0, 1, 1, 4]), horizon_s)
    faulty = random.random() < 0.8
    retention = random.choice(["", *RETENTIONS, *RETENTIONS])
    return Scenario(
        seed=seed,
        scheduler=_scheduler(random),
        block_tokens=block_tokens,
        num_layers=random.choice([1, 2, 3, 5]),
        num_blocks=num_blocks,
        max_running=random.choice([1, 2, 4, 64]),
        step_tokens=random.choice([7, 64, 10_000]),
        asks=tuple(asks),
        streams=random.random() < 0.3,
        retention=retention,
        stores=bool(retention) and random.random() < 0.8,
        errors=random.choice([0.0, 0.05, 0.3]) * faulty,
        slowness=random.choice([0.0, 0.05]) * faulty,
        read_errors=random.choice([0.0, 0.1, 0.9]) * faulty,
        shrinks=_shrinks(random, num_blocks - random.choice([1, needed // 2, needed]), horizon_s)
        if faulty
        else (),
        disk_errors=random.choice([0.0, 0.0, 0.02, 0.2]) * faulty,
        rots=_times(random, random.choice([0, 0, 3, 30]), horizon_s) if faulty else (),
        store_blocks=random.choice([8, 30, 200]),
        restarts=tuple((when, random.random() < 0.5) for when in deaths) if faulty else (),
        calm_s=horizon_s,
    )


def most_blocks(ask: Ask, block_tokens: int) -> int:
    """Blocks that a request can come to need."""
    whole = -(-(len(ask.prompt) + ask.most) // block_tokens)
    return whole + (ask.answers - 1) * (whole - len(ask.prompt) // block_tokens)


def _scheduler(random: Random) -> str:
    name = random.choice(list(SCHEDULERS))
    parameters = {
        "chunked": ["", ":tokens=3", ":tokens=16:tile=4"],
        "splitfuse": ["", ":tokens=5"],
        "layered": [":group_tokens=4", ":tokens=20:group_tokens=2", ""],
        "priority": [":give_up=swap", ":tokens=9", ""],
        "fair_share": [":tokens=6", ""],
    }
    return name + random.choice(parameters.get(name, [""]))


def _asks(random: Random, count: int, interval_s: float) -> list[Ask]:
    """Requests, many of which begin alike: with a stem, or with the whole prompt of an earlier one."""
    stems = [_tokens(random, random.randint(1, MOST_TOKENS)) for _ in range(3)]
    asks: list[Ask] = []
    now_s = 0.0
    for number in range(count):
        now_s += random.choice([0.0, random.expovariate(1 / interval_s)])
        beginnings = [(), random.choice(stems), random.choice(asks).prompt if asks else ()]
        tail = _tokens(random, random.randint(1, random.choice([1, 3, MOST_TOKENS])))
        prompt = (random.choice(beginnings) + tail)[: 2 * MOST_TOKENS]
        asks.append(_ask(random, number, now_s, prompt))
    return asks


def _ask(random: Random, number: int, now_s: float, prompt: tuple[int, ...]) -> Ask:
    def now_and_then(chance: float, value: float) -> float | None:
        return value if random.random() < chance else None

    return Ask(
        number,
        now_s,
        prompt,
        random.randint(1, random.choice([2, MOST_TOKENS])),
        answers=random.choice([1, 1, 1, 1, 1, 2, 3]),
        tenant=random.choice("abc"),
        priority=random.choice([0, 0, 0, 1, 2]),
        salt=random.choice(["", "", "", "salt"]),
        program=random.choice(["", "", "p", "q"]),
        tool=random.choice(["", "", "search"]),
        cancel_s=now_and_then(
            0.3, random.choice([0.0, *(random.expovariate(rate) for rate in (30, 4, 0.5))])
        ),
        ttl_s=now_and_then(0.1, random.expovariate(0.5)),
        guesses=now_and_then(0.2, random.random()),
        read_s=now_and_then(0.15, random.expovariate(2.0)),
    )


def _tokens(random: Random, count: int) -> tuple[int, ...]:
    return tuple(random.randrange(END) for _ in range(count))


def _times(random: Random, count: int, horizon_s: float) -> tuple[float, ...]:
    return tuple(sorted(random.uniform(0, horizon_s) for _ in range(count)))


def _shrinks(random: Random, spare: int, horizon_s: float) -> tuple[tuple[float, int], ...]:
    """Moments at which the budget is lowered; some requests may not fit any more then."""
    shrinks = []
    for when in _times(random, random.choice([0, 0, 1, 2]), horizon_s):
        count = random.randint(0, spare)
        spare -= count
        shrinks.append((when, count))
    return tuple(shrinks)
