"""One examination of anything: the lowest number known, whether to believe it, and going on."""

import json
from dataclasses import replace

import msgspec
import pytest
import torch
from helpers import Plane, SmoothNet, images_around, mostly_right, smooth_net, snapshot
from masked import Quantised
from torch import nn

from ldatlib import UserError
from ldatlib.errors import OutOfTime
from ldatlib.evaluation import cost
from ldatlib.evaluation.autoattack import STANDARD
from ldatlib.evaluation.examination import effort as efforts
from ldatlib.evaluation.examination.effort import EFFORTS, Planned, plan
from ldatlib.evaluation.examination.examine import examine, survey
from ldatlib.evaluation.examination.progress import teller
from ldatlib.evaluation.examination.verdict import doubts
from ldatlib.evaluation.robustness import from_bits
from ldatlib.evaluation.worst_case import worst_case

EPS = {"linf": 0.05, "l2": 0.2}

pytestmark = pytest.mark.usefixtures("least")


@pytest.fixture
def images(net):
    return mostly_right(net, 24)


def without_seconds(value):
    """The record but for what no two runs share."""
    if isinstance(value, dict):
        return {k: without_seconds(v) for k, v in value.items() if k != "seconds"}
    return [without_seconds(v) for v in value] if isinstance(value, list) else value


def as_read(found):
    return without_seconds(json.loads(json.dumps(found.record, allow_nan=False)))


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_on_a_plane_the_number_is_that_of_the_distances(norm):
    """The boundary is known in closed form: an image is left where the plane is out of reach."""
    torch.manual_seed(1)
    plane = Plane(torch.randn(36))
    x = images_around(plane, 30, 6)
    y, eps = plane.predict(x), {"linf": 0.03, "l2": 0.12}[norm]
    found = examine(plane, x, y, eps={norm: eps}, effort="least").record
    assert (
        from_bits(found["norms"][norm]["right"]).tolist()
        == (plane.distance(x, norm) > eps).tolist()
    )
    assert found["norms"][norm]["converged"] and found["ok"]


def test_what_is_left_is_right_under_every_turn_and_nothing_fallen_is_attacked(net, images):
    found = examine(net, *images, eps=EPS, effort="least")
    assert list(found.record["norms"]) == ["linf", "l2"]
    clean = from_bits(found.record["clean_right"])
    for norm, of in found.record["norms"].items():
        right, before = from_bits(of["right"]), clean
        for turn in of["turns"]:
            after = from_bits(turn["right"])
            assert not (after & ~before).any()
            assert turn["taken"] == int((before & ~after).sum()) and turn["left"] == after.sum()
            assert turn["met"] <= int(before.sum())
            before = after
        assert torch.equal(before, right)
        assert of["robust_accuracy"]["count"] == len(clean)
        strongest = [turn["attack"] for turn in of["turns"] if turn["taken"]][-1]
        assert of["strongest"] == strongest
        fallen = net(found.x_adv[norm]).argmax(1) != images[1]
        assert torch.equal(~fallen & clean, right)
    assert found.record["ok"]


def test_a_search_that_something_still_beats_has_not_converged(net, images):
    from ldatlib.evaluation.examination import verdict

    nothing = {"taken": 0, "restarts": None, "converged": None, "attack": "linf_x"}
    done = {**nothing, "family": "search", "restarts": [2, 0], "converged": True}
    late = {**nothing, "family": "autoattack", "taken": 1}
    right = torch.tensor([True, False])
    assert verdict.of_norm(right, [done, late | {"taken": 0}], None)["converged"]
    assert verdict.of_norm(right, [done, late], None)["not_converged"] == [
        "AutoAttack took 1 after the search"
    ]
    going = done | {"restarts": [2, 1], "converged": False}
    assert not verdict.of_norm(right, [going], None)["converged"]


