"""Torch's global generators during a training: its own, whatever the caller does with them.

The library's networks and attacks draw from generators that they are handed. A network of the
user's own draws where torch draws by itself: dropout, stochastic depth, noise.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from ldatlib.errors import UserError


class GlobalRandom:
    """Another state of torch's global generators, the CPU's and the device's, from a seed on.

    ``states`` (``"cpu"``, and ``"cuda"`` on a GPU) is where it stands, as uint8 tensors on the CPU.
    """

    def __init__(self, device: torch.device, seed: int):
        self._generators = _generators(device)
        outside = self._read()
        for generator in self._generators.values():
            generator.manual_seed(seed)
        self.states = self._read()
        self._write(outside)

    @contextmanager
    def inside(self) -> Iterator[None]:
        """Go on from ``states`` inside; the caller's own state is as it was outside."""
        outside = self._read()
        self._write(self.states)
        try:
            yield
        finally:
            self.states = self._read()
            self._write(outside)

    def load(self, states: dict[str, Tensor]) -> None:
        """Go on from ``states`` of another process; those that are not in them stay.

        Raises ``UserError`` for what is no state of such a generator.
        """
        for name, state in states.items():
            if name in self._generators:
                check_state(state, self._generators[name].device)
                self.states[name] = state

    def _read(self) -> dict[str, Tensor]:
        return {name: generator.get_state() for name, generator in self._generators.items()}

    def _write(self, states: dict[str, Tensor]) -> None:
        for name, generator in self._generators.items():
            generator.set_state(states[name])


def check_state(state: Tensor, device: torch.device) -> None:
    """Raises ``UserError`` for what is no state of a generator of this device."""
    try:
        torch.Generator(device).set_state(state)
    except (RuntimeError, TypeError) as error:
        raise UserError("its random state is of another kind of device") from error


def _generators(device: torch.device) -> dict[str, torch.Generator]:
    found = {"cpu": torch.default_generator}
    if device.type == "cuda":
        torch.cuda.init()
        index = torch.cuda.current_device() if device.index is None else device.index
        found["cuda"] = torch.cuda.default_generators[index]
    return found
