"""Writes the generated parts of the documentation, or says which are stale.

A page marks a part with `<!-- generated: NAME -->` and `<!-- end -->`; NAME is one of GENERATORS. Everything
that is registered shows up by itself: verbs, errors, settings, block formats, model families, policies.

    python docs/generate.py            write
    python docs/generate.py --check    exit with 1 if a page is stale
"""

from __future__ import annotations

import inspect
import json
import re
import sys
from collections.abc import Callable, Iterable
from dataclasses import fields
from pathlib import Path
from types import ModuleType

import click

from apportion.bench.kernel_table import markdown
from apportion.cli import main as apportion
from apportion.core import errors
from apportion.core.errors import ApportionError
from apportion.core.settings import SETTINGS, Origin
from apportion.core.units import format_bytes
from apportion.engine.openai import FIELDS, Field
from apportion.formats.block import BlockFormat
from apportion.formats.blocks import FORMATS, load_as
from apportion.formats.blocks.table import KINS
from apportion.hardware.checks import CHECKS
from apportion.kernels.kv_codec import BLOCK_TOKENS, HeadLayout
from apportion.kernels.kv_codecs import CODECS
from apportion.models.family import FAMILIES, Family
from apportion.policies import FAMILIES as POLICY_FAMILIES
from apportion.policies.family import Policy, PolicyFamily
from apportion.serve import ModelSpec, ServeConfig
from apportion.serve.app import create_app
from apportion.serve.gate import entries
from apportion.serve.limits import Limits
from apportion.serve.metrics import COMPAT, OWN
from apportion.serve.metrics.metric import Metric
from apportion.text.tool_calls import TOOL_FORMATS

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"  # what benchmarks printed with --json
PART = re.compile(r"(?P<open><!-- generated: (?P<name>[a-z-]+) -->\n).*?(?P<close><!-- end -->)", re.DOTALL)


def pages() -> list[Path]:
    return [ROOT / "README.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").rglob("*.md"))]


def filled(text: str) -> str:
    """A page with its generated parts as they should be."""
    return PART.sub(
        lambda part: part["open"] + GENERATORS[part["name"]]().strip() + "\n" + part["close"], text
    )


