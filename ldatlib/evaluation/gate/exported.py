"""Programs of ``torch.export`` as modules: batches of any size, an eval mode, other processes.

A program takes the sizes that it was exported for, refuses ``eval()`` and cannot be pickled.
"""

import io
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from ldatlib.errors import UserError

_NO_LIMIT = 2**31


class Exported(nn.Module):
    """A program from images [n, C, H, W] to logits, for any number n of images.

    More images than it was exported for are cut into batches, fewer are filled up with copies of
    the last one, whose logits are dropped: an image's logits and gradient are its own. ``smallest``
    and ``largest`` are the sizes of the program's own batches. Weights and buffers are those of the
    program, so that its fingerprint is that of its weights.

    Raises
    ------
    UserError : a program of several inputs, of anything but images, or whose batch norms were
        exported in train mode, where an image's logits depend on those beside it.
    """

    def __init__(self, program: torch.export.ExportedProgram):
        super().__init__()
        self.program = program
        self.shape = _input_shape(program)
        self.smallest, self.largest = _limits(self.shape[0], program.range_constraints)
        _check_modes(program)
        self.module = program.module()
        # It has one mode, whatever it says; eval() would raise.
        for part in self.module.modules():
            part.training = False
        self.training = False

    def train(self, mode: bool = True) -> "Exported":
        """Nothing changes: a program has the mode in which it was exported."""
        del mode
        return self

    def forward(self, x: Tensor) -> Any:
        wanted = list(self.shape[1:])
        fits = x.ndim == len(self.shape) and all(
            not isinstance(size, int) or size == given
            for size, given in zip(wanted, x.shape[1:], strict=True)
        )
        if not fits:
            sizes = [size if isinstance(size, int) else "any" for size in wanted]
            raise ValueError(
                f"it was exported for images [{', '.join(map(str, sizes))}], not "
                f"{list(x.shape[1:])}"
            )
        parts = [self._batch(part) for part in x.split(self.largest)]
        return parts[0] if len(parts) == 1 else pytree.tree_map(_joined, *parts)

    def _batch(self, x: Tensor) -> Any:
        missing = self.smallest - len(x)
        if missing <= 0:
            return self.module(x)
        # Detached: the copies' gradients are nobody's.
        filled = torch.cat([x, x[-1:].detach().expand(missing, *x.shape[1:])])
        return pytree.tree_map(lambda found: _first(found, len(x)), self.module(filled))

    def __reduce__(self) -> tuple[Callable, tuple]:
        kept = io.BytesIO()
        torch.export.save(self.program, kept)
        return _again, (kept.getvalue(),)


def _again(content: bytes) -> Exported:
    return Exported(torch.export.load(io.BytesIO(content)))


def _joined(*parts: Any) -> Any:
    return torch.cat(parts) if isinstance(parts[0], Tensor) and parts[0].ndim else parts[0]


def _first(found: Any, count: int) -> Any:
    return found[:count] if isinstance(found, Tensor) and found.ndim else found


def _input_shape(program: torch.export.ExportedProgram) -> tuple:
    """The shape of the images, batch first; sizes that are free are no integers."""
    names = program.graph_signature.user_inputs
    nodes = {node.name: node for node in program.graph.nodes if node.op == "placeholder"}
    values = [nodes[name].meta.get("val") if isinstance(name, str) else None for name in names]
    if len(values) != 1:
        raise UserError(
            f"the exported program takes {len(values)} inputs, not images alone; export a module "
            "that takes images"
        )
    shape = getattr(values[0], "shape", None)
    if shape is None or len(shape) != 4:
        kind = type(values[0]).__name__ if shape is None else f"[{', '.join(map(str, shape))}]"
        raise UserError(f"the exported program takes {kind}, not images [N, channels, H, W]")
    return tuple(shape)


def _limits(size: Any, ranges: dict) -> tuple[int, int]:
    """The smallest and the largest batch that a program takes."""
    if isinstance(size, int):
        return size, size
    found = ranges.get(size.node.expr)
    if found is None:
        return 1, _NO_LIMIT
    largest = _NO_LIMIT if found.upper > _NO_LIMIT else int(found.upper)
    return max(int(found.lower), 1), largest


def _check_modes(program: torch.export.ExportedProgram) -> None:
    for node in program.graph.nodes:
        schema = getattr(node.target, "_schema", None)
        if schema is None or "batch_norm" not in schema.name:
            continue
        names = [argument.name for argument in schema.arguments]
        if dict(zip(names, node.args, strict=False)).get("training") is True:
            raise UserError(
                "the program was exported in train mode: its batch norms mix the images of a "
                "batch; export model.eval()"
            )
