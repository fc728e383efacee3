"""The worst case alone: the same verdicts as attack by attack, with less work."""

import pytest
import torch
from helpers import mostly_right, snapshot
from torch import nn

from ldatlib import UserError
from ldatlib.attacks import project, random_in_ball, unit_direction
from ldatlib.evaluation.named_attacks import Attack, table1_attacks
from ldatlib.evaluation.robustness import evaluate, from_bits, predict
from ldatlib.evaluation.side_by_side import spread
from ldatlib.evaluation.worst_case import worst_case

EPS = {"linf": 0.1, "l2": 0.4}


@pytest.fixture
def images(net):
    return mostly_right(net, 40)


class Counting(nn.Module):
    """Counts the images that it sees."""

    def __init__(self, net):
        super().__init__()
        self.net, self.seen, self.batches = net, 0, []

    def forward(self, x):
        self.seen += len(x)
        self.batches.append(len(x))
        return self.net(x)


def any_iterate(net, x, y, attack):
    """PGD with every iterate of every image looked at, all images at once."""
    eps, norm = attack.eps, attack.norm
    generator = torch.Generator().manual_seed(0)
    images = (x + random_in_ball(x, eps, norm, generator)).clamp(0, 1)
    right = torch.ones(len(x), dtype=torch.bool)
    for _ in range(attack.steps + 1):
        images = images.detach().requires_grad_(True)
        logits = net(images)
        right &= logits.argmax(1) == y
        loss = torch.nn.functional.cross_entropy(logits, y, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, images)
        along = gradient.sign() if norm == "linf" else unit_direction(gradient, 0 * gradient)
        delta = images + attack.absolute_step * along - x
        images = (x + project(delta, eps, norm)).clamp(0, 1)
    return right


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("batch_size", [3, 16, 128])
def test_pgd_finds_what_any_iterate_finds(net, images, norm, batch_size):
    x, y = images
    attack = Attack("pgd", norm, EPS[norm], 12)
    result = worst_case(net, x, y, [attack], batch_size=batch_size, search=False)
    clean = predict(net, x) == y
    assert torch.equal(result.right, clean & any_iterate(net, x, y, attack))
    assert 0 < result.right.sum() < clean.sum() < len(y)
    assert result.record["ok"]


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_no_image_stands_that_an_attack_alone_fools(net, images, norm):
    x, y = images
    attacks = [a for a in table1_attacks(EPS["linf"], EPS["l2"], steps=10) if a.norm == norm]
    # Attacks whose result depends on their image alone.
    attacks = [a for a in attacks if a.method in ("pgd", "ddn", "deepfool")]
    alone = evaluate(net, x, y, [a for a in attacks if a.method != "pgd"])
    result = worst_case(net, x, y, attacks)
    assert not (result.right & ~torch.stack(list(alone.right.values())).all(0)).any()
    assert torch.equal(predict(net, result.x_adv) == y, result.right)
    left = [from_bits(turn["right"]) for turn in result.record["attacks"]]
    assert all(not (later & ~earlier).any() for earlier, later in zip(left, left[1:], strict=False))
    assert torch.equal(left[-1], result.right)


def test_an_image_that_has_fallen_costs_no_more(net, images):
    x, y = images
    attack = Attack("pgd", "linf", EPS["linf"], 12)
    counting = Counting(net)
    result = worst_case(counting, x, y, [attack], batch_size=8, search=False)
    clean, right = (int(share.sum()) for share in (predict(net, x) == y, result.right))
    # Images that stand see the start and every iterate, one that falls at least one less.
    overhead = 4 * len(x) + 2 * clean + 1
    assert counting.seen <= right * 13 + (clean - right) * 12 + overhead
    assert counting.seen < clean * 13 + overhead
    # While images wait, the batches are full.
    full = [size for size in counting.batches if size == 8]
    assert len(full) >= right * 13 // 8


