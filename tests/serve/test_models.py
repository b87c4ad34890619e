"""Several models under one budget: who is in memory, who makes room, and that the account is right always."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from tests.models.tiny import tiny_gguf
from tests.serve.running import running

from apportion import LLM, SamplingParams
from apportion.core.claim import Kind, Tier
from apportion.core.errors import DoesNotFit, InUse, NotFound, UsageError
from apportion.core.units import MiB
from apportion.engine.assembly import Serving
from apportion.serve import ModelSpec, ServeConfig
from apportion.serve import models as module
from apportion.serve import offered as offered_module
from apportion.serve.models import Models
from apportion.serve.offered import loaded_llm

GREEDY = SamplingParams(temperature=0, max_tokens=6, ignore_eos=True)
ROOMY = 4096 * MiB
NAMES = ("a", "b", "c")


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_gguf("olmoe", tmp_path_factory.mktemp("model"), block_format="q8_0")


@pytest.fixture
def config(path: Path) -> ServeConfig:
    specs = tuple(ModelSpec(name, str(path)) for name in NAMES)
    return ServeConfig(specs, ctx=128, ram=ROOMY, serving=Serving(), threads=1, offline=True)


def play(config: ServeConfig, scene: Callable[[Models], Awaitable[None]]) -> None:
    """Let something happen, and see that nothing is left behind."""

    async def whole() -> None:
        models = Models(config)
        try:
            await scene(models)
        finally:
            await models.close()
        if models.ledger is not None:
            account = models.ledger.account().tiers[Tier.RAM]
            assert set(account.by_kind) <= {Kind.RUNTIME}, "models gave everything back"

    asyncio.run(whole())


def states(models: Models) -> str:
    """The first letters of all states: `l`oaded, `u`nloaded, `f`ailed."""
    return "".join(info.state[0] for info in models.listed())


def used(models: Models) -> int:
    assert models.ledger is not None
    return models.ledger.account().tiers[Tier.RAM].used


async def tightened(models: Models, room: int) -> None:
    """Leave so many bytes beyond what is leased."""
    await models.set_ram(used(models) + room)


def test_a_model_is_loaded_when_somebody_asks_for_it(config: ServeConfig) -> None:
    async def scene(models: Models) -> None:
        assert states(models) == "uuu"
        async with models.use("b") as llm:
            assert llm.generate([1, 2, 3], GREEDY).output_tokens == 6
            assert states(models) == "ulu"
        async with models.use(None) as llm:
            assert models.loaded()["a"] is llm
        async with models.use("b"):
            assert states(models) == "llu"

    play(config, scene)


def test_a_name_that_nobody_has_is_not_found(config: ServeConfig) -> None:
    async def scene(models: Models) -> None:
        with pytest.raises(NotFound, match="no model"):
            async with models.use("d"):
                raise AssertionError

    play(config, scene)


def test_two_models_of_one_name_are_refused(config: ServeConfig) -> None:
    with pytest.raises(UsageError, match="same name"):
        Models(replace(config, models=config.models[:1] * 2))


def test_all_lease_from_one_account_and_the_process_is_paid_for_once(config: ServeConfig) -> None:
    async def scene(models: Models) -> None:
        assert models.ledger is not None
        sizes, runtimes = [], []
        for name in NAMES:
            llm = await models.load(name)
            assert llm.ledger is models.ledger
            account = models.ledger.account().tiers[Tier.RAM]
            sizes.append(account.used)
            runtimes.append(account.by_kind[Kind.RUNTIME])
        first, second, third = sizes
        assert second - first == third - second == models.offered("b").nbytes
        assert runtimes[1] - runtimes[0] < 16 * MiB < runtimes[0]
        assert account.used == runtimes[2] + sum(
            sum(llm.plan.nbytes.values()) - llm.plan.nbytes[Kind.RUNTIME] for llm in models.loaded().values()
        )

    play(config, scene)


def test_two_first_requests_load_a_model_once(config: ServeConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    loads: list[str] = []

    def counted(spec, *rest):
        loads.append(spec.name)
        return loaded_llm(spec, *rest)

    monkeypatch.setattr(module, "loaded_llm", counted)

    async def one(models: Models) -> LLM:
        async with models.use("a") as llm:
            await asyncio.sleep(0)
            return llm

    async def scene(models: Models) -> None:
        first, second = await asyncio.gather(one(models), one(models))
        assert first is second
        assert loads == ["a"]

    play(config, scene)


def test_a_failure_is_told_to_all_who_wait_and_tried_again_later(
    config: ServeConfig, tmp_path: Path, path: Path
) -> None:
    missing = tmp_path / "later.gguf"
    config = replace(config, models=(ModelSpec("a", str(missing)),))

    async def scene(models: Models) -> None:
        found = await asyncio.gather(*(models.load("a") for _ in range(3)), return_exceptions=True)
        assert [type(one).__name__ for one in found] == ["NotFound"] * 3
        (info,) = models.listed()
        assert (info.state, info.progress) == ("failed", 0)
        assert info.error is not None
        missing.write_bytes(path.read_bytes())
        async with models.use("a"):
            assert states(models) == "l"
        assert models.listed()[0].error is None

    play(config, scene)


def test_idle_models_make_room_the_least_valuable_first(config: ServeConfig) -> None:
    async def scene(models: Models) -> None:
        for name in ("a", "b", "a"):
            async with models.use(name):
                pass
        models.offered("a").load_s, models.offered("b").load_s = 5.0, 1.0
        await tightened(models, MiB)
        async with models.use("c"):
            assert states(models) == "lul"
        assert models.ledger is not None
        account = models.ledger.account().tiers[Tier.RAM]
        assert account.used <= account.limit

    play(config, scene)


def test_a_model_in_use_is_never_unloaded_and_the_refusal_names_the_smallest_budget(
    config: ServeConfig,
) -> None:
    async def scene(models: Models) -> None:
        async with models.use("a") as llm:
            await tightened(models, MiB)
            with pytest.raises(DoesNotFit, match=r"b does not fit .* beside a") as caught:
                await models.load("b")
            assert states(models) == "lfu"
            with pytest.raises(InUse):
                await models.unload("a")
            assert llm.generate([1, 2], GREEDY).output_tokens == 6
            smallest = caught.value.numbers["smallest_budget"]
            assert isinstance(smallest, int)
            await models.set_ram(smallest - MiB)
            with pytest.raises(DoesNotFit):
                await models.load("b")
            await models.set_ram(smallest)
            await models.load("b")
            assert states(models) == "llu"

    play(config, scene)


def test_one_that_cannot_be_had_at_all_unloads_nobody(config: ServeConfig, tmp_path: Path) -> None:
    small = tiny_gguf("llama", tmp_path, block_format="q8_0").rename(tmp_path / "small.gguf")
    large = tiny_gguf("llama", tmp_path, block_format="f32")
    models = [ModelSpec("small", str(small)), ModelSpec("large", str(large)), config.models[0]]
    config = replace(config, models=tuple(models))

    async def scene(models: Models) -> None:
        await models.load("small")
        await tightened(models, 0)
        with pytest.raises(DoesNotFit, match="would do") as caught:
            await models.load("large")
        assert states(models) == "lfu"
        assert models.ledger is not None
        limit = models.ledger.account().tiers[Tier.RAM].limit
        assert int(str(caught.value.numbers["smallest_budget"])) > limit

    play(config, scene)


def test_memory_returns_when_a_model_is_unloaded(config: ServeConfig) -> None:
    async def scene(models: Models) -> None:
        await models.load("a")
        before = used(models)
        for _ in range(3):
            async with models.use("b") as llm:
                llm.generate([1, 2, 3], replace(GREEDY, prompt_logprobs=1))
            del llm
            assert used(models) > before
            await models.unload("b")
            assert used(models) == before
        assert states(models) == "luu"

    play(config, scene)


def test_nothing_refers_to_a_model_that_was_unloaded(
    config: ServeConfig, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scene(models: Models) -> None:
        held = await models.load("a")
        monkeypatch.setattr(offered_module, "TRIES", 2)
        await models.unload("a")
        assert "still refers to a" in caplog.text
        del held
        caplog.clear()
        async with models.use("a") as llm:
            llm.generate([1, 2, 3], GREEDY)
        del llm
        await models.unload("a")
        assert not caplog.text

    play(config, scene)


def test_idle_models_are_unloaded_when_their_time_is_over(config: ServeConfig) -> None:
    async def scene(models: Models) -> None:
        async with models.use("a"):
            await models.load("b")
            for _ in range(100):
                await asyncio.sleep(0.02)
                if states(models) == "luu":
                    break
            assert states(models) == "luu", "b was idle, a in use"
        for _ in range(100):
            await asyncio.sleep(0.02)
            if states(models) == "uuu":
                return
        raise AssertionError(states(models))

    play(replace(config, keep_alive_s=0.15), scene)


def test_the_loop_goes_on_while_a_model_is_loaded_and_unloaded(
    config: ServeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = []

    def seen(*arguments):
        threads.append(threading.current_thread())
        return loaded_llm(*arguments)

    monkeypatch.setattr(module, "loaded_llm", seen)

    async def scene(models: Models) -> None:
        loading, ticks = asyncio.create_task(models.load("a")), 0
        while not loading.done():
            await asyncio.sleep(0)
            ticks += 1
        assert ticks > 10
        assert threads[0] is not threading.current_thread()

    play(config, scene)


def test_progress_of_loading_is_seen(config: ServeConfig) -> None:
    async def scene(models: Models) -> None:
        seen = set()
        loading = asyncio.create_task(models.load("a"))
        while not loading.done():
            await asyncio.sleep(0)
            info = models.listed()[0]
            seen.add((info.state, 0 <= info.progress <= 1))
        assert ("loading", True) in seen
        assert models.listed()[0].progress == 1

    play(config, scene)


def test_a_smaller_budget_unloads_idle_models_first(config: ServeConfig) -> None:
    async def scene(models: Models) -> None:
        await models.load("a")
        alone = used(models)
        await models.load("b")
        async with models.use("a"):
            await models.set_ram(alone)
            assert states(models) == "luu"
            with pytest.raises(DoesNotFit, match="in use") as caught:
                await models.set_ram(alone - MiB)
            assert caught.value.numbers["smallest_budget"] == alone
            assert models.ledger is not None
            assert models.ledger.account().tiers[Tier.RAM].limit == alone
        await models.set_ram(ROOMY)
        await models.load("c")
        assert states(models) == "lul"

    play(config, scene)


def test_a_smaller_budget_asks_for_expert_slots_before_it_is_refused(config: ServeConfig) -> None:
    async def scene(models: Models) -> None:
        llm = await models.load("a")
        plan = replace(llm.plan, expert_slots=(6, 6, 6))
        async with models.use("a"):
            offered = models.offered("a")
            tight = LLM(config.models[0].reference, plan=plan)
            assert tight.residency is not None
            with models.ledger.subscribed(tight.residency.give_back):  # type: ignore[union-attr]
                before = tight.residency.num_slots
                with pytest.raises(DoesNotFit):  # they are not of this account
                    await models.set_ram(used(models) - MiB)
                assert tight.residency.num_slots < before
            assert offered.llm is llm

    play(config, scene)


def test_without_a_budget_there_is_none_to_change(config: ServeConfig) -> None:
    async def scene(models: Models) -> None:
        async with models.use("a") as llm:
            assert llm.ledger is models.ledger is None
            with pytest.raises(UsageError, match="no budget"):
                await models.set_ram(ROOMY)
        await models.unload("a")
        assert states(models) == "uuu"

    play(replace(config, ram=None), scene)


def test_closing_breaks_off_what_is_loading(config: ServeConfig) -> None:
    async def scene(models: Models) -> None:
        loading = asyncio.create_task(models.load("a"))
        await asyncio.sleep(0)
        await models.close()
        with pytest.raises(Exception, match="stopping"):
            await models.load("b")
        await asyncio.gather(loading, return_exceptions=True)
        assert not models.loaded()

    play(config, scene)


def test_somebody_who_leaves_while_a_model_is_loaded_holds_nobody_up(config: ServeConfig) -> None:
    async def use(models: Models) -> None:
        async with models.use("a"):
            raise AssertionError

    async def scene(models: Models) -> None:
        leaving = asyncio.create_task(use(models))
        await asyncio.sleep(0)
        leaving.cancel()
        await asyncio.gather(leaving, return_exceptions=True)
        assert models.offered("a").num_users == 0
        async with models.use("a") as llm:
            assert llm.generate([1], GREEDY).output_tokens == 6

    play(config, scene)


def test_a_model_that_answered_over_http_is_let_go_of(
    config: ServeConfig, caplog: pytest.LogCaptureFixture
) -> None:
    body = {"model": "b", "prompt": "a", "max_tokens": 4, "logprobs": 1}
    with running(config) as server, httpx.Client(base_url=server.url, timeout=20) as client:
        models = server.site.models
        before = used(models)
        assert client.post("/v1/completions", json=body).status_code == 200
        with client.stream("POST", "/v1/completions", json={**body, "stream": True}) as answer:
            assert answer.read().endswith(b"[DONE]\n\n")
        assert used(models) > before
        asyncio.run_coroutine_threadsafe(models.unload("b"), server.loop).result(20)
        assert used(models) == before
        assert "still refers" not in caplog.text
        assert client.post("/v1/completions", json=body).status_code == 200
