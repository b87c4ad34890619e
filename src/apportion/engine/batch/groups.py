"""In which order the requests of a batch run: those that share a prefix together, decode-heavy ones first.

Source: Z. Zheng et al., "BatchLLM: Optimizing Large Batched LLM Inference with Global Prefix Sharing and
Throughput-oriented Token Batching", arXiv:2412.03594.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from apportion.kernels.kv_codec import BLOCK_TOKENS
from apportion.kernels.ops import Ints


@dataclass(frozen=True, slots=True)
class Group:
    """Requests that share one prefix.

    Attributes:
        prefix_tokens: whole blocks that all of them begin with, computed once; 0 where there is one request.
        members: places of the requests, those with more in common next to each other.
    """

    prefix_tokens: int
    members: tuple[int, ...]


@dataclass(slots=True)
class Node:
    """A prefix that several requests share, in the tree of all of them.

    Attributes:
        own: requests that share no longer prefix with another.
        saved: tokens that the best grouping below saves.
        whole: whether that is one group of all that is below.
        kept: children that stay groups of their own where it is one.
    """

    depth: int
    own: list[int] = field(default_factory=list)
    children: list[Node] = field(default_factory=list)
    count: int = 0
    saved: int = 0
    whole: bool = False
    kept: list[Node] = field(default_factory=list)


def grouped(
    prompts: Sequence[Ints], expected_outputs: Sequence[int], block_tokens: int = BLOCK_TOKENS
) -> list[Group]:
    """Every request in one group, the groups in the order in which they run.

    Each request shares one prefix: of a tree with prefixes of prefixes the cut is chosen that saves most
    tokens, among those that leave subtrees together. Groups run by mean output over mean prompt, descending,
    so that long answers of the first overlap with reading the prompts of later ones.

    Args:
        prompts: token ids [n] each.
        expected_outputs: how many tokens each answer may have.
    """
    root = tree_of(prompts, block_tokens)
    decide(root)
    groups = collect(root)

    def ratio(group: Group) -> tuple[float, int]:
        output = sum(expected_outputs[place] for place in group.members)
        return -output / sum(len(prompts[place]) for place in group.members), min(group.members)

    return sorted(groups, key=ratio)


def computed_tokens(prompts: Sequence[Ints], groups: Sequence[Group]) -> int:
    """Prompt tokens that are computed where every group's prefix is computed once."""
    return sum(
        group.prefix_tokens + sum(len(prompts[place]) - group.prefix_tokens for place in group.members)
        for group in groups
    )


def tree_of(prompts: Sequence[Ints], block_tokens: int) -> Node:
    """The radix tree of all prompts, by whole blocks; a prompt's last token is never shared, because its
    logits are needed.
    """
    texts = [np.asarray(prompt, ">i4").tobytes() for prompt in prompts]
    order = sorted(range(len(prompts)), key=texts.__getitem__)
    root = Node(0)
    path = [root]  # from the root to the deepest prefix of the last request
    for rank, place in enumerate(order):
        before = shared(prompts, order, rank - 1, block_tokens) if rank else 0
        after = shared(prompts, order, rank, block_tokens) if rank + 1 < len(order) else 0
        last = None
        while path[-1].depth > before:
            last = path.pop()
        if path[-1].depth < before:  # the last request's branch forks above its own node
            assert last is not None
            fork = Node(before, children=[last])
            path[-1].children[-1] = fork
            path.append(fork)
        if path[-1].depth < after:
            node = Node(after)
            path[-1].children.append(node)
            path.append(node)
        path[-1].own.append(place)
    return root


def shared(prompts: Sequence[Ints], order: Sequence[int], rank: int, block_tokens: int) -> int:
    """Tokens, in whole blocks, that the requests at two neighbouring ranks share."""
    a, b = prompts[order[rank]], prompts[order[rank + 1]]
    length = min(len(a), len(b)) - 1
    different = np.flatnonzero(a[:length] != b[:length])
    return (int(different[0]) if len(different) else length) // block_tokens * block_tokens


def decide(root: Node) -> None:
    """Find, from the leaves up, whether what shares a prefix is one group or several below it."""
    for node in below(root):
        for child in node.children:
            # A child's requests come along where sharing the shorter prefix with more saves more.
            if child.count * node.depth < child.saved:
                node.kept.append(child)
        moved = [child for child in node.children if not any(child is kept for kept in node.kept)]
        node.count = len(node.own) + sum(child.count for child in node.children)
        together = len(node.own) + sum(child.count for child in moved)
        joined = (together - 1) * node.depth + sum(child.saved for child in node.kept) if together else 0
        apart = sum(child.saved for child in node.children)
        node.whole = node.depth > 0 and together > 0 and joined >= apart
        node.saved = joined if node.whole else apart


def below(root: Node) -> list[Node]:
    """All nodes, children before parents."""
    nodes = [root]
    for node in nodes:
        nodes.extend(node.children)
    return nodes[::-1]


def collect(root: Node) -> list[Group]:
    """The groups that were decided on."""
    groups, open_nodes = [], [root]
    while open_nodes:
        node = open_nodes.pop()
        if not node.whole:
            groups += [Group(0, (place,)) for place in node.own]
            open_nodes += node.children
            continue
        members = list(node.own)
        for child in node.children:
            if any(child is kept for kept in node.kept):
                open_nodes.append(child)
            else:
                members += everything(child)
        groups.append(Group(node.depth if len(members) > 1 else 0, tuple(members)))
    return groups


def everything(node: Node) -> list[int]:
    """All requests below, depth first."""
    members, open_nodes = [], [node]
    while open_nodes:
        node = open_nodes.pop()
        members += node.own
        open_nodes += reversed(node.children)
    return members
