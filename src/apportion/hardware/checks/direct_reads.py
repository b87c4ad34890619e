"""Whether the model's file is read past the page cache."""

from __future__ import annotations

from collections.abc import Iterator

from apportion.hardware.facts import Facts
from apportion.hardware.finding import Finding, Level

ADVICE = {
    "overlay": "keep the model outside of the container's image, in a volume or a bound folder",
    "tmpfs": "keep the model on a disk: what lies in tmpfs takes memory already",
    "ramfs": "keep the model on a disk: what lies in ramfs takes memory already",
}


def check(facts: Facts) -> Iterator[Finding]:
    model = facts.model
    if model is None:
        return
    kind = model.file_system.kind or "its file system"
    if not model.direct_refusal:
        yield Finding(Level.OK, "direct reads", f"{kind} reads past the page cache")
        return
    what = f"{kind} refuses direct reads ({model.direct_refusal})"
    why = "reads go through the page cache, which is dropped at once: a copy more for every byte"
    advice = ADVICE.get(kind, "keep the model on a disk of its own file system, such as ext4 or xfs")
    yield Finding(Level.WARNING, "direct reads", what, why, advice)