def test_quantised_pixels_sound_alarms():
    """The gradient is 0 almost everywhere, so whatever stays right was never attacked."""
    torch.manual_seed(1)
    plane = Plane(torch.randn(36))
    x = images_around(plane, 30, 6)
    found = examine(Quantised(plane), x, plane.predict(x), eps={"l2": 0.3}, effort="least").record
    assert any(said["name"] == "gradient" for said in found["gate"])
    assert "gradients" in found["norms"]["l2"]["alarms"]
    assert "gate: gradient" in found["doubts"] and "l2: masking gradients" in found["doubts"]


def test_interrupted_after_every_attack_it_ends_with_the_same_record(net, images, tmp_path):
    whole = examine(net, *images, eps=EPS, effort="least", score="posterior")
    stops = 0
    while True:
        try:
            # The time is up as soon as an attack is done.
            again = examine(
                *(net, *images),
                eps=EPS,
                effort="least",
                score="posterior",
                state=tmp_path,
                deadline=0.0 if stops < 50 else None,
            )
            break
        except OutOfTime:
            stops += 1
    # Two of Table 1's, the search, one of AutoAttack's, the tests, the detector; in two norms.
    assert stops == 12
    assert as_read(again) == as_read(whole)
    for norm in EPS:
        assert torch.equal(again.x_adv[norm], whole.x_adv[norm])


def test_a_randomised_model_goes_on_with_the_same_numbers(net, images, tmp_path):
    noisy = nn.Sequential(nn.Dropout(0.1), net).eval()
    noisy[0].train()
    with pytest.raises(UserError, match="randomised"):
        examine(noisy, *images, eps={"linf": 0.05}, effort="least")

    def run(**more):
        return examine(noisy, *images, eps={"linf": 0.05}, effort="least", eot=4, **more)

    with pytest.warns(UserWarning, match="randomised"):
        whole = run()
        for _ in range(9):
            try:
                again = run(state=tmp_path, deadline=0.0)
                break
            except OutOfTime:
                pass
    assert as_read(again) == as_read(whole)
    assert "gate: randomised" in whole.record["doubts"]


def test_other_weights_or_images_do_not_find_what_was_kept(net, images, tmp_path):
    first = examine(net, *images, eps={"linf": 0.05}, effort="least", state=tmp_path).record
    with torch.no_grad():
        net.first.weight.mul_(1.01)
    other = examine(net, *images, eps={"linf": 0.05}, effort="least", state=tmp_path).record
    assert first["key"] != other["key"] and first["weights"] != other["weights"]
    assert first["fingerprint"] == other["fingerprint"]


def test_nothing_of_the_callers_is_changed(net, images):
    net.train()
    x, y = images
    before, state, copies = snapshot(net), torch.get_rng_state(), (x.clone(), y.clone())
    examine(net, x, y, eps={"linf": 0.05}, effort="least")
    assert snapshot(net) == before and torch.equal(torch.get_rng_state(), state)
    assert torch.equal(x, copies[0]) and torch.equal(y, copies[1])


def test_the_detector_is_frozen_on_one_half_and_attacked_on_the_other(net, images):
    found = examine(net, *images, eps={"linf": 0.05}, effort="least", score="posterior", accept=0.9)
    of = found.record["norms"]["linf"]["detector"]
    assert (of["frozen_on"], of["images"], of["images_given"]) == (12, 12, False)
    # Whoever rejects nothing has the robust accuracy of the classifier, on the same images.
    all_accepted = [point for point in of["curve"] if point["acceptance"] == 1][0]
    right = from_bits(found.record["norms"]["linf"]["right"])[1::2]
    assert all_accepted["robust"]["0"]["value"] <= right.double().mean()
    assert of["robust"]["0"]["count"] == 12
    # Image by image it is the same: accepted and right when clean, and nothing wrong is accepted.
    accepted, fooled, missed = map(from_bits, of["by_image"].values())
    clean = from_bits(found.record["clean_right"])[1::2]
    assert (fooled | ~missed).all() and (fooled | clean).all()
    robust = (clean & accepted & ~missed).double().mean().item()
    assert of["robust"]["0"]["value"] == pytest.approx(robust)
    assert of["missed"]["value"] == pytest.approx(missed.double().mean().item())

    x_val, y_val = mostly_right(net, 10)
    given = examine(
        net,
        *images,
        eps={"linf": 0.05},
        effort="least",
        score="posterior",
        x_val=x_val,
        y_val=y_val,
    ).record["norms"]["linf"]["detector"]
    assert (given["frozen_on"], given["images"], given["images_given"]) == (10, 24, True)
    assert given["left_out"] == 0 and len(given["by_image"]["missed"]) == 24


