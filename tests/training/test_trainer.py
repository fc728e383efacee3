"""Training: the same bits after an interruption, files that are whole or refused, honest logs."""

import copy
import json
import math
import multiprocessing
import pickle
import time
from dataclasses import replace
from random import Random

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import nn

from ldatlib import files
from ldatlib.attacks import l2_norm, pgd
from ldatlib.data import load_dataset
from ldatlib.defences import LBGAT, LDAT, Standard, defence_names, ldat, make_defence
from ldatlib.errors import Busy, OutOfTime, UserError
from ldatlib.execution import place
from ldatlib.files import load_tensors, save_tensors
from ldatlib.files.locks import alone
from ldatlib.models import Classifier, NetworkConfig, PreActResNet, build_network
from ldatlib.training import state as training_state
from ldatlib.training import trainer, validation
from ldatlib.training.checkpoint import load_model
from ldatlib.training.config import Storage, TrainConfig
from ldatlib.training.trainer import train

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def digits():
    return load_dataset("digits").subset(range(10), train_size=96)


def config(name="standard", *, switches=None, **options):
    """Three epochs of three steps on the smallest network."""
    budgets = {"eps_linf": 0.1, "eps_l2": 0.5, "radius": 1.0, "num_steps": 2}
    defence = make_defence(name, **budgets | (switches or {}))
    network = NetworkConfig(10, defence.head, depth=4, width=4, stages=1, in_channels=1)
    defaults = {
        "network": network,
        "epochs": 3,
        "batch_size": 32,
        "padding": 1,
        "flip": False,
        "val_eps": 0.1,
        "val_steps": 2,
        "val_limit": 40,
    }
    return TrainConfig(defence, **defaults | options)


def silent(line):
    pass


def run(settings, digits, folder, **options):
    return train(settings, digits, folder / "net.safetensors", **{"on_epoch": silent} | options)


def network(settings):
    return build_network(settings.network, [0.3], [0.4])


def bits(path):
    tensors, header = load_tensors(path)
    return {name: value.numpy().tobytes() for name, value in tensors.items()}


def without_seconds(log):
    return [{name: value for name, value in line.items() if name != "seconds"} for line in log]