def test_cheap_attacks_take_their_turn_first(net, images):
    x, y = images
    attacks = [Attack("fab", "l2", 0.4, 5), Attack("pgd", "l2", 0.4, 5), Attack("cw", "l2", 0.4, 5)]
    record = worst_case(net, x, y, attacks, search=False).record
    assert [turn["attack"] for turn in record["attacks"]] == ["l2_pgd", "l2_fab", "l2_cw"]


@pytest.mark.slow
def test_a_search_takes_the_last_turn(net, images):
    """Whatever it costs, once, and on what the others have left right."""
    x, y = images
    pgd, cheap = Attack("pgd", "l2", 0.4, 5), Attack("margin", "l2", 0.4, 4, restarts=2)
    counting = Counting(net)
    before = counting.seen
    alone = worst_case(net, x, y, [pgd], search=False)
    for attacks, restarts in (([pgd], Attack("margin", "l2", 0.4).restarts), ([cheap, pgd], 2)):
        result = worst_case(counting, x, y, attacks)
        first, last = result.record["attacks"]
        assert (first["attack"], last["attack"]) == ("l2_pgd", "l2_margin")
        assert first["right"] == alone.record["right"] and "restarts" not in first
        assert len(last["restarts"]) == restarts
        assert sum(last["restarts"]) == int((from_bits(first["right"]) & ~result.right).sum())
        assert last["converged"] is (last["restarts"][-1] == 0)
        assert torch.equal(predict(net, result.x_adv) == y, result.right)
        assert not (result.right & ~alone.right).any() and result.record["ok"]
    # The search was not shown what PGD had found.
    standing = int(alone.right.sum())
    assert counting.seen - before > standing
    shared = worst_case(net, x, y, [cheap, pgd], processes=2)
    assert torch.equal(shared.right, result.right)
    assert shared.record["attacks"][1]["restarts"] == last["restarts"]


@pytest.mark.slow
def test_processes_share_the_images(net, images):
    x, y = images
    attack = Attack("pgd", "l2", 0.4, 8)
    alone, shared = (worst_case(net, x, y, [attack], processes=n) for n in (1, 2))
    assert shared.record["processes"] == 2
    assert torch.equal(shared.right, alone.right)
    assert 0 < shared.right.sum() < len(y)
    assert torch.allclose(shared.x_adv, alone.x_adv, atol=1e-5)
    assert spread(pow, [(2, 3), (3, 2)], 2) == [8, 9]


def test_the_network_is_left_as_it_was(net, images):
    net.train()
    before = snapshot(net)
    state = torch.random.get_rng_state()
    worst_case(net, *images, [Attack("apgd", "linf", 0.1, 3), Attack("pgd", "linf", 0.1, 3)])
    assert torch.equal(torch.random.get_rng_state(), state)
    assert snapshot(net) == before


def test_a_budget_of_nothing_and_no_right_image(net, images):
    x, y = images
    still = worst_case(net, x, y, [Attack("pgd", "l2", 0.0, 3)])
    assert torch.equal(still.right, predict(net, x) == y)
    nothing = worst_case(net, x, (predict(net, x) + 2) % 5, [Attack("pgd", "l2", 0.4, 3)])
    assert not nothing.right.any() and nothing.record["ok"]


def test_refusals(net, images):
    x, y = images
    pgd = Attack("pgd", "linf", 0.1, 3)
    with pytest.raises(UserError, match="one norm and one eps, not of 2"):
        worst_case(net, x, y, [pgd, Attack("pgd", "l2", 0.1, 3)])
    with pytest.raises(UserError, match="one norm and one eps, not of 0"):
        worst_case(net, x, y, [])
    with pytest.raises(UserError, match=r"\[0,1\]"):
        worst_case(net, x + 1, y, [pgd])
    with pytest.raises(UserError, match="no images"):
        worst_case(net, x[:0], y[:0], [pgd])
    with pytest.raises(UserError, match="processes must be a whole number of at least 1"):
        worst_case(net, x, y, [pgd], processes=0)
