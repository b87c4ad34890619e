"""Coverage-guided fuzzing of config.json: a configuration, or an error of ours.

Also covers what the other JSON files of a model folder go through first: size, depth, strictness.
Run it as a script: `python tests/fuzz/fuzz_config.py -max_total_time=600`.
"""

from __future__ import annotations

import functools
import json

import atheris
import plain_imports  # noqa: F401  # before anything of ours

with atheris.instrument_imports(include=["apportion.core", "apportion.formats", "apportion.models"]):
    from apportion.core import registry
    from apportion.core.errors import ApportionError
    from apportion.formats.bounded_json import parse_json_bounded
    from apportion.formats.safetensors import SafetensorsCheckpoint
    from apportion.formats.safetensors.header import Header
    from apportion.formats.source_file import SourceFile
    from apportion.models import config_from_checkpoint, kv_bytes_per_token

from fuzz_seeds import config_seeds, disk_with, safetensors_bytes
from fuzzing import fuzz


def words_of(seeds: list[bytes]) -> tuple[list[str], list[str]]:
    """The keys and the texts of all configurations."""
    keys: set[str] = {"text_config", "quantization_config", "n_routed_experts", "num_local_experts"}
    words: set[str] = set()
    stack: list[object] = [json.loads(seed) for seed in seeds]
    while stack:
        match stack.pop():
            case dict() as value:
                keys.update(value)
                stack += value.values()
            case list() as value:
                stack += value
            case str() as value:
                words.add(value)
    return sorted(keys), sorted(words)


DISK, PATH = disk_with("model.safetensors", safetensors_bytes({}, b""))
SOURCE = SourceFile(PATH, DISK)
SEEDS = config_seeds()
# What is installed does not change while we run; looking it up anew would take nearly all the time.
registry.entry_points = functools.cache(registry.entry_points)
registry.module_names = functools.cache(registry.module_names)
ODD = [None, 0, -1, 1 << 31, 1 << 63, 10**9, 1e308, float("nan"), float("inf"), [], {}, "", [None], [[]]]
KEYS, WORDS = words_of(SEEDS)


def text_of(data: bytes) -> bytes:
    """Half of the inputs are the text itself, the others edits of a valid configuration: bytes that change at
    random are hardly ever JSON.
    """
    source = atheris.FuzzedDataProvider(data)
    choice = source.ConsumeIntInRange(0, 2 * len(SEEDS) - 1)
    if choice >= len(SEEDS):
        return bytes(source.ConsumeBytes(source.remaining_bytes()))
    config = json.loads(SEEDS[choice])
    for _ in range(source.ConsumeIntInRange(0, 4)):
        config[source.PickValueInList(KEYS)] = value_from(source, 0)
    return json.dumps(config, allow_nan=True).encode()


def value_from(source: atheris.FuzzedDataProvider, depth: int) -> object:
    kind = source.ConsumeIntInRange(0, 8 if depth < 3 else 6)
    if kind == 0:
        return source.PickValueInList(ODD)
    if kind == 1:
        return source.ConsumeIntInRange(-2, 70)
    if kind == 2:
        return source.ConsumeInt(source.ConsumeIntInRange(1, 10))
    if kind == 3:
        return source.ConsumeFloat()
    if kind == 4:
        return source.ConsumeBool()
    if kind == 5:
        return source.PickValueInList(WORDS)
    if kind == 6:
        return source.ConsumeUnicodeNoSurrogates(8)
    if kind == 7:
        return [value_from(source, depth + 1) for _ in range(source.ConsumeIntInRange(0, 5))]
    return {
        source.PickValueInList(KEYS): value_from(source, depth + 1)
        for _ in range(source.ConsumeIntInRange(0, 5))
    }


def one_input(data: bytes) -> None:
    try:
        config = parse_json_bounded(text_of(data), "config.json")
    except ApportionError:
        return
    json.dumps(config, ensure_ascii=False, allow_nan=False).encode()
    if not isinstance(config, dict):
        return
    checkpoint = SafetensorsCheckpoint([SOURCE], [Header({}, {}, 8)], config)
    try:
        model = config_from_checkpoint(checkpoint)
    except ApportionError:
        return
    assert kv_bytes_per_token(model) > 0, config
    assert model.num_layers > 0, config


if __name__ == "__main__":
    texts = [bytes(8) + seed for seed in SEEDS]
    fuzz(one_input, [*texts, *SEEDS, *(bytes([i]) * 200 for i in range(0, 256, 15))])