def read_log(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


class Interrupted(Exception):
    pass


def stop_after(epoch):
    def on_epoch(line):
        if line["epoch"] == epoch:
            raise Interrupted

    return on_epoch


# What a training leaves


@pytest.mark.parametrize("name", defence_names())
def test_files_and_log(name, digits, tmp_path):
    result = run(config(name), digits, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "net.best.safetensors",
        "net.jsonl",
        "net.safetensors",
    ]
    assert (result.last, result.best) == (
        tmp_path / "net.safetensors",
        tmp_path / "net.best.safetensors",
    )
    assert read_log(result.log_path) == result.log
    assert [line["epoch"] for line in result.log] == [1, 2, 3]
    for line in result.log:
        assert all(math.isfinite(value) for value in line.values())
        assert {"loss", "lr", "seconds", "val_clean_accuracy", "val_robust_accuracy"} <= set(line)
        assert (
            ("lambda" in line) == ("smallest_centroid_distance" in line) == name.startswith("ldat")
        )
    header = load_model(result.last).header
    assert header["epoch"] == 3 and header["metrics"] == result.log[-1]
    assert header["fingerprint"] == digits.fingerprint
    assert header["images"] == {"train": 96, "val": 300, "test": 400}
    assert header["config"] == json.loads(json.dumps(config(name).as_dict()))
    robust = [line["val_robust_accuracy"] for line in result.log]
    best = load_model(result.best).header
    assert best["epoch"] == robust.index(max(robust)) + 1
    assert best["metrics"] == result.log[best["epoch"] - 1]


def test_paths(digits, tmp_path):
    result = train(
        config(epochs=1),
        digits,
        str(tmp_path / "deep/er/net.safetensors"),
        log_path=tmp_path / "log.jsonl",
    )
    assert result.last == tmp_path / "deep/er/net.safetensors" and result.last.is_file()
    assert result.log_path == tmp_path / "log.jsonl" and len(read_log(result.log_path)) == 1


def test_training_learns(tmp_path):
    digits = load_dataset("digits")
    wider = NetworkConfig(10, depth=4, width=16, stages=1, in_channels=1)
    settings = config("natural", network=wider, epochs=5, val_limit=300)
    result = run(settings, digits, tmp_path)
    assert result.log[0]["loss"] > 2 * result.log[-1]["loss"]
    assert result.log[-1]["val_clean_accuracy"] > 0.8


def test_weights_follow_a_plain_loop(digits, tmp_path):
    """SGD with momentum, weight decay and a cosine to zero, epoch by epoch in a drawn order."""
    settings = config("natural", padding=0, lr=0.2, momentum=0.8, weight_decay=0.01, seed=5)
    model = network(settings)
    plain = copy.deepcopy(model).train().to(memory_format=torch.channels_last)
    run(replace(settings, network=None), digits, tmp_path, model=model)

    x, y = digits.split("train")
    order = torch.Generator().manual_seed(5)
    optimizer = torch.optim.SGD(plain.parameters(), lr=0.2, momentum=0.8, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 9)
    for _ in range(3):
        for index in torch.randperm(96, generator=order).split(32):
            images = x[index].contiguous(memory_format=torch.channels_last)
            optimizer.zero_grad()
            F.cross_entropy(plain(images), y[index]).backward()
            optimizer.step()
            schedule.step()
    torch.testing.assert_close(model.state_dict(), plain.state_dict())


def test_learning_rate_of_the_log(digits, tmp_path):
    log = run(config("natural", lr=0.2), digits, tmp_path).log
    assert [line["lr"] for line in log] == pytest.approx([0.2, 0.15, 0.05])


def test_loss_gets_the_finalised_images_and_lambda_of_the_epoch(digits, tmp_path, monkeypatch):
    lambdas, loss = [], ldat.ldat_loss

    def spy(model, x, x_adv, y, *, lambda_t, **options):
        assert model.training and not x_adv.requires_grad
        assert l2_norm(x_adv - x).max() <= 0.2 + 1e-6
        assert x_adv.min() >= 0 and x_adv.max() <= 1
        lambdas.append(lambda_t)
        return loss(model, x, x_adv, y, lambda_t=lambda_t, **options)

    monkeypatch.setattr(ldat, "ldat_loss", spy)
    settings = config("ldat", switches={"lambda_init": 0.3, "radius": 0.2})
    log = run(settings, digits, tmp_path).log
    assert [line["lambda"] for line in log] == pytest.approx([0.1, 0.2, 0.3])
    assert lambdas == pytest.approx([0.1] * 3 + [0.2] * 3 + [0.3] * 3)
    assert all(line["attack_norm"] > line["perturbation_norm"] > 0.1 for line in log)


def test_the_log_tells_right_images_from_wrong_ones(digits, tmp_path):
    line = run(config("ldat", switches={"radius": 1.2}), digits, tmp_path).log[-1]
    right, wrong = line["attacked_right"], 1 - line["attacked_right"]
    assert 0 < right < 1
    mean = right * line["attack_norm_right"] + wrong * line["attack_norm_wrong"]
    assert mean == pytest.approx(line["attack_norm"], rel=1e-5)
    # Two steps from 1 with gamma 0.2: an image that is right at first grows at least once.
    assert 0.64 - 1e-6 <= line["attack_norm_wrong"] < 0.96
    assert 0.96 - 1e-6 <= line["attack_norm_right"] <= 1.44 + 1e-6
    assert line["projected_wrong"] == 0 <= line["projected_right"] <= 1


@pytest.mark.parametrize("schedule", ["grow", "grow_by_step"])
def test_lambda_may_grow_by_the_step(schedule, digits, tmp_path, monkeypatch):
    """Nine steps in three epochs: Eq. 12 has three values, the finer growth nine."""
    seen, loss = [], LDAT.loss

    def spy(self, *arguments, progress, **options):
        seen.append(progress)
        return loss(self, *arguments, progress=progress, **options)

    monkeypatch.setattr(LDAT, "loss", spy)
    settings = config("ldat", switches={"lambda_schedule": schedule})
    log = run(settings, digits, tmp_path).log
    epochs = [1 / 3] * 3 + [2 / 3] * 3 + [1.0] * 3
    steps = [step / 9 for step in range(1, 10)]
    assert seen == pytest.approx(steps if schedule == "grow_by_step" else epochs)
    assert [line["lambda"] for line in log] == pytest.approx([1 / 3, 2 / 3, 1.0])


def test_means_of_the_log_weigh_every_image_alike(digits, tmp_path):
    """The last batch is smaller; a learning rate near zero keeps the network still."""
    settings = config("natural", epochs=1, batch_size=80, padding=0, lr=1e-12, network=None)
    model = network(config())
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.0
            module.forward = lambda x: x
    (line,) = run(settings, digits, tmp_path, model=model).log
    x, y = digits.split("train")
    logits = model(x)
    assert line["loss"] == pytest.approx(F.cross_entropy(logits, y).item(), rel=1e-4)
    assert line["natural_accuracy"] == pytest.approx((logits.argmax(1) == y).float().mean().item())


@pytest.mark.parametrize("ema_decay", [0.0, 0.5])
def test_validation_is_that_of_the_saved_weights(digits, tmp_path, ema_decay):
    result = run(config(ema_decay=ema_decay), digits, tmp_path)
    model = place(load_model(result.last), "cpu")
    x, y = digits.split("val", 40)
    generator = torch.Generator().manual_seed(0)
    robust = 0
    for images, labels in zip(x.split(32), y.split(32), strict=True):
        attack = {"eps": 0.1, "step_size": 0.025, "num_steps": 2, "generator": generator}
        x_adv = pgd(model, images, labels, **attack)
        right = model(images).argmax(1) == labels
        robust += (right & (model(x_adv).argmax(1) == labels)).sum().item()
    metrics = model.header["metrics"]
    assert metrics["val_clean_accuracy"] == (model(x).argmax(1) == y).sum().item() / 40
    assert metrics["val_robust_accuracy"] == robust / 40


def test_statistics_of_features():
    """Two classes on a line: at -1, -3 and 4, 6, with centroids at -2 and 7."""
    features = torch.tensor([[-1.0, 0], [4, 0], [-3, 0], [6, 0]])
    y, means = torch.tensor([0, 2, 0, 2]), torch.tensor([[-2.0, 0], [0, 0], [7, 0]])
    found = validation.feature_statistics(features, y, means)
    assert found["val_feature_norm"] == pytest.approx(3.5)
    assert found["val_within_class"] == pytest.approx(1)
    assert found["val_between_classes"] == pytest.approx(7)
    assert found["val_own_centroid"] == pytest.approx((1 + 9 + 1 + 1) / 4 / 2)
    assert found["val_between_centroids"] == pytest.approx(math.sqrt((2**2 + 7**2 + 9**2) / 3))
    assert "val_own_centroid" not in validation.feature_statistics(features, y, None)


def test_robust_means_right_before_and_after(digits, tmp_path, monkeypatch):
    """An attack may put a wrong image right; that does not count."""
    monkeypatch.setattr(validation, "pgd", lambda model, x, y, **options: x.roll(1, 0))
    settings = config("natural", epochs=1, val_limit=32)
    result = run(settings, digits, tmp_path)
    model = place(load_model(result.last), "cpu")
    x, y = digits.split("val", 32)
    predicted = model(x).argmax(1)
    expected = (predicted == y) & (predicted.roll(1) == y)
    assert (predicted.roll(1) == y).sum() > expected.sum()
    assert result.log[0]["val_robust_accuracy"] == expected.sum().item() / 32


def test_validation_changes_nothing(digits, tmp_path):
    often = run(config(), digits, tmp_path / "often")
    seldom = run(config(val_every=2), digits, tmp_path / "seldom")
    assert bits(often.last) == bits(seldom.last)
    validated = ["val_robust_accuracy" in line for line in seldom.log]
    assert validated == [False, True, True]


def test_average_of_the_weights(digits, tmp_path):
    """One step an epoch: the average starts at the first weights and forgets them at first."""
    settings = config("natural", batch_size=96, ema_decay=0.75, network=None)
    model, weights = network(config()), []
    result = run(
        settings,
        digits,
        tmp_path,
        model=model,
        on_epoch=lambda line: weights.append(model.head.weight.detach().clone()),
    )
    average = weights[0]
    for count, later in enumerate(weights[1:], 1):
        kept = min(0.75, (1 + count) / (10 + count))
        average = kept * average + (1 - kept) * later
    torch.testing.assert_close(load_file(result.last)["head.weight"], average)
    assert not torch.equal(weights[1], weights[2])


@pytest.mark.parametrize(
    ("name", "forwards"), [("natural", 1), ("standard", 1), ("trades", 2), ("mart", 2), ("ldat", 2)]
)
def test_batch_norm_sees_the_training_forwards_alone(name, forwards, digits, tmp_path):
    """Not those of the attack, nor of validation, and natural and adversarial images apart."""
    result = run(config(name), digits, tmp_path)
    counts = {
        value.item()
        for key, value in load_file(result.last).items()
        if key.endswith("num_batches_tracked")
    }
    assert counts == {9 * forwards}


def test_centroids_can_go_without_weight_decay(digits, tmp_path):
    found = []
    for decays in (True, False):
        settings = config(
            "ldat",
            switches={"centroid_weight_decay": decays},
            epochs=1,
            batch_size=96,
            weight_decay=0.5,
            lr=0.2,
            network=None,
        )
        torch.manual_seed(3)
        model = network(config("ldat"))
        before = copy.deepcopy(model.state_dict())
        run(settings, digits, tmp_path / str(decays), model=model)
        found.append(model.state_dict())
    decayed, kept = found
    pulled = kept["head.means"] - decayed["head.means"]
    torch.testing.assert_close(pulled, 0.2 * 0.5 * before["head.means"], rtol=1e-4, atol=1e-7)
    assert torch.equal(decayed["backbone.stem.weight"], kept["backbone.stem.weight"])


def test_trains_on_training_images_alone(digits, tmp_path):
    class Spy(Classifier):
        def features(self, x):
            (trained if self.training else evaluated).extend(map(digest, x))
            return super().features(x)

    def digest(image):
        return (image * 255).round().byte().numpy().tobytes()

    trained, evaluated = [], []
    model = Spy(PreActResNet(4, 4, 1, 1), nn.Linear(4, 10))
    settings = config("natural", padding=0, network=None, val_limit=300)
    run(settings, digits, tmp_path, model=model)
    split = {name: {digest(x) for x in digits.split(name)[0]} for name in ("train", "val", "test")}
    assert set(trained) == split["train"] and len(trained) == 3 * 96
    assert not set(trained) & (split["val"] | split["test"])
    assert split["val"] <= set(evaluated) and not split["test"] & set(evaluated)


@pytest.mark.parametrize("head", ["linear", "gmm"])
def test_teacher_of_lbgat_starts_on_its_own_and_learns(head, digits, tmp_path, monkeypatch):
    seen, loss = [], LBGAT.loss

    def spy(self, model, *arguments, teacher, **options):
        assert model.training and teacher.training
        seen.append((copy.deepcopy(model.state_dict()), copy.deepcopy(teacher.state_dict())))
        return loss(self, model, *arguments, teacher=teacher, **options)

    monkeypatch.setattr(LBGAT, "loss", spy)
    settings = config("lbgat", epochs=1)
    run(replace(settings, network=replace(settings.network, head=head)), digits, tmp_path)
    student, teacher = seen[0]
    weights = [name for name in student if name.startswith("head") or "conv" in name]
    assert len(weights) >= 3
    for name in weights:
        assert not torch.equal(student[name], teacher[name]), name
        assert not torch.equal(teacher[name], seen[-1][1][name]), name


def test_a_batch_of_one_image_is_no_problem(digits, tmp_path):
    """At the end of an epoch one image may be left; the last stage has one pixel."""
    deep = NetworkConfig(10, depth=10, width=2, stages=4, in_channels=1)
    settings = config("natural", network=deep, batch_size=95, epochs=1)
    assert math.isfinite(run(settings, digits, tmp_path).log[0]["loss"])


# Seeds and interruptions


def test_same_seed_same_bits(digits, tmp_path):
    torch.manual_seed(1)
    first = run(config("ldat"), digits, tmp_path / "a")
    state = torch.get_rng_state()
    torch.manual_seed(2)
    again = run(config("ldat"), digits, tmp_path / "b")
    other = run(config("ldat", seed=1), digits, tmp_path / "c")
    assert bits(first.last) == bits(again.last) and bits(first.best) == bits(again.best)
    assert without_seconds(first.log) == without_seconds(again.log)
    one, two = bits(first.last), bits(other.last)
    assert all(one[name] != two[name] for name in ("head.means", "backbone.stem.weight"))
    torch.manual_seed(1)
    assert torch.equal(torch.get_rng_state(), state), "the global random state was used"


def test_seed_decides_the_initial_weights(digits, tmp_path):
    """A learning rate near zero leaves them as they were drawn."""
    found = []
    for seed in (0, 1):
        settings = config("natural", seed=seed, epochs=1, lr=1e-12)
        found.append(load_file(run(settings, digits, tmp_path / str(seed)).last))
    assert (found[0]["head.weight"] - found[1]["head.weight"]).abs().max() > 0.1


@pytest.mark.parametrize("epoch", [1, 3])
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("standard", {}),
        ("ldat", {}),
        ("lbgat", {}),
        ("trades", {"ema_decay": 0.9}),
        ("ldat", {"val_every": 2, "switches": {"centroid_weight_decay": False}}),
    ],
)
def test_resumed_training_ends_with_the_same_bits(name, options, epoch, digits, tmp_path):
    whole = run(config(name, **options), digits, tmp_path / "whole")
    folder = tmp_path / "interrupted"
    with pytest.raises(Interrupted):
        run(config(name, **options), digits, folder, on_epoch=stop_after(epoch))
    assert (folder / "net.state.safetensors").is_file()
    assert (folder / "net.safetensors").exists() == (epoch == 3)
    epochs = []
    resumed = run(
        config(name, **options), digits, folder, on_epoch=lambda line: epochs.append(line["epoch"])
    )
    assert epochs == list(range(epoch + 1, 4)), "finished epochs are not computed again"
    assert bits(resumed.last) == bits(whole.last)
    assert bits(resumed.best) == bits(whole.best)
    assert without_seconds(resumed.log) == without_seconds(whole.log)
    assert read_log(resumed.log_path) == resumed.log
    assert not (folder / "net.state.safetensors").exists()
    seconds = [line["seconds"] for line in resumed.log]
    assert seconds == sorted(seconds)


