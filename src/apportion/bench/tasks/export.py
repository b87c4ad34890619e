"""Tasks as `lm-eval` reads them: the same contexts and choices, a YAML file and a file of JSON lines each."""

from __future__ import annotations

import json
from pathlib import Path

from apportion.bench.tasks.items import Item, Task

PREFIX = "apportion_"

HEAD = """\
task: {name}
dataset_path: json
dataset_kwargs:
  data_files:
    test: {data}
test_split: test
target_delimiter: " "
"""
CHOICES = """\
output_type: multiple_choice
doc_to_text: context
doc_to_choice: choices
doc_to_target: gold
metric_list:
  - metric: acc
  - metric: acc_norm
"""
CONTEXTS = """\
output_type: multiple_choice
doc_to_text: gold
doc_to_choice: contexts
doc_to_target: continuation
metric_list:
  - metric: acc
"""
CONTINUATION = """\
output_type: loglikelihood
doc_to_text: context
doc_to_target: continuation
metric_list:
  - metric: perplexity
  - metric: acc
"""


def export_task(task: Task, folder: Path) -> str:
    """Write a task into a folder, over what is there; its name for `lm-eval`."""
    name = f"{PREFIX}{task.name}"
    data = folder.resolve() / f"{name}.jsonl"
    with data.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(record(item), ensure_ascii=False) + "\n" for item in task.items)
    body = CHOICES if task.has_choices else CONTINUATION
    if len(task.items[0].contexts) > 1:
        body = CONTEXTS
    head = HEAD.format(name=name, data=json.dumps(str(data)))  # a JSON string is one of YAML's
    (folder / f"{name}.yaml").write_text(head + body, encoding="utf-8")
    return name


def record(item: Item) -> dict[str, object]:
    """One item's line."""
    if item.gold is None:
        # Between these `lm-eval` puts nothing.
        return {"context": item.contexts[0], "continuation": f" {item.choices[0]}"}
    if len(item.contexts) > 1:
        return {"contexts": item.contexts, "continuation": item.choices[0], "gold": item.gold}
    return {"context": item.contexts[0], "choices": item.choices, "gold": item.gold}