def test_no_threshold_is_frozen_on_what_is_attacked(net, images):
    x, y = images
    how = {"eps": {"linf": 0.05}, "effort": "least", "score": "posterior"}
    x_val, y_val = mostly_right(net, 10)
    both = {"x_val": torch.cat([x[:3], x_val]), "y_val": torch.cat([y[:3], y_val])}
    of = examine(net, x, y, **how, **both).record["norms"]["linf"]["detector"]
    assert (of["frozen_on"], of["left_out"]) == (10, 3)
    with pytest.raises(UserError, match="all 6 images that would freeze .* every second image"):
        examine(net, x, y, **how, x_val=x[:6], y_val=y[:6])


def test_images_of_siblings_are_tried_on_the_model(net, images):
    """A step that hides the gradient hides nothing from images that were made elsewhere."""
    x, y = images
    hidden, eps = Quantised(net), {"linf": 0.15}
    found = examine(hidden, x, y, eps=eps, effort="least", siblings={"open": net}).record
    of = found["norms"]["linf"]
    assert not any("transfer" in line for line in found["not_tried"])
    assert of["tests"] == 13 and "transfer" in of["alarms"]
    assert "linf: masking transfer" in found["doubts"]
    (turn,) = [t for t in of["turns"] if t["attack"] == "linf_transfer_open"]
    assert turn["taken"] > 0
    # Other siblings are another examination: nothing that was kept is taken for it.
    alone = examine(hidden, x, y, eps=eps, effort="least").record
    assert alone["key"] != found["key"] and alone["norms"]["linf"]["tests"] == 12
    assert alone["norms"]["linf"]["robust_accuracy"]["value"] > of["robust_accuracy"]["value"]


def test_siblings_in_a_list_and_poor_ones(net, images):
    x, y = images
    constant = nn.Sequential(nn.Flatten(), nn.Linear(25, 5))
    nn.init.zeros_(constant[1].weight)
    planned = []
    found = examine(
        *(net, x, y),
        eps={"linf": 0.05},
        effort="least",
        siblings=[constant],
        on_plan=lambda said, parts: planned.extend(said),
    ).record
    assert list(found["settings"]["siblings"]) == ["sibling 1"]
    poor = [said for said in found["gate"] if said["name"] == "sibling"]
    assert poor and "sibling 1 is a poor source" in poor[0]["text"] and poor[0] in planned
    assert found["norms"]["linf"]["tests"] == 13


def test_a_budget_that_pictures_cannot_show_is_named(net, images):
    found = examine(net, *images, eps={"linf": 8 / 255 / 255}, effort="least").record
    assert any("equal the originals" in said["text"] for said in found["gate"])
    assert "gate: budget" in found["doubts"]


def test_a_score_without_a_gradient_is_a_doubt(net, images):
    """What is counted has none: whoever knows the code writes a stand-in."""

    def counted(model, x):
        return (model(x).softmax(1) > 0.5).float().sum(1)

    def doubts(score):
        found = examine(net, *images, eps={"linf": 0.05}, effort="least", score=score)
        return found.record["doubts"]

    assert "linf: detector without gradient" in doubts(counted)
    assert "linf: detector without gradient" not in doubts("posterior")


def counted(model, x):
    """Share of eight noisy views that are read as the image is."""
    seen = [model(x + 0.1 * torch.randn_like(x)).argmax(1) == model(x).argmax(1) for _ in range(8)]
    return torch.stack(seen).float().mean(0)