def table(head: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    names = list(head)
    lines = [names, ["---"] * len(names), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def _cell(value: object) -> str:
    return " ".join(str(value).split()).replace("|", "\\|")


# --- the command line -------------------------------------------------------------------------------------


def cli() -> str:
    return "\n\n".join(_verb(command, name) for name, command in _verbs(apportion, "apportion"))


def verbs() -> str:
    rows = [
        (f"[`{name}`](cli.md#{_anchor(name)})", command.get_short_help_str(200)) for name, command in _top()
    ]
    return table(("verb", "what it does"), rows)


def _top() -> list[tuple[str, click.Command]]:
    return [(name, command) for name, command in _verbs(apportion, "apportion") if name.count(" ") == 1]


def _anchor(heading: str) -> str:
    return heading.replace(" ", "-")


def _verbs(command: click.Command, name: str) -> list[tuple[str, click.Command]]:
    """Every command below `command`, with its full name."""
    if not isinstance(command, click.Group):
        return []
    context = click.Context(command, info_name=name)
    found = []
    for word in command.list_commands(context):
        child = command.get_command(context, word)
        assert child is not None, word
        found += [(f"{name} {word}", child), *_verbs(child, f"{name} {word}")]
    return found


def _verb(command: click.Command, name: str) -> str:
    context = click.Context(command, info_name=name)
    usage = " ".join([name, *command.collect_usage_pieces(context)])
    parts = [
        f"## {name}",
        inspect.cleandoc(command.help or "").replace("\b\n", ""),
        f"```console\n$ {usage}\n```",
    ]
    records = [p.get_help_record(context) for p in command.get_params(context) if isinstance(p, click.Option)]
    rows = [(f"`{record[0]}`", record[1]) for record in records if record is not None]
    return "\n\n".join([*parts, table(("option", "what it does"), rows)])


# --- words of the core ------------------------------------------------------------------------------------


def error_tree() -> str:
    """Every error below ApportionError that the core declares, parents before children."""
    rows = []
    for depth, cls in _classes(ApportionError, 0):
        if cls.__module__ == errors.__name__:
            sentence = inspect.cleandoc(cls.__doc__ or "").split("\n\n")[0]
            rows.append(
                (f"{'&nbsp;' * 4 * depth}`{cls.__name__}`", f"`{cls.code}`", cls.exit_status, sentence)
            )
    return table(("class", "code", "exit status", "when"), rows)


def _classes(cls: type[ApportionError], depth: int) -> list[tuple[int, type[ApportionError]]]:
    children = sorted(cls.__subclasses__(), key=lambda child: child.__name__)
    return [(depth, cls), *(below for child in children for below in _classes(child, depth + 1))]


def checks() -> str:
    """What `apportion doctor` looks at: the first lines of its checks' files."""
    modules = [inspect.getmodule(CHECKS.get(name)) for name in CHECKS]
    sentences = [inspect.cleandoc((module and module.__doc__) or "") for module in modules]
    rows = [(f"`{name}`", sentence) for name, sentence in zip(CHECKS, sentences, strict=True)]
    return table(("check", "what it looks at"), rows)


def settings() -> str:
    rows = [
        (f"`{s.name}`", f"`{s.variable}`", s.kind.words, _default(s.name), s.sentence)
        for s in SETTINGS.values()
    ]
    return table(("setting", "environment variable", "value", "default", "what it does"), rows)


def _default(name: str) -> str:
    value = SETTINGS[name].default()
    if value is None:
        return "unset"
    if isinstance(value, Path):  # differs from machine to machine; `apportion config` shows the real one
        return "in your cache folder"
    return f"`{str(value).lower()}`"


def origins() -> str:
    return " > ".join(Origin)


# --- models and formats -----------------------------------------------------------------------------------


def block_formats() -> str:
    return table(
        ("block format", "ggml type", "bits per weight", "numbers per block", "computed on", "written"),
        [_block_format(block_format) for block_format in FORMATS.values()],
    )


def _block_format(item: BlockFormat) -> tuple[object, ...]:
    load = load_as(item)
    computed = "as stored" if item.native else f"as `{load.kept.name}`, {load.growth:.1f} times its size"
    written = "yes" if item.encode is not None else "no"
    return f"`{item.name}`", item.ggml_type, f"{item.bits_per_weight:g}", item.block_size, computed, written


def block_loads() -> str:
    loads = [load_as(item) for item in FORMATS.values() if not item.native]
    return table(
        ("stored as", "bits", "kept as", "bits in memory", "times its size", "numbers"),
        [
            (
                f"`{load.stored.name}`",
                f"{load.stored.bits_per_weight:g}",
                f"`{load.kept.name}`",
                f"{load.kept.bits_per_weight:g}",
                f"{load.growth:.1f}",
                "rounded to nearest" if load.rounds else "the same",
            )
            for load in loads
        ],
    )


def block_drawings() -> str:
    """What the modules say themselves; an indented drawing is a code block in Markdown too."""
    return "\n\n".join(_block_drawing(kin) for kin in KINS)


def _block_drawing(kin: ModuleType) -> str:
    heading = " ".join(f"`{item.name}`" for item in kin.FORMATS)
    return f"### {heading}\n\n{inspect.cleandoc(kin.__doc__ or '')}"


def model_families() -> str:
    rows = [_family(name, FAMILIES.get(name)) for name in FAMILIES]
    return table(("family", "GGUF architecture", "`model_type` of a folder", "what is particular"), rows)


def _family(name: str, family: Family) -> tuple[str, ...]:
    module = sys.modules.get(f"apportion.models.families.{name}")
    sentence = inspect.cleandoc((module.__doc__ if module else None) or "").split("\n\n")[0]
    return f"`{name}`", _codes(family.gguf), _codes(family.model_types), sentence


def _codes(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names) or "-"


# --- policies ---------------------------------------------------------------------------------------------


def policies() -> str:
    return "\n\n".join(_policy_family(family) for family in POLICY_FAMILIES)


def _policy_family(family: PolicyFamily[Policy]) -> str:
    module = sys.modules[f"apportion.policies.{family.folder}"]
    sentence = " ".join((module.__doc__ or "").split()).split(": ", 1)[1].removesuffix(" One file each.")
    heading = f"### {family.noun[0].upper()}{family.noun[1:]}\n\n{sentence[0].upper()}{sentence[1:]}"
    rows = [_policy(name, family.get(name), name == family.baseline) for name in family]
    return heading + "\n\n" + table(("policy", "what it decides", "lossless", "draws on", "source"), rows)


def _policy(name: str, policy: Policy, is_baseline: bool) -> tuple[str, ...]:
    options = [f"{key}={str(value).lower()}" for key, value in policy.parameters().items()]
    label = f"`{':'.join([name, *options])}`"
    label += " (default)" if is_baseline else " (replay alone)" if policy.oracle else ""
    return label, policy.sentence(), "yes" if policy.lossless else "no", policy.budget, policy.source()


# --- results ----------------------------------------------------------------------------------------------


def tool_formats() -> str:
    formats = [(name, TOOL_FORMATS.get(name)) for name in TOOL_FORMATS]
    rows = [(f"`{name}`", one.sentence(), one.models) for name, one in formats]
    examples = [f"`{name}`\n\n````text\n{one.example}\n````" for name, one in formats]
    return "\n\n".join([table(("format", "how a call is written", "models"), rows), *examples])


def kernels() -> str:
    return markdown(json.loads((RESULTS / "kernels.json").read_text(encoding="utf-8")))


def kv_codecs() -> str:
    shapes = {"SmolLM2-135M": (30, 3, 64), "OLMoE-1B-7B": (16, 16, 128)}  # layers, KV heads, their size
    rows = []
    for name in sorted(CODECS, key=lambda name: -HeadLayout(CODECS.get(name), 64, 64).nbytes):
        codec = CODECS.get(name)
        sizes = (
            layers * heads * HeadLayout(codec, size, size).nbytes // BLOCK_TOKENS
            for layers, heads, size in shapes.values()
        )
        source = f" ([source]({codec.source}))" if codec.source else ""
        rows.append([f"`{name}`", codec.summary + source, *(f"{size:,}" for size in sizes)])
    return table(["codec", "stored as", *shapes], rows)


# --- the server -------------------------------------------------------------------------------------------


def metrics() -> str:
    return _metrics(OWN)


def metrics_vllm() -> str:
    return _metrics(COMPAT["vllm"])


def _metrics(found: Iterable[Metric]) -> str:
    rows = [(f"`{one.name}`", one.kind, _codes(one.labels), one.sentence) for one in found]
    return table(("metric", "type", "labels", "what it tells"), rows)


# --- the server -------------------------------------------------------------------------------------------


def limits() -> str:
    """What the docstring of `Limits` says of each, with its default."""
    text = inspect.cleandoc(Limits.__doc__ or "").partition("Attributes:\n")[2]
    rows = []
    for entry in re.findall(r"^    (\w[\w, ]*): (.+(?:\n {8}.+)*)", text, re.MULTILINE):
        names, sentence = entry[0].split(", "), " ".join(entry[1].split())
        rows.append([" ".join(f"`{name}`" for name in names), ", ".join(map(_limit, names)), sentence])
    named = {name for row in rows for name in row[0].replace("`", "").split()}
    assert named == {one.name for one in fields(Limits)}, "a limit that nothing is said of"
    return table(("limit", "default", "of what"), rows)


def _limit(name: str) -> str:
    value = getattr(Limits(), name)
    return format_bytes(value) if name.endswith("_nbytes") else f"{value:g}"


def routes() -> str:
    """Every route of the server, and who may use it."""
    app = create_app(ServeConfig((ModelSpec("any", "any"),)))
    found: dict[str, tuple[set[str], str]] = {}
    for entry in entries(app.routes):
        methods, _ = found.setdefault(entry.template, (set(), str(entry.access)))
        methods |= entry.methods - {"HEAD"}
    rows = [(f"`{path}`", ", ".join(sorted(methods)), access) for path, (methods, access) in found.items()]
    return table(
        ("route", "methods", "who"), sorted(rows, key=lambda row: (row[2] != "open", row[2], row[0]))
    )


def promises() -> str:
    """What tests/promises.json says, which a test compares with the tests that there are."""
    groups = json.loads((ROOT / "tests" / "promises.json").read_text(encoding="utf-8"))
    rows = [
        (
            *(group[name] for name in ("what", "goal", "cases", "how")),
            " ".join(f"`{t}`" for t in group["tests"]),
        )
        for group in groups
    ]
    return table(("what is tried", "goal", "cases", "how they are counted", "tests"), rows)


def api_routes() -> str:
    """Every route that clients may know of, by who may ask."""
    config = ServeConfig((ModelSpec("model", "model"),), admin_key="documented")
    paths = create_app(config).openapi()["paths"]
    rows = [
        (f"`{method.upper()} {path}`", operation["x-access"], operation["description"].split("\n")[0])
        for path, operations in paths.items()
        for method, operation in operations.items()
    ]
    return table(("route", "for", "what it does"), rows)


def api_fields() -> str:
    """Every field of chat and plain completions."""
    families = {"chat": "chat", "text": "completions"}
    rows = [
        (f"`{name}`", " ".join(families[family] for family in field.on), support(field), field.what)
        for name, field in FIELDS.items()
    ]
    return table(("field", "in", "support", "what it does"), rows)


def support(field: Field) -> str:
    if not field.has_effect:
        return "no effect"
    if field.only is None:
        return "yes"
    return "only " + ", ".join(f"`{json.dumps(value)}`" for value in field.only) if field.only else "no"


GENERATORS: dict[str, Callable[[], str]] = {
    "api-fields": api_fields,
    "api-routes": api_routes,
    "block-drawings": block_drawings,
    "block-formats": block_formats,
    "block-loads": block_loads,
    "checks": checks,
    "cli": cli,
    "errors": error_tree,
    "kernels": kernels,
    "kv-codecs": kv_codecs,
    "limits": limits,
    "metrics": metrics,
    "metrics-vllm": metrics_vllm,
    "model-families": model_families,
    "origins": origins,
    "policies": policies,
    "promises": promises,
    "routes": routes,
    "settings": settings,
    "tool-formats": tool_formats,
    "verbs": verbs,
}


def main() -> int:
    check = "--check" in sys.argv[1:]
    stale = []
    for page in pages():
        text = page.read_text(encoding="utf-8")
        wanted = filled(text)
        if text != wanted:
            stale.append(page.relative_to(ROOT))
            if not check:
                page.write_text(wanted, encoding="utf-8")
    for page in stale:
        print(f"{page}: {'stale; run make docs-generate' if check else 'written'}")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
