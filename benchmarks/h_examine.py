"""(h) Examining an adversarially trained network, beside AutoAttack alone from its package.

The network is the demo's PGD-AT network (``python runner.py --only 02`` trains it), at the demo's
budgets, on the same test images. Here: ``examine`` at its standard effort, without a detector, on
as many processes of one thread as there are threads; AutoAttack is a part of it, beside Table 1's
attacks, the search from larger balls and the tests for masking. There: pyautoattack at its
defaults, one process of as many threads, apart from this one. Fewer images left are better: each
is an upper bound of the same number.
"""

from collections import defaultdict

import torch
from d_evaluation import PACKAGE_BATCH
from side_by_side import Apart, begin, demo_network, measure, parser, table

from ldatlib.attacks import frozen
from ldatlib.evaluation.examination.examine import examine
from ldatlib.evaluation.named_attacks import PACKAGE_NORMS
from ldatlib.evaluation.robustness import from_bits, predict, share
from ldatlib.training.checkpoint import load_model

ROUNDS = 3
_PARTS = {
    "table1": "Table 1's attacks",
    "search": "the search from larger balls",
    "autoattack": "AutoAttack",
    "masking": "the tests for masking",
}


def autoattack_alone(path, x, y, norm, eps, device):
    """In a process of its own: what the package makes of the images, at its defaults."""
    from pyautoattack import AutoAttack

    model, x, y = load_model(path).to(device), x.to(device), y.to(device)
    attack = AutoAttack(model, norm=PACKAGE_NORMS[norm], eps=eps, seed=0, device=device)
    attack.logger.setLevel("ERROR")

    def work() -> torch.Tensor:
        with frozen(model):
            return attack.run_standard_evaluation(x, y, batch_size=PACKAGE_BATCH)[0].cpu()

    return work


def by_part(of: dict) -> dict[str, float]:
    """Seconds of each part in one norm of an examination."""
    seconds: dict[str, float] = defaultdict(float)
    for turn in of["turns"]:
        seconds[turn["family"]] += turn["seconds"] or 0
    seconds["masking"] += of["masking"]["seconds"] if of["masking"] else 0
    return seconds


def main() -> None:
    options = parser(__doc__).parse_args()
    device = begin(options)
    run, path, model = demo_network(device)
    images, effort = (4, "quick") if options.quick else (300, "standard")
    x, y = run.test_images(images, device)
    processes = options.threads if device.type == "cpu" else 1
    for norm, eps in run.profile.budgets.items():
        left: dict[str, torch.Tensor] = {}
        parts: dict[str, float] = {}
        here = f"examine, {processes} process" + ("es" if processes > 1 else "")
        there = "AutoAttack alone, pyautoattack"

        def examined(norm=norm, eps=eps, left=left, parts=parts, here=here) -> None:
            found = examine(model, x, y, eps={norm: eps}, effort=effort, processes=processes).record
            left[here] = from_bits(found["norms"][norm]["right"])
            parts |= by_part(found["norms"][norm])

        apart = Apart(autoattack_alone, path, x.cpu(), y.cpu(), norm, eps, device)

        def alone(apart=apart, left=left, there=there) -> None:
            left[there] = (predict(model, apart().to(device)) == y).cpu()

        print(f"{norm} {eps:g}, {images} images\n")
        rounds = 1 if options.quick else min(options.rounds, ROUNDS)
        table(measure({here: examined, there: alone}, device, rounds), there, images)
        for name, right in left.items():
            s = share(right)
            print(f"{name}: {s['value']:.1%} [{s['low']:.1%}, {s['high']:.1%}] left")
        spent = ", ".join(f"{title} {parts[name]:.1f} s" for name, title in _PARTS.items())
        print(f"\nof examine's last round: {spent}\n")


if __name__ == "__main__":
    main()
