"""``ldat examine`` from what is typed to the folder it leaves; what is wrong ends it before."""

import json
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import PROJECT
from torchvision.utils import save_image

from ldatlib import __main__ as command
from ldatlib.errors import UNFINISHED
from ldatlib.evaluation.examination import effort as efforts
from ldatlib.evaluation.robustness import from_bits
from ldatlib.files import save_tensors
from ldatlib.models import NetworkConfig, build_network
from ldatlib.report.examination import command as module
from ldatlib.study.records.examination import read_examination

MINE = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(5)
        self.first, self.last = nn.Linear(64, 16), nn.Linear(16, 3)

    def forward(self, x):
        return self.last(torch.tanh(3 * self.first(x.flatten(1))))

def make():
    return Net()

def softmax():
    return nn.Sequential(Net(), nn.Softmax(1))

def pair():
    net = Net()
    return lambda x: (net(x), x)

def dropout():
    model = nn.Sequential(nn.Dropout(0.2), Net()).eval()
    model[0].train()
    return model

def quantised():
    net = Net()
    return lambda x: net((4 * x).round() / 4)

def outside():
    net = Net()
    return lambda x: net((x * 0.25 + 0.5))

def takes_bytes():
    net = Net()
    return lambda x: net(x / 255)

def normalises():
    net = Net()
    return lambda x: net((2 * x - 1 + 1) / 2)

def vision():
    from torchvision.models.resnet import BasicBlock, ResNet
    torch.manual_seed(5)
    return ResNet(BasicBlock, [1, 1, 1, 1], num_classes=3)

def surest(model, images):
    return model(images).softmax(1).amax(1)
"""


@pytest.fixture(autouse=True)
def small(tmp_path, monkeypatch):
    """Small efforts, and a folder with a model and images that it has right."""
    least = {"steps": 3, "search_steps": 4, "search_restarts": 2, "masking_images": 8}
    quick = replace(efforts.EFFORTS["quick"], detector_steps=3, detector_queries=5, **least)
    tests = replace(quick.masking, steps=2, restarts=1, queries=5)
    monkeypatch.setitem(efforts.EFFORTS, "quick", replace(quick, masking=tests))
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(MINE)
    namespace = {}
    exec(MINE, namespace)
    torch.manual_seed(0)
    x = (torch.rand(24, 1, 8, 8) * 255).round().byte()
    y = namespace["Net"]()(x.float() / 255).argmax(1)
    np.savez("images.npz", x=x.numpy(), y=y.numpy())
    return x, y


def examine(*more, source="mine.py:make", data="images.npz", eps=("--eps-linf", "8/255")):
    arguments = ["examine", source, "--data", data, *eps, "--effort", "quick", *more]
    return command.main(arguments)


def content(folder):
    """The record but for what no two commands share."""
    with open(f"{folder}/examination.json", encoding="utf-8") as stream:
        found = json.load(stream)
    for name in ("seconds", "command", "sha256"):
        del found[name]
    for norm in found["norms"].values():
        del norm["masking"]["seconds"]
        for turn in norm["turns"]:
            del turn["seconds"]
    return found


def test_it_leaves_record_page_and_tables(tmp_path, capsys):
    assert examine("--eps-l2", "0.3", "--out", "out", "--reject", "posterior") == 0
    said = capsys.readouterr().out
    assert "24 images of images, 1 x 8 x 8 pixels" in said
    assert "forward passes" in said and "images right under L2 0.3" in said
    assert f"the page: {'out'}/examination.html" in said
    left = {
        str(path.relative_to(tmp_path / "out"))
        for path in tmp_path.glob("out/**/*")
        if path.is_file()
    }
    names = ("attacks", "curve", "detector", "images", "masking", "verdict")
    assert {p for p in left if not p.startswith("partial")} == {
        *("examination.json", "examination.html", "adversarial.safetensors"),
        *(f"tables/{name}.csv" for name in names),
    } and not (tmp_path / "out" / "partial").exists()
    record = read_examination("out/examination.json")
    assert record.command.startswith("ldat examine mine.py:make --data images.npz --eps-linf 8/255")
    assert record.norms["linf"].eps == 8 / 255 and record.norms["l2"].detector.images == 12
    assert record.clean_accuracy.value == 1 and record.images == 24


def test_the_threshold_is_frozen_on_other_images(tmp_path, small, capsys):
    x, y = small
    np.savez("other.npz", x=255 - x.numpy(), y=y.numpy(), class_names=["a", "b", "c"])
    freeze = ("--reject", "posterior", "--threshold-data", "other.npz")
    assert examine("--out", "out", *freeze) == 0
    out = capsys.readouterr().out
    assert "24 images of other, 1 x 8 x 8" in out and "frozen on other: 24" in out
    record = read_examination("out/examination.json")
    of = record.norms["linf"].detector
    assert (of.images, of.frozen_on, of.images_given) == (24, 24, True)
    assert record.threshold_data == "other" and "--threshold-data other.npz" in record.command
    np.savez("named.npz", x=x.numpy(), y=y.numpy(), class_names=["a", "b", "d"])
    assert examine("--out", "more", *freeze, data="named.npz") == 1
    assert "the classes of other, which would freeze" in capsys.readouterr().err


def test_a_dry_run_says_the_cost_and_leaves_nothing(tmp_path, capsys):
    assert examine("--dry-run", "--out", "out") == 0
    assert "L-inf tests for masking: 8 images x" in capsys.readouterr().out
    assert not (tmp_path / "out").exists()


def test_stopped_after_every_attack_it_ends_with_the_same_record(capsys):
    assert examine("--out", "whole") == 0
    stops = 0
    while (status := examine("--out", "pieces", "--time-limit", "0.001s")) == UNFINISHED:
        stops += 1
        assert "the same command goes on from there" in capsys.readouterr().out
    assert status == 0 and stops >= 3

    assert content("pieces") == content("whole")


class Pretended:
    """A cluster with so many workers, which this machine's processes play."""

    address = "tcp://s:1"

    def __init__(self, workers):
        self.workers = workers

    @contextmanager
    def attacking(self, late, say):
        yield self.workers