def test_a_randomised_score_is_refused_or_averaged_and_named(net, images, tmp_path):
    with pytest.raises(UserError, match=r"score is randomised.*eot=20"):
        examine(net, *images, eps={"linf": 0.05}, effort="least", score=counted)

    def run(**more):
        torch.rand(3)  # what was drawn before does not matter
        how = {"effort": "least", "score": counted, "accept": 0.9, "eot": 4} | more
        return examine(net, *images, eps={"linf": 0.05}, **how)

    whole = run()
    with pytest.raises(OutOfTime):
        run(state=tmp_path, deadline=0.0)
    assert as_read(run(state=tmp_path)) == as_read(whole)
    names = [entry["name"] for entry in whole.record["gate"]]
    assert "score randomised" in names and "randomised" not in names
    assert "gate: score randomised" in whole.record["doubts"]
    assert whole.record["norms"]["linf"]["detector"]["score"] == "counted"


def test_the_announced_cost_counts_looks_where_they_are_taken(net, images):
    def planned(score, **more):
        how = {"eps": {"linf": 0.05}, "effort": "least", "score": score} | more
        return {part.part: part.passes for part in survey(net, *images, **how)[1]}

    def noisy(model, x):
        return (x + 0.1 * torch.randn_like(x)).mean((1, 2, 3))

    once, averaged = planned(lambda m, x: x.mean((1, 2, 3))), planned(noisy, eot=4)
    assert averaged.pop("detector") == 4 * once.pop("detector") and averaged == once


@pytest.mark.parametrize("eot", [None, 4])
def test_the_announced_cost_of_a_detector_without_a_gradient_is_that_of_squares(net, images, eot):
    """Its images are counted where the attack calls the score, which does not see a gradient."""
    seen = 0

    def rounded(model, x):
        nonlocal seen
        seen += len(x)
        noise = 0.001 * torch.randn(len(x), device=x.device) if eot else 0
        return (10 * x.detach().mean((1, 2, 3)) + noise).round()

    how = {"eps": {"linf": 0.02}, "score": rounded, "effort": "quick", "eot": eot}
    (detector,) = [p for p in survey(net, *images, **how)[1] if p.part == "detector"]
    seen = 0
    examine(net, *images, **how)
    assert 0.5 * detector.total < seen < 1.1 * detector.total


def test_a_fixed_score_of_a_randomised_model_is_not_blamed(net, images):
    noisy = nn.Sequential(nn.Dropout(0.1), net).eval()
    noisy[0].train()
    with pytest.warns(UserWarning, match="randomised"):
        found = examine(
            *(noisy, *images),
            eps={"linf": 0.05},
            effort="least",
            eot=4,
            score=lambda model, x: model(x).amax(1),
        )
    assert "gate: score randomised" not in found.record["doubts"]


def test_the_images_of_all_attacks_are_shown_to_the_detector(net, images, monkeypatch):
    from ldatlib.evaluation import rejection

    shown, reject = [], rejection.reject

    def listening(*args, **kwargs):
        shown.append(kwargs["given"])
        return reject(*args, **kwargs)

    monkeypatch.setattr(rejection, "reject", listening)
    found = examine(
        *(net, *images), eps={"linf": 0.05}, effort="least", score=lambda m, x: -x.mean((1, 2, 3))
    )
    assert torch.equal(shown[0][0], found.x_adv["linf"][1::2])


def test_small_images_and_few_classes_are_named_not_refused(monkeypatch):
    """Under L2 Square has no room on three rows; the targeted DLR loss needs four classes."""
    monkeypatch.setitem(
        efforts.EFFORTS, "least", replace(efforts.EFFORTS["least"], autoattack=STANDARD)
    )
    torch.manual_seed(0)
    plane = Plane(torch.randn(9))
    x = images_around(plane, 16, 3)
    found = examine(plane, x, plane.predict(x), eps={"l2": 0.1}, effort="least").record
    of = found["norms"]["l2"]
    assert of["masking"] is None and "too few rows" in of["no_masking"]
    assert any("Square" in line and "rows" in line for line in found["not_tried"])
    assert any("APGD-T" in line and "4 classes" in line for line in found["not_tried"])


