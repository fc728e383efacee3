"""Exported programs: logits and gradients of any number of images are those of the network."""

import pytest
import torch
from torch import nn

from ldatlib import UserError
from ldatlib.evaluation.gate.entry import check
from ldatlib.evaluation.gate.exported import Exported
from ldatlib.evaluation.partial import weights_of

BATCH = torch.export.Dim("batch")
FEW = torch.export.Dim("few", min=2, max=5)


def exported(net: nn.Module, size: int = 4, batch=None, images=(1, 5, 5)):
    shapes = None if batch is None else ({0: batch},)
    return torch.export.export(net, (torch.rand(size, *images),), dynamic_shapes=shapes)


@pytest.mark.parametrize("batch", [None, BATCH, FEW])
@pytest.mark.parametrize("count", [1, 4, 11])
def test_any_number_of_images(net, batch, count):
    """The truth is the network itself, which was exported."""
    model, x = Exported(exported(net, batch=batch)), torch.rand(count, 1, 5, 5)
    found, wanted = [], []
    for of, kept in ((model, found), (net, wanted)):
        images = x.clone().requires_grad_(True)
        logits = of(images)
        # Another weight for every image, so that none can stand in for its neighbour.
        weighted = (logits.cos().sum(1) * torch.arange(1, count + 1)).sum()
        kept += [logits.detach(), torch.autograd.grad(weighted, images)[0]]
    for one, other in zip(found, wanted, strict=True):
        assert torch.allclose(one, other, atol=1e-5) and one.shape == other.shape


def test_the_gate_takes_a_program_and_says_its_batches(net):
    program = exported(net)
    x = torch.rand(9, 1, 5, 5)
    y = net(x).argmax(1)
    checked = check(program, x, y)
    assert [flag.name for flag in checked.flags] == ["batches"]
    assert "batches of 4" in checked.flags[0].text
    assert weights_of(checked.model) == weights_of(Exported(program)) is not None
    assert check(exported(net, batch=BATCH), x, y).flags == ()


def test_a_wrong_shape_is_named(net):
    with pytest.raises(UserError, match=r"exported for images \[1, 5, 5\], not \[1, 8, 8\]"):
        check(exported(net), torch.rand(9, 1, 8, 8), torch.arange(9) % 5)


def test_a_tuple_keeps_its_remedy(net):
    class Pair(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net

        def forward(self, x):
            return self.net(x), x

    with pytest.raises(UserError, match=r"tuple of 2.*model\(x\)\[0\]"):
        check(exported(Pair()), torch.rand(9, 1, 5, 5), torch.arange(9) % 5)


def test_modes_cannot_be_changed_any_more(net):
    norms = nn.Sequential(nn.BatchNorm2d(1), net)
    assert Exported(exported(norms.eval())).train().training is False
    program = exported(norms.train())
    for one in (program, program.run_decompositions()):
        with pytest.raises(UserError, match="train mode.*export model.eval"):
            Exported(one)
    dropout = nn.Sequential(nn.Dropout(0.5), net).train()
    with pytest.raises(UserError, match="randomised"):
        check(exported(dropout), torch.rand(9, 1, 5, 5), torch.arange(9) % 5)


def test_only_programs_of_images(net):
    class Two(nn.Module):
        def forward(self, x, y):
            return x + y

    two = torch.export.export(Two(), (torch.rand(2, 3), torch.rand(2, 3)))
    with pytest.raises(UserError, match="takes 2 inputs"):
        Exported(two)
    flat = torch.export.export(nn.Linear(25, 5), (torch.rand(2, 25),))
    with pytest.raises(UserError, match=r"takes \[2, 25\], not images"):
        Exported(flat)