def test_of_a_cluster_with_other_workers_it_goes_on_too(monkeypatch, capsys):
    """In as many parts as at the first start: what is kept is of those, and is found."""
    assert examine("--out", "whole", "--processes", "2") == 0

    def start(workers, *more):
        monkeypatch.setattr(module, "cluster_of", lambda *_: Pretended(workers))
        return examine("--out", "pieces", "--cluster", "tcp://s:1", *more)

    assert start(2, "--time-limit", "0.001s") == UNFINISHED
    kept = set(Path("pieces/partial").iterdir())
    capsys.readouterr()
    assert start(3, "--time-limit", "0.001s") == UNFINISHED
    said = capsys.readouterr().out
    assert "on 3 workers of tcp://s:1" in said and "in 2 parts, as at the first start" in said
    assert "PGD:" not in said and set(Path("pieces/partial").iterdir()) > kept
    assert start(1) == 0
    assert content("pieces") == content("whole") and not Path("pieces/partial").exists()


def test_a_cluster_with_nothing_kept_gets_a_part_a_worker(tmp_path):
    request = module.Request("mine.py:make", "images.npz")
    assert module._parts(tmp_path / "partial", request, 1) == 1
    assert module._parts(tmp_path / "partial", request, 4) == 4
    (tmp_path / "partial" / "examination-x.y.safetensors").touch()
    assert module._parts(tmp_path / "partial", replace(request, out="here"), 5) == 4
    assert module._parts(tmp_path / "partial", replace(request, seed=1), 5) == 5


@pytest.mark.slow
def test_killed_at_any_moment_it_ends_with_the_same_record(tmp_path):
    """Somebody pulls the plug, without a word to the process, a little later every time."""
    start = [sys.executable, "-m", "ldatlib", "examine", "mine.py:make", "--data", "images.npz"]
    start += ["--eps-linf", "8/255", "--eps-l2", "0.3", "--effort", "quick", "--images", "24"]
    environment = os.environ | {"PYTHONPATH": str(PROJECT), "OMP_NUM_THREADS": "1"}
    kept, killed = tmp_path / "pieces" / "partial", 0
    for parts in (1, 3, 5):
        process = subprocess.Popen([*start, "--out", "pieces"], env=environment)
        while process.poll() is None and len(list(kept.glob("*.safetensors"))) < parts:
            time.sleep(0.02)
        killed += process.poll() is None
        process.kill()
        process.wait()
    assert killed == 3
    for folder in ("pieces", "whole"):
        subprocess.run([*start, "--out", folder], env=environment, check=True)
    assert content("pieces") == content("whole")


