"""What the gate has to say of a model and its images, and what it hands to an evaluator."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal

from torch import Tensor, nn


class EvaluationWarning(UserWarning):
    """A number may mean less than it seems; the text says why and what to do."""


@dataclass(frozen=True)
class Finding:
    """``note``: seen to, nothing is lost; ``warning``: the numbers need to be read with it."""

    name: str
    severity: Literal["note", "warning"]
    text: str


@dataclass(frozen=True)
class Checked:
    """What an evaluator works on.

    ``model`` maps float32 images to float32 logits [N, ``num_classes``]: the caller's own, or that
    behind what it needs. ``x`` is float32, contiguous and in [0,1]; ``y`` int64; both lie on the
    model's device and are the caller's own tensors where nothing had to be changed. Without labels
    ``y`` is None.
    """

    model: nn.Module
    x: Tensor
    y: Tensor | None
    num_classes: int
    flags: tuple[Finding, ...] = ()

    def record(self) -> list[dict[str, str]]:
        """The findings as records hold them."""
        return [asdict(flag) for flag in self.flags]


class Findings(list[Finding]):
    """The findings so far; ``class_names``, where they are known, for their texts.

    ``known_labels``: they are those that the model was trained on, so what speaks against them is
    no reason to refuse it.
    """

    def __init__(self, class_names: Sequence[str] = (), known_labels: bool = False):
        super().__init__()
        self.class_names, self.known_labels = tuple(class_names), known_labels

    def class_of(self, label: int) -> str:
        """A class in words: its number, and its name where it has another one."""
        name = self.class_names[label] if label < len(self.class_names) else str(label)
        return f"class {label}" if name == str(label) else f"class {label} ({name})"

    def note(self, name: str, text: str) -> None:
        self.append(Finding(name, "note", text))

    def warn(self, name: str, text: str) -> None:
        self.append(Finding(name, "warning", text))