def test_a_model_without_a_right_image_is_examined_all_the_same(net, images):
    x, y = images
    # Not by one: that is a shift, which the gate names.
    wrong = (net(x).argmax(1) + 1 + torch.arange(len(x)) % 4) % 5
    found = examine(net, x, wrong, eps={"linf": 0.05}, effort="least").record
    assert found["norms"]["linf"]["robust_accuracy"]["value"] == 0
    assert found["norms"]["linf"]["strongest"] is None and found["ok"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"eps": {}}, "eps is a budget by norm"),
        ({"eps": {"l1": 1.0}}, "eps is a budget by norm"),
        ({"eps": 8 / 255}, "eps is a budget by norm"),
        ({"eps": {"linf": 0}}, "above 0"),
        ({"eps": {"linf": 8}}, "write 8 / 255"),
        ({"eps": {"l2": 128}}, "write 128 / 255"),
        ({"siblings": smooth_net()}, "by name, or a list"),
        ({"siblings": {"mine": smooth_net()}}, "the sibling mine is the model itself"),
        (
            {"siblings": {"other": Plane(torch.ones(25))}},
            "the sibling other: labels run from 0 to 1",
        ),
        ({"siblings": {"ten": SmoothNet(25, 10)}}, "tells 10 classes apart, the model 5"),
        ({"effort": "least of all"}, "unknown effort 'least of all'; known: quick"),
        ({"processes": 0}, "processes must be"),
        ({"score": "log_likelihood"}, "no likelihood"),
        ({"score": "posterior", "accept": 95}, "such as 0.95"),
        ({"x_val": torch.rand(2, 1, 5, 5)}, "go together"),
        ({"deadline": "soon"}, "deadline"),
        ({"seed": -1}, "seed"),
    ],
)
def test_bad_input_ends_before_the_first_attack(net, images, monkeypatch, given, said):
    monkeypatch.setattr("ldatlib.evaluation.examination.parts.worst_case", None)
    with pytest.raises(UserError, match=said):
        examine(net, *images, **{"eps": EPS, "effort": "least"} | given)


def test_the_cost_is_an_upper_bound_that_is_not_far(net, images):
    """Counted in images that the model sees; a gradient is one more, as in the plan."""

    class Counting(nn.Module):
        seen = 0

        def __init__(self):
            super().__init__()
            self.net = net

        def forward(self, x):
            Counting.seen += len(x) * (2 if x.requires_grad else 1)
            return self.net(x)

    x, y = images
    # Little falls, so that nearly every attack goes to its last iteration.
    planned = []
    examine(
        *(Counting(), x, y),
        eps={"linf": 0.02},
        effort="quick",
        on_plan=lambda said, parts: planned.extend(parts),
    )
    total = sum(part.total for part in planned)
    assert 0.5 * total < Counting.seen < 1.1 * total


def test_progress_counts_what_is_still_right():
    said = []
    planned = [
        Planned("linf", "attacks", 10, {"linf_pgd": 5, "linf_fab": 20}),
        Planned("linf", "search", 10, {"linf_margin": 100}),
        Planned("linf", "masking", 8, {"masking": 50}),
    ]
    tell = teller(planned, said.append)
    tell("linf", "attacks", "linf_pgd", 6)
    # The attack itself met ten images, those to come meet six; the tests all that they look at.
    assert (said[-1].passes, said[-1].passes_left) == (50, 6 * 120 + 8 * 50)
    assert said[-1].coming == ("linf", "attacks")
    # The second attack was found again, so nobody said it.
    tell("linf", "search", "linf_margin", 4)
    assert (said[-1].passes, said[-1].passes_left) == (600, 400)
    assert said[-1].coming == ("linf", "masking")
    tell("linf", "masking", "masking", 4)
    assert (said[-1].passes, said[-1].passes_left, said[-1].coming) == (400, 0, None)