def test_a_folder_of_pictures(tmp_path, small, capsys):
    x, y = small
    for row, (image, label) in enumerate(zip(x, y, strict=True)):
        folder = tmp_path / "pictures" / "test" / "abc"[int(label)]
        folder.mkdir(parents=True, exist_ok=True)
        save_image(image.float() / 255, folder / f"{row:02}.png")

    (tmp_path / "colour.py").write_text(
        MINE + "\n\ndef coloured():\n    net = Net()\n    return lambda x: net(x[:, :1])\n"
    )
    assert examine("--out", "out", data="pictures", source="colour.py:coloured") == 0
    record = read_examination("out/examination.json")
    assert record.clean_accuracy.value == 1 and record.class_names == ["a", "b"]


def labelled(model):
    """Images in colour, called what the model calls them: it has all of them right."""
    torch.manual_seed(1)
    x = torch.rand(12, 3, 8, 8)
    np.savez("colour.npz", x=x.numpy(), y=model.eval()(x).argmax(1).numpy())


def test_a_network_of_torchvision(small, capsys):
    namespace = {}
    exec(MINE, namespace)
    labelled(namespace["vision"]())
    assert examine("--out", "out", source="mine.py:vision", data="colour.npz") == 0
    # It comes in train mode, in which its batch norms would mix the images.
    assert "note: the model is in train mode" in capsys.readouterr().out
    record = read_examination("out/examination.json")
    assert record.clean_accuracy.value == 1 and record.ok
    assert not any(doubt.startswith("gate") for doubt in record.doubts)


def test_a_checkpoint_of_ours():
    config = NetworkConfig(num_classes=3, depth=10, width=4, stages=2)
    torch.manual_seed(2)
    net = build_network(config)
    labelled(net)
    about = {"kind": "model", "network": config.as_dict()}
    save_tensors(Path("net.safetensors"), net.state_dict(), about)
    assert examine("--out", "out", source="net.safetensors", data="colour.npz") == 0
    record = read_examination("out/examination.json")
    assert record.clean_accuracy.value == 1 and record.ok and record.weights
    assert not any(doubt.startswith("gate") for doubt in record.doubts)


def test_an_exported_program_is_the_network_it_was_made_of(small, capsys):
    """The same images fall, though its batches are of five and there are 24 images."""
    namespace = {}
    exec(MINE, namespace)
    net = namespace["Net"]()
    torch.export.save(torch.export.export(net, (torch.rand(5, 1, 8, 8),)), "net.pt2")
    assert examine("--out", "out", source="net.pt2") == 1
    assert "--trust" in capsys.readouterr().err
    assert examine("--out", "program", "--trust", source="net.pt2") == 0
    assert "exported for batches of 5" in capsys.readouterr().out
    assert examine("--out", "net") == 0
    program, net = (read_examination(f"{name}/examination.json") for name in ("program", "net"))
    assert program.norms["linf"].right == net.norms["linf"].right
    assert program.weights == net.weights is not None and program.ok


def test_images_of_a_sibling_join_the_tests(capsys):
    assert examine("--out", "out", "--sibling", "mine.py:quantised") == 0
    record = read_examination("out/examination.json")
    assert record.norms["linf"].tests == 13
    assert list(record.settings["siblings"]) == ["mine.py:quantised"]
    assert not any("transfer" in line for line in record.not_tried)
    assert "the sibling mine.py:quantised is a poor source of images" in capsys.readouterr().out


def test_normalisation_outside_is_told_from_normalisation_inside(capsys):
    assert examine("--out", "inside", source="mine.py:normalises") == 0
    inside = read_examination("inside/examination.json")
    assert inside.clean_accuracy.value == 1 and not any("input" in d for d in inside.doubts)
    assert examine("--out", "outside", source="mine.py:takes_bytes") == 0
    outside = read_examination("outside/examination.json")
    assert outside.clean_accuracy.value < 0.75 and "gate: input" in outside.doubts
    assert "make that a part of the model, lambda x: model(255 * x)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("function", "said"),
    [
        ("softmax", "probabilities"),
        ("quantised", "gradient is 0"),
        ("outside", "right"),
    ],
)
def test_what_is_odd_is_named_before_the_first_attack(capsys, function, said):
    examine("--out", "out", source=f"mine.py:{function}")
    out = capsys.readouterr().out
    assert said in out
    if "warning" in out:
        assert out.index("warning") < out.index("PGD: ")


def test_a_masked_model_is_not_believed(capsys):
    assert examine("--out", "out", source="mine.py:quantised") == 0
    assert "do not rest a claim" in capsys.readouterr().out
    record = read_examination("out/examination.json")
    assert "gate: gradient" in record.doubts and "gradients" in record.norms["linf"].alarms
    assert from_bits(record.norms["linf"].right).any()


