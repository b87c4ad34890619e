"""A routes file from routes that others recorded as NumPy arrays.

    python benchmarks/routes_from_arrays.py decode.npz qwen3.routes --model "Qwen3 30B A3B" --num-experts 128

Takes the arrays whose names end in `experts`, [tokens, layers, top_k] or [tokens, top_k] of one layer, one
after the other. A choice that was not recorded (-1) becomes one that the token before made in that layer.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from apportion.core.errors import BadFile
from apportion.formats.routes import RoutesShape, RoutesWriter
from apportion.simulate.replay import Ids


def read_arrays(path: Path) -> Ids:
    """Expert ids [tokens, layers, top_k]; -1 where the choice is not known.

    Raises:
        BadFile: the file holds no such arrays.
    """
    with np.load(path) as stored:
        arrays = [stored[name] for name in stored.files if name.endswith("experts")]
    pieces = [array[:, None, :] if array.ndim == 2 else array for array in arrays]
    if not pieces or {piece.shape[1:] for piece in pieces} != {pieces[0].shape[1:]}:
        raise BadFile(f"{path.name} holds no arrays of routes", hint="name them experts, of one shape")
    return np.concatenate(pieces)


def repaired(experts: Ids, num_experts: int) -> Ids:
    """The same routes, with a choice wherever there was none."""
    experts = experts.copy()
    for token, layer in sorted({(token, layer) for token, layer, _ in np.argwhere(experts < 0).tolist()}):
        known = [expert for expert in experts[token, layer].tolist() if expert >= 0]
        before = experts[token - 1, layer].tolist() if token else []
        others = [expert for expert in [*before, *range(num_experts)] if expert not in known]
        experts[token, layer] = [*known, *others][: experts.shape[2]]
    return experts


def convert(source: Path, out: Path, model: str, num_experts: int, first_layer: int = 0) -> int:
    """Write the routes file; returns how many choices were not known."""
    experts = read_arrays(source)
    _, num_layers, top_k = experts.shape
    layers = tuple(range(first_layer, first_layer + num_layers))
    with RoutesWriter(out, RoutesShape(model, layers, num_experts, top_k)) as writer:
        writer.append(repaired(experts, num_experts))
    return int((experts < 0).sum())


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("source", type=Path, help="an .npz file")
    parser.add_argument("out", type=Path, help="the routes file to write")
    parser.add_argument("--model", required=True, help="whose routes they are")
    parser.add_argument("--num-experts", type=int, required=True, help="experts of each layer")
    parser.add_argument("--first-layer", type=int, default=0, help="the number of the first layer")
    given = parser.parse_args()
    unknown = convert(given.source, given.out, given.model, given.num_experts, given.first_layer)
    print(f"wrote {given.out}; {unknown} choices were not recorded")


if __name__ == "__main__":
    main()