STEPWISE = [
    ("ldat", {"epochs": 2}, {"optimizer": "adam"}),
    ("lbgat", {"epochs": 2, "ema_decay": 0.99}, {}),
    ("trades", {"epochs": 2, "padding": 2, "flip": True}, {}),
]


@pytest.mark.parametrize(("name", "options", "switches"), STEPWISE)
def test_stopped_after_any_step_it_ends_with_the_same_bits(
    name, options, switches, digits, tmp_path, monkeypatch
):
    """A deadline in the past stops after every single step; each call goes one step on."""
    settings = config(name, switches=switches, **options)
    whole = run(settings, digits, tmp_path / "whole")
    steps = -(-len(digits.labels["train"]) // settings.batch_size)
    stops = 0
    while True:
        try:
            parts = run(settings, digits, tmp_path / "parts", deadline=0.0)
            break
        except OutOfTime as stop:
            stops += 1
            assert "net.safetensors stopped" in str(stop)
    # After the last epoch there is nothing to stop.
    assert stops == steps * settings.epochs - 1
    assert bits(parts.last) == bits(whole.last) and bits(parts.best) == bits(whole.best)
    assert without_seconds(parts.log) == without_seconds(whole.log)
    assert read_log(parts.log_path) == parts.log


@pytest.mark.parametrize("name", ["ldat", "lbgat"])
def test_killed_at_any_write_it_ends_with_the_same_bits(name, digits, tmp_path, monkeypatch):
    """Killed before, or right after, each file it writes: best, last, log and state of an epoch."""
    settings = config(name, epochs=2, ema_decay=0.9)
    monkeypatch.setattr(trainer, "SAVE_EVERY", 0.0)  # the state after every step, too
    whole = run(settings, digits, tmp_path / "whole")
    write, counts = files.write_bytes, {"left": -1}

    def failing(path, content):
        counts["left"] -= 1
        if counts["left"] == 0 and counts["before"]:
            raise Interrupted
        write(path, content)
        if counts["left"] == 0:
            raise Interrupted

    for module in (files, training_state):
        monkeypatch.setattr(module, "write_bytes", failing)
    number, finished = 0, False
    while not finished:
        number += 1
        folder = tmp_path / str(number)
        for before in (True, False):
            counts |= {"left": number, "before": before}
            try:
                result = run(settings, digits, folder)
                finished = True
            except Interrupted:
                counts["left"] = -1
                result = run(settings, digits, folder)
            assert bits(result.last) == bits(whole.last) and bits(result.best) == bits(whole.best)
            assert without_seconds(read_log(result.log_path)) == without_seconds(whole.log)
            for path in folder.iterdir():
                path.unlink()
    assert number > 6


def test_killed_at_random_moments_it_ends_with_the_same_bits(digits, tmp_path, monkeypatch):
    """SIGKILL, wherever it strikes; the state is saved after every step."""
    monkeypatch.setattr(trainer, "SAVE_EVERY", 0.0)
    settings = config("ldat", epochs=15)
    started = time.monotonic()
    whole = run(settings, digits, tmp_path / "whole")
    took = time.monotonic() - started
    context, random = multiprocessing.get_context("fork"), Random(0)
    kills = 0
    while kills < 40:
        process = context.Process(target=run, args=(settings, digits, tmp_path / "parts"))
        process.start()
        # Longer and longer, so that it ends on a slow machine, too.
        process.join(random.uniform(0.02, 0.1) * took * (1 + kills / 8))
        if process.exitcode is not None:
            break
        process.kill()
        process.join()
        kills += 1
    assert process.exitcode == 0 and kills >= 3
    for name in ("net.safetensors", "net.best.safetensors"):
        assert bits(tmp_path / "parts" / name) == bits(tmp_path / "whole" / name)
    log = read_log(tmp_path / "parts" / "net.jsonl")
    assert without_seconds(log) == without_seconds(whole.log)


def test_half_precision_shards_are_what_is_loaded(digits, tmp_path):
    settings = config("ldat", epochs=1)
    full = run(settings, digits, tmp_path / "full")
    storage = Storage(half=True, shard_bytes=400)
    half = run(settings, digits, tmp_path / "half", storage=storage)
    assert not half.last.exists() and list(half.last.parent.glob("net-*-of-*.safetensors"))
    rounded, exact = load_model(half.last), load_model(full.last)
    for name, value in exact.state_dict().items():
        stored = rounded.state_dict()[name]
        matrix = value.is_floating_point() and value.numel() > max(value.shape, default=1)
        wanted = value.half().float() if matrix else value
        assert stored.dtype == value.dtype and torch.equal(stored, wanted), name
    assert half.execution["storage"] == {"half": True, "shard_bytes": 400}


def test_bfloat16_is_for_training_alone(digits, tmp_path, monkeypatch):
    seen = []
    attack = validation.pgd

    def watched(model, *arguments, **options):
        seen.append(model.precision)
        return attack(model, *arguments, **options)

    monkeypatch.setattr(validation, "pgd", watched)
    settings = config("ldat", epochs=1)
    exact = run(settings, digits, tmp_path / "exact")
    rough = run(replace(settings, precision="bfloat16"), digits, tmp_path / "rough")
    assert seen == ["float32"] * 4  # two batches each
    assert rough.execution["precision"] == "bfloat16" and exact.execution["precision"] == "float32"
    assert bits(rough.last) != bits(exact.last)
    # The same training but for rounding to 8 bits.
    assert rough.log[0]["loss"] == pytest.approx(exact.log[0]["loss"], rel=0.05)
    assert load_model(rough.last).precision == "float32"
    for value in load_model(rough.last).state_dict().values():
        assert value.dtype in (torch.float32, torch.int64)


def test_two_trainings_of_one_checkpoint_are_refused(digits, tmp_path):
    with alone(tmp_path / "net.safetensors", "training"), pytest.raises(Busy):
        run(config("standard"), digits, tmp_path)
    run(config("standard", epochs=1), digits, tmp_path)


def test_best_of_before_the_interruption_stays(digits, tmp_path):
    state = interrupted(digits, tmp_path)
    best = (tmp_path / "net.best.safetensors").read_bytes()
    tensors, header = load_tensors(state)
    save_tensors(state, tensors, header | {"best": 1.0})
    assert run(config(), digits, tmp_path).best.read_bytes() == best


def test_interruption_within_an_epoch(digits, tmp_path, monkeypatch):
    whole = run(config(), digits, tmp_path / "whole")
    calls, loss = [], Standard.loss

    def fails_in_the_fifth_step(*arguments, **options):
        calls.append(1)
        if len(calls) == 5:
            raise Interrupted
        return loss(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Standard, "loss", fails_in_the_fifth_step)
        with pytest.raises(Interrupted):
            run(config(), digits, tmp_path)
    assert len(read_log(tmp_path / "net.jsonl")) == 1
    assert bits(run(config(), digits, tmp_path).last) == bits(whole.last)


def test_own_model_resumes(digits, tmp_path):
    settings = config(network=None)

    def model():
        torch.manual_seed(7)
        return network(config())

    whole = run(settings, digits, tmp_path / "whole", model=model())
    with pytest.raises(Interrupted):
        run(settings, digits, tmp_path, model=model(), on_epoch=stop_after(2))
    assert bits(run(settings, digits, tmp_path, model=model()).last) == bits(whole.last)


def interrupted(digits, folder, **options):
    with pytest.raises(Interrupted):
        run(config(**options), digits, folder, on_epoch=stop_after(1))
    return folder / "net.state.safetensors"


def test_resume_can_be_declined(digits, tmp_path):
    interrupted(digits, tmp_path)
    epochs = []
    run(
        config(lr=0.05),
        digits,
        tmp_path,
        resume=False,
        on_epoch=lambda line: epochs.append(line["epoch"]),
    )
    assert epochs == [1, 2, 3]


@pytest.mark.parametrize(
    "changed",
    [
        {"lr": 0.05},
        {"seed": 1},
        {"epochs": 4},
        {"name": "trades"},
        {"switches": {"num_steps": 3}},
        {"network": NetworkConfig(10, "linear", 4, 8, 1, 1)},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_state_of_another_configuration_is_refused(changed, digits, tmp_path):
    state = interrupted(digits, tmp_path)
    before = state.read_bytes()
    with pytest.raises(UserError, match=str(state)):
        run(config(**changed), digits, tmp_path)
    assert state.read_bytes() == before


def test_state_of_other_data_is_refused(digits, tmp_path):
    state = interrupted(digits, tmp_path)
    with pytest.raises(UserError, match=str(state)):
        run(config(), digits.subset(range(10), train_size=95), tmp_path)


def test_state_of_another_model_of_ones_own_is_refused(digits, tmp_path):
    settings = config(network=None)
    with pytest.raises(Interrupted):
        run(settings, digits, tmp_path, model=network(config()), on_epoch=stop_after(1))
    wider = Classifier(PreActResNet(4, 8, 1, 1), nn.Linear(8, 10))
    with pytest.raises(UserError, match="net.state.safetensors"):
        run(settings, digits, tmp_path, model=wider)


@pytest.mark.parametrize("damage", ["truncated", "a model's checkpoint"])
def test_damaged_state_is_refused(damage, digits, tmp_path):
    state = interrupted(digits, tmp_path)
    if damage == "truncated":
        state.write_bytes(state.read_bytes()[:-100])
    else:
        state.write_bytes((tmp_path / "net.best.safetensors").read_bytes())
    with pytest.raises(UserError, match=str(state)):
        run(config(), digits, tmp_path)


# Losses that are not finite


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("natural", {"lr": 1e30}),
        ("standard", {"lr": 1e30}),
        ("ldat", {"lr": 1e6}),
        ("ldat", {"switches": {"lambda_init": 1e38}}),
    ],
)
def test_loss_that_is_not_finite(name, options, digits, tmp_path):
    with pytest.raises(UserError, match=rf"{name}: \w+ is not finite in epoch \d; .*lower lr"):
        run(config(name, **options), digits, tmp_path)
    assert not (tmp_path / "net.safetensors").exists()


@pytest.mark.parametrize("name", ["standard", "ldat"])
def test_weights_that_overflow_in_the_last_step(name, digits, tmp_path):
    """The loss of that step was finite, and no other step follows that would tell."""
    with pytest.raises(UserError, match=f"{name}: .* not finite"):
        run(config(name, lr=3e38, weight_decay=0.1, epochs=1, batch_size=96), digits, tmp_path)
    assert not (tmp_path / "net.safetensors").exists()


def test_last_good_state_is_kept(digits, tmp_path):
    settings, start = config("natural", network=None), network(config())
    broken = copy.deepcopy(start)

    def poison(line):
        broken.head.weight.data.fill_(torch.inf)

    with pytest.raises(UserError, match="epoch 2.*after epoch 1 stays in .*state.safetensors"):
        run(settings, digits, tmp_path, model=broken, on_epoch=poison)
    tensors, header = load_tensors(tmp_path / "net.state.safetensors")
    assert header["epoch"] == 1 and len(header["log"]) == 1
    assert all(value.isfinite().all() for value in tensors.values())
    best = load_model(tmp_path / "net.best.safetensors", PreActResNet(4, 4, 1, 1))
    assert best.header["epoch"] == 1
    assert len(read_log(tmp_path / "net.jsonl")) == 1

    whole = run(settings, digits, tmp_path / "whole", model=copy.deepcopy(start))
    assert bits(run(settings, digits, tmp_path, model=start).last) == bits(whole.last)


# Checkpoints


@pytest.mark.parametrize("head", ["linear", "gmm"])
def test_load_model_gives_the_same_logits(head, digits, tmp_path):
    settings = config(network=None)
    model = network(config("ldat" if head == "gmm" else "standard"))
    result = run(settings, digits, tmp_path, model=model)
    backbone = PreActResNet(4, 4, 1, 1)
    loaded = load_model(result.last, backbone)
    assert loaded.backbone is backbone and not loaded.training
    x, _ = digits.split("test", 20)
    assert torch.equal(place(loaded, "cpu")(x), model.eval()(x))


def test_load_model_builds_the_network(digits, tmp_path):
    result = run(config("ldat"), digits, tmp_path)
    loaded = load_model(str(result.last))
    backbone = load_model(result.last, PreActResNet(4, 4, 1, 1))
    x, _ = digits.split("test", 20)
    assert torch.equal(loaded(x), backbone(x))
    mean, std = digits.statistics()
    assert loaded.mean.flatten().tolist() == pytest.approx(mean)
    assert loaded.std.flatten().tolist() == pytest.approx(std)
    assert loaded.header["class_names"] == list(digits.class_names)


@pytest.fixture(scope="module")
def checkpoint(digits, tmp_path_factory):
    return run(config(epochs=1), digits, tmp_path_factory.mktemp("checkpoint")).last


def missing(path, source):
    pass


def directory(path, source):
    path.mkdir()


def empty(path, source):
    path.write_bytes(b"")


def truncated(path, source):
    path.write_bytes(source.read_bytes()[:-50])


def truncated_header(path, source):
    path.write_bytes(source.read_bytes()[:50])


def text(path, source):
    path.write_text("weights")


class Fires:
    def __reduce__(self):
        return pytest.fail, ("a pickle was opened",)


def pickled(path, source):
    path.write_bytes(pickle.dumps({"weight": Fires()}))


def saved_by_torch(path, source):
    torch.save({"weight": torch.zeros(3)}, path)


def foreign(path, source):
    save_file({"weight": torch.zeros(3)}, path)


def foreign_with_header(path, source):
    save_file({"weight": torch.zeros(3)}, path, {"format": "pt"})


def another_network(path, source):
    tensors, header = load_tensors(source)
    wider = dict(header["network"], width=8)
    save_tensors(path, tensors, header | {"network": wider})


def lacking_a_tensor(path, source):
    tensors, header = load_tensors(source)
    del tensors["head.bias"]
    save_tensors(path, tensors, header)


def state(path, source):
    tensors, header = load_tensors(source)
    save_tensors(path, tensors, header | {"kind": "state"})


def own_network(path, source):
    tensors, header = load_tensors(source)
    save_tensors(path, tensors, header | {"network": None})


@pytest.mark.parametrize(
    "make",
    [
        missing,
        directory,
        empty,
        truncated,
        truncated_header,
        text,
        pickled,
        saved_by_torch,
        foreign,
        foreign_with_header,
        another_network,
        lacking_a_tensor,
        state,
        own_network,
    ],
)
def test_not_a_checkpoint(make, checkpoint, tmp_path):
    path = tmp_path / "strange.safetensors"
    make(path, checkpoint)
    with pytest.raises(UserError) as caught:
        load_model(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_backbone_of_another_width(checkpoint):
    with pytest.raises(UserError, match=f"{checkpoint} is a checkpoint of another network"):
        load_model(checkpoint, PreActResNet(4, 8, 1, 1))


def test_load_model_leaves_the_random_state(checkpoint):
    before = torch.get_rng_state()
    load_model(checkpoint)
    assert torch.equal(torch.get_rng_state(), before)


def test_writing_replaces_the_whole_file(tmp_path, monkeypatch):
    path = tmp_path / "net.safetensors"
    save_tensors(path, {"a": torch.zeros(2)}, {"epoch": 1})

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(UserError, match=f"{path}: No space left on device"):
        save_tensors(path, {"a": torch.ones(2)}, {"epoch": 2})
    tensors, header = load_tensors(path)
    assert tensors["a"].tolist() == [0, 0] and header == {"epoch": 1}
    assert list(tmp_path.iterdir()) == [path]


# Configurations


@pytest.mark.parametrize("given", ["both", "neither"])
def test_one_network(given, digits, tmp_path):
    settings = config() if given == "both" else config(network=None)
    model = network(config()) if given == "both" else None
    with pytest.raises(UserError, match="config.network or a model"):
        run(settings, digits, tmp_path, model=model)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("epochs", [0, -1]),
        ("batch_size", [0]),
        ("val_every", [0]),
        ("val_limit", [0]),
        ("lr", [0, -0.1, math.inf, math.nan]),
        ("val_eps", [0, -0.1, math.inf, math.nan]),
        ("weight_decay", [-1e-4, math.inf, math.nan]),
        ("padding", [-1]),
        ("val_steps", [-1]),
        ("momentum", [-0.1, 1, math.nan]),
        ("ema_decay", [-0.1, 1, math.nan]),
    ],
)
def test_numbers_out_of_range(name, values):
    for value in values:
        with pytest.raises(UserError, match=f"{name} must .*{value}"):
            config(**{name: value})


def test_a_name_is_no_defence():
    with pytest.raises(UserError, match="one that make_defence made, not 'ldat'"):
        TrainConfig("ldat", None, epochs=1)


@pytest.mark.parametrize("name", defence_names())
def test_a_configuration_is_json_with_everything_in_it(name):
    settings = config(name)
    content = settings.as_dict()
    assert json.loads(json.dumps(content)) == content
    assert content["defence"] == settings.defence.as_dict()
    assert content["network"]["head"] == settings.defence.head
    assert config(name, network=None).as_dict()["network"] is None