def test_a_randomised_model_by_its_mean(capsys):
    assert examine("--out", "out", source="mine.py:dropout") == 1
    assert "eot=20" in capsys.readouterr().err
    assert examine("--out", "out", "--eot", "3", source="mine.py:dropout") == 0
    assert "mean of its probabilities over 3 passes" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"eps": ()}, "name a budget"),
        ({"eps": ("--eps-linf", "8")}, "8 of 255 levels are 8/255"),
        ({"eps": ("--eps-l2", "8")}, "write 128 / 255"),
        ({"source": "net.pt2"}, "can run any code; add --trust"),
        ({"source": "net.ts.pt"}, "write a function that loads it"),
        ({"more": ("--trust",)}, "there is none; drop it"),
        ({"more": ("--sibling", "mine.py:make")}, "is the model itself"),
        ({"more": ("--sibling", "mine.py:other")}, "has no other; it has Net"),
        ({"more": ("--sibling", "mine.py:make", "--sibling", "mine.py:make")}, "name each once"),
        ({"eps": ("--eps-linf", "eight")}, "eps_linf must be a number"),
        ({"data": "images"}, "no data 'images'"),
        ({"source": "weights.pth"}, "write a function that loads it"),
        ({"source": "mine.py:pair"}, r"pass lambda x: model(x)[0]"),
        ({"source": "mine.py:other"}, "has no other; it has Net"),
        ({"more": ("--effort", "huge")}, "unknown effort 'huge'"),
        ({"more": ("--reject", "entropy")}, "unknown score 'entropy'"),
        ({"more": ("--reject", "log_likelihood")}, "no likelihood"),
        ({"more": ("--reject", "posterior", "--accept", "95")}, "such as 0.95"),
        ({"more": ("--threshold-data", "images.npz")}, "add --reject SCORE"),
        (
            {"more": ("--reject", "posterior", "--threshold-data", "images.npz")},
            "all 24 images that would freeze",
        ),
        ({"more": ("--time-limit", "soon")}, "such as 9m"),
        ({"more": ("--processes", "0")}, "processes must be"),
        ({"more": ("--images", "0")}, "images must be"),
        ({"more": ("--batch-size", "0")}, "batch_size must be"),
        ({"more": ("--data-root", "x")}, "drop it"),
        ({"more": ("--out", "mine.py")}, "cannot write"),
    ],
)
def test_what_is_wrong_is_one_line_before_anything_is_computed(capsys, monkeypatch, change, said):
    monkeypatch.setattr("ldatlib.evaluation.examination.parts.worst_case", None)
    change = dict(change)
    assert examine("--out", "out", *change.pop("more", ()), **change) == 1
    found = capsys.readouterr()
    assert said in found.err and found.err.count("\n") == 1


def test_the_examination_of_another_model_is_not_replaced(capsys):
    assert examine("--out", "out") == 0
    assert examine("--out", "out", source="mine.py:softmax") == 1
    assert "out holds the examination of mine.py:make" in capsys.readouterr().err


def test_what_is_replaced_is_said_and_leaves_no_table_behind(capsys):
    """Of the same model, images, budgets and effort; a table of the detector would be the old's."""
    assert examine("--out", "out", "--reject", "mine.py:surest") == 0
    assert "replaces" not in capsys.readouterr().out and Path("out/tables/detector.csv").is_file()
    assert examine("--out", "out") == 0
    assert "out holds an examination of this model, which this one replaces" in (
        capsys.readouterr().out
    )
    assert not Path("out/tables/detector.csv").exists()
    assert Path("out/tables/verdict.csv").is_file()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"file": MINE.replace("manual_seed(5)", "manual_seed(6)")}, "make with other weights"),
        ({"more": ("--images", "20")}, "an examination on other images (24 of images)"),
        ({"eps": ("--eps-linf", "4/255")}, "under other budgets (L-inf 8/255)"),
        ({"more": ("--eps-l2", "0.3")}, "under other budgets (L-inf 8/255)"),
        ({"more": ("--effort", "standard")}, "of another effort (quick)"),
    ],
)
def test_a_finished_examination_is_not_replaced_by_another(tmp_path, capsys, change, said):
    assert examine("--out", "out") == 0
    before = Path("out/examination.json").read_bytes()
    capsys.readouterr()
    change = dict(change)
    if "file" in change:
        (tmp_path / "mine.py").write_text(change.pop("file"))
    assert examine("--out", "out", *change.pop("more", ()), **change) == 1
    error = capsys.readouterr().err
    assert said in error and "choose another folder with --out" in error
    assert error.count("\n") == 1 and Path("out/examination.json").read_bytes() == before
