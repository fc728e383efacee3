"""The smallest run that still has every part, and where the project is."""

from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
TINY = {
    "depth": 4,
    "stages": 1,
    "width": 8,
    "epochs": 3,
    "batch_size": 64,
    "val_every": 1,
    "attack_steps": 2,
    "val_size": 60,
    "test_size": 60,
    "steps": 2,
    "eval_images": 20,
    "saved_images": 10,
    "sweep_images": 10,
    "sweep_eps": (1.0, 1.5),
    "sweep_steps": (1, 2),
    "sweep_cw_steps": (1, 2),
    "plane_epochs": 1,
    "defences": ("standard", "ldat"),
}


def silent(line):
    """Say nothing about what was computed."""
