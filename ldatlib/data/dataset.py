"""Images as uint8 tensors, with a validation split that is never trained on."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ldatlib.data.arrays import Array, labelled_arrays
from ldatlib.data.names import check_line
from ldatlib.data.pixels import Pixels, mean_and_std, on_device, select
from ldatlib.data.splits import SPLITS, Labelled, Sizes, divide, fingerprint, shuffled
from ldatlib.errors import MissingDataError, UserError


@dataclass(frozen=True)
class Dataset:
    """Three splits of images [N, channels, H, W] uint8 and labels [N] int64 on one device.

    Images are tensors, or stay in the file that they are mapped from (``pixels.Mapped``): of both
    ``images[split][rows]`` is a tensor.

    ``flip`` says whether a mirrored image keeps its class (digits do not). ``at_hand`` is false for
    a description without pixels (``describe``): sizes and names are right, its images are black,
    and whoever wants to look at them gets a ``MissingDataError``.
    """

    name: str
    title: str
    class_names: tuple[str, ...]
    images: dict[str, Pixels]
    labels: dict[str, Tensor]
    fingerprint: str
    flip: bool = True
    at_hand: bool = True

    @classmethod
    def from_arrays(
        cls,
        x_train: Array,
        y_train: Array,
        x_test: Array,
        y_test: Array,
        *,
        class_names: Sequence[str] | None = None,
        title: str = "arrays",
        val_size: int = 300,
        train_size: int | None = None,
        test_size: int | None = None,
        flip: bool = False,
    ) -> "Dataset":
        """A data set of one's own arrays, NumPy's or torch's. They are copied, but for images
        uint8 in a ``numpy.memmap``, which stay in their file.

        Parameters
        ----------
        x_train, x_test : images [N, H, W] (grey), [N, H, W, channels] or [N, channels, H, W], with
            1 or 3 channels, told by the shape; uint8, or floats in [0,1], which are rounded to 256
            levels.
        y_train, y_test : labels [N], whole numbers from 0; every class is in the training images.
        class_names : of the classes 0, 1, ...; their numbers unless said.
        title : what the records and figures call the data.
        val_size, train_size, test_size : as of ``load_dataset``.
        flip : whether a mirrored image keeps its class. Off unless asked for: arrays may be
            digits, and a training that mirrors those learns wrong labels; pictures of things gain
            from it.

        Raises
        ------
        UserError : an ambiguous or unusable shape or dtype, pixels or labels out of range, a class
            without training images, or a size out of range.
        """
        train, test, names = labelled_arrays(x_train, y_train, x_test, y_test, class_names)
        # They may be in an order, such as one writer after another; validation takes the first.
        order = shuffled(len(train[1]))
        train = select(train[0], order), train[1][order]
        sizes = Sizes(val_size, train_size, test_size)
        return cls.divided("arrays", title, names, train, test, sizes, flip=flip)

    @classmethod
    def divided(
        cls,
        name: str,
        title: str,
        class_names: tuple[str, ...],
        train: Labelled,
        test: Labelled,
        sizes: Sizes,
        *,
        flip: bool,
    ) -> "Dataset":
        """From all the training and test images of a source: validation set apart, shuffled.

        Raises ``UserError`` for a title or a name that is no line of text, and as ``divide``.
        """
        for what, text in (("title", title), *(("name of a class", name) for name in class_names)):
            check_line(what, text)
        images, labels = divide(train, test, sizes, class_names)
        digest = fingerprint(class_names, images, labels)
        return cls(name, title, class_names, images, labels, digest, flip)

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def channels(self) -> int:
        return self.images["train"].shape[1]

    def split(self, name: str, limit: int | None = None) -> tuple[Tensor, Tensor]:
        """Images float32 in [0,1] and labels of a split; the first ``limit`` of them.

        Splits are stored shuffled (test images of a folder included), so the first n images are
        a random sample, the same one for everybody.
        """
        if name not in self.images:
            raise UserError(f"unknown split {name!r}; known: {', '.join(SPLITS)}")
        self._need_pixels()
        return to_float(self.images[name][:limit]), self.labels[name][:limit]

    def statistics(self) -> tuple[list[float], list[float]]:
        """Mean and standard deviation of the training pixels per channel, in [0,1]."""
        self._need_pixels()
        mean, std = mean_and_std(self.images["train"])
        return mean, [max(value, 1e-3) for value in std]

    def _need_pixels(self) -> None:
        if not self.at_hand:
            raise MissingDataError(
                f"the images of {self.title} are not at hand, only results measured on them; to "
                "compute something new choose a profile with images, such as cifar10-small"
            )

    def subset(self, classes: Sequence[int], train_size: int | None = None) -> "Dataset":
        """Only these classes, relabelled 0, 1, ... in the order given; optionally fewer images."""
        if len(set(classes)) < max(2, len(classes)):
            raise UserError(f"a subset needs at least 2 different classes, not {list(classes)}")
        for label in classes:
            if not 0 <= label < self.num_classes:
                raise UserError(
                    f"no class {label} in {self.title}: its classes are 0 to "
                    f"{self.num_classes - 1}, {self.class_names[0]!r} to {self.class_names[-1]!r}"
                )
        images, labels = {}, {}
        for name in SPLITS:
            old = self.labels[name]
            keep = torch.isin(old, torch.tensor(classes, device=old.device))
            relabel = torch.full((self.num_classes,), -1, dtype=torch.long, device=old.device)
            relabel[list(classes)] = torch.arange(len(classes), device=old.device)
            limit = train_size if name == "train" else None
            rows = torch.nonzero(keep).squeeze(1)[:limit]
            images[name], labels[name] = select(self.images[name], rows), relabel[old[rows]]
        class_names = tuple(self.class_names[label] for label in classes)
        return replace(
            self,
            class_names=class_names,
            images=images,
            labels=labels,
            fingerprint=fingerprint(class_names, images, labels),
        )

    def with_flip(self, flip: bool | None) -> "Dataset":
        """The same images, which training may mirror or not; ``None`` leaves it as it is."""
        return self if flip is None else replace(self, flip=flip)

    def to(self, device: torch.device | str) -> "Dataset":
        """For use on ``device``. Images that fill more than half of a GPU's free memory, and what
        is mapped and used on a CPU, stay where they are; their batches come one by one."""
        return replace(
            self,
            images=on_device(self.images, torch.device(device)),
            labels={k: v.to(device) for k, v in self.labels.items()},
        )


def to_float(images: Tensor) -> Tensor:
    """uint8 -> float32 in [0,1]."""
    return images.float().div(255)


def augment(
    images: Tensor, *, padding: int, flip: bool, generator: torch.Generator | None = None
) -> Tensor:
    """Random crops of the zero-padded images and random mirror images, [N, C, H, W] as given.

    One gather for the whole batch; works on uint8, so it costs a quarter of the float's memory.
    """
    n, _, height, width = images.shape
    device = images.device

    def draw(high: int) -> Tensor:
        return torch.randint(high, (n,), device=device, generator=generator)

    rows = torch.arange(height, device=device) + draw(2 * padding + 1).unsqueeze(1)
    columns = torch.arange(width, device=device) + draw(2 * padding + 1).unsqueeze(1)
    if flip:
        columns = torch.where(draw(2).bool().unsqueeze(1), columns.flip(1), columns)
    padded = F.pad(images, (padding,) * 4)
    index = torch.arange(n, device=device).view(-1, 1, 1)
    return padded.movedim(1, 3)[index, rows.unsqueeze(2), columns.unsqueeze(1)].movedim(3, 1)
