"""Tools that measure what settings were chosen by: they still speak the library's language."""

import importlib
import sys

import numpy as np
import pytest
from tiny import PROJECT

TINY = {"depth": 8, "width": 4, "eval_images": 20, "test_size": 20, "val_size": 20}
COUNT = 4000


@pytest.fixture
def tool(monkeypatch):
    monkeypatch.setattr(sys, "path", [str(PROJECT / "tools"), *sys.path])
    return importlib.import_module


@pytest.fixture
def images(tmp_path):
    """Two colours, enough of them for the two timings of ``choose_network``."""
    rng, path = np.random.default_rng(0), tmp_path / "images.npz"
    y = np.arange(COUNT) % 2
    x = (rng.integers(0, 100, (COUNT, 4, 4, 3)) + 150 * y[:, None, None, None]).astype(np.uint8)
    np.savez(path, x_train=x, y_train=y, x_test=x[:40], y_test=y[:40])
    return {"dataset": "npz", "data_root": str(path)}


@pytest.mark.slow
def test_networks_are_compared_on_validation_images(tool, images, monkeypatch):
    network = tool("choose_network")
    monkeypatch.setattr(network, "TRAIN_SIZE", 128)
    monkeypatch.setattr(network, "VAL_SIZE", 40)
    row = network.measure((6, 4, 2, 2), images, seconds=0.01)
    assert row["epochs"] >= 1 and row["parameters"] > 0 and row["train_size"] == 128
    assert 0 <= row["linf_pgd"]["value"] <= row["clean"]["value"] <= 1


@pytest.mark.slow
def test_precisions_are_compared_over_seeds(tool, tmp_path):
    precision = tool("compare_precision")
    rows = []
    for name in precision.PRECISIONS:
        more, facts = precision.measure(name, 3, tmp_path / name, TINY | {"epochs": 1})
        rows += more
    assert facts["test_images"] == 20 and len(rows) == 2 * 2 * 3
    assert {row["seed"] for row in rows} == {0, 1, 2}
    assert all(row["linf_pgd"] <= row["natural"] for row in rows)
    found = precision.summary(rows)
    assert [row["defence"] for row in found] == ["standard"] * 3 + ["ldat"] * 3


@pytest.mark.slow
def test_the_way_back_starts_from_the_collapsed_network(tool, images, monkeypatch, tmp_path):
    way_back = tool("no_way_back")
    monkeypatch.setattr(way_back, "COLLAPSE_EPOCHS", 2)
    monkeypatch.setattr(way_back, "EPOCHS", 1)
    sizes = {"width": 4, "train_size": 512, "val_size": 40, "test_size": 20}
    settings = images | sizes | {"lr": 0.001, "precision": "float32"}
    found = way_back.measure(settings, tmp_path)
    logs = found["logs"]
    assert [len(logs[name]) for name in ("collapse", "back", "fresh")] == [2, 1, 1]
    assert {line["lambda"] for line in logs["collapse"]} == {1.0}
    # Slow as it learns here, centroids stay about where a training begins.
    last, back, fresh = (logs[name][-1]["smallest_centroid_distance"] for name in logs)
    assert abs(back - last) < abs(fresh - last) / 2 and logs["back"][0]["lambda"] == 0.0
    assert found["fingerprint"] and found["val_images"] == 40