def test_plans_by_effort():
    size = {"images": 100, "shape": (3, 32, 32), "classes": 10}
    totals = [
        sum(p.total for p in plan(EFFORTS[name], {"linf": 8 / 255}, **size))
        for name in ("quick", "standard", "thorough")
    ]
    assert totals == sorted(totals) and totals[0] < totals[1] < totals[2]
    parts = [p.part for p in plan(EFFORTS["standard"], {"linf": 8 / 255}, **size)]
    assert parts == ["attacks", "search", "autoattack", "masking"]
    # Of the whole ensemble: 100 iterations of APGD, nine targets of two attacks, 5000 queries.
    assert cost.of_autoattack(STANDARD, 9) == 200 + 9 * 200 + 9 * 300 + 5000
    averaged = plan(EFFORTS["quick"], {"linf": 8 / 255}, eot=20, **size)
    assert sum(p.total for p in averaged) == 20 * totals[0]


def test_an_interrupted_worst_case_goes_on(net, images, tmp_path):
    from ldatlib.evaluation.named_attacks import Attack
    from ldatlib.evaluation.partial import Partial

    attacks = [Attack("pgd", "linf", 0.05, 4), Attack("fab", "linf", 0.05, 4)]
    whole = worst_case(net, *images, attacks)
    seen = []
    for turn in ("linf_pgd", "linf_fab", "linf_margin"):
        with pytest.raises(OutOfTime, match=turn):
            worst_case(net, *images, attacks, partial=Partial(tmp_path, "w", deadline=0.0))
    again = worst_case(
        *(net, *images, attacks),
        partial=Partial(tmp_path, "w"),
        on_attack=lambda key, left: seen.append(key),
    )
    assert not seen and torch.equal(again.x_adv, whole.x_adv)
    assert without_seconds(again.record) == without_seconds(whole.record)


def test_the_record_has_the_shape_that_is_written(net, images):
    from ldatlib.study.provenance import provenance
    from ldatlib.study.records.examination import Examination

    record = as_read(examine(net, *images, eps=EPS, effort="least", score="posterior"))

    def with_seconds(value, name=""):
        """Every structure that has one gets its seconds back."""
        if isinstance(value, list):
            return [with_seconds(v, name) for v in value]
        if not isinstance(value, dict):
            return value
        found = {k: with_seconds(v, k) for k, v in value.items()}
        return found | ({"seconds": 1.0} if name in ("turns", "masking", "detector") else {})

    settings = record["settings"]
    known = {"source": "s", "data": "d", "class_names": [], "command": None, "seconds": 1.0}
    known |= {"provenance": provenance("cpu")}
    full = with_seconds(record) | known | {"settings": settings}
    assert msgspec.to_builtins(msgspec.convert(full, Examination))["key"] == record["key"]


def test_what_speaks_against_pgd_alone_is_no_doubt():
    """The number rests on every attack: a loss that beats PGD in one of them is no news."""
    tests = [
        {"test": "larger_balls", "verdict": "alarm", "overstated": False},
        {"test": "margin", "verdict": "alarm", "overstated": True},
        {"test": "square", "verdict": "alarm", "overstated": False},
        {"test": "dlr", "verdict": "no alarm", "overstated": False},
    ]
    norm = {"converged": True, "masking": {"tests": tests}}
    record = {"gate": [], "norms": {"l2": norm}, "self_checks": []}
    assert doubts(record) == ["l2: masking margin", "l2: masking square"]


@pytest.mark.parametrize("name", ["dark", "shifted"])
def test_images_and_labels_that_look_wrong_are_a_doubt(name):
    said = {"name": name, "severity": "warning", "text": "something is wrong"}
    assert doubts({"gate": [said], "norms": {}, "self_checks": []}) == [f"gate: {name}"]
