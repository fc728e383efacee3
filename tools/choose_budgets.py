"""Choose the demo's budgets on validation images: the rule, and the figures behind it.

PGD-AT is trained at each candidate L-inf budget. The chosen budget is the smallest at which it
keeps between 30% and 70% of the validation images under PGD of 40 steps; then the same for L2,
and of four step sizes of C&W the one that leaves fewest. Test images play no part.

    python tools/choose_budgets.py          prints the table, writes data/results/demo-budgets.json
"""

import sys
import tempfile
from pathlib import Path

from joblib import Parallel, delayed

PROJECT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(PROJECT))

LINF = [level / 16 for level in (2, 3, 4, 5)]
L2 = [0.5, 0.75, 1.0, 1.25, 1.5]
CW_STEP_SIZES = [0.01, 0.05, 0.1, 0.2]


def measure(eps: float) -> dict:
    """PGD-AT trained at this budget: clean, PGD and C&W accuracy on validation images."""
    import torch

    from ldatlib import Attack, evaluate, open_run

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        run = open_run("demo", {"eps_linf": eps}, folder, jobs=1)
        training = run.training("standard")
        run.records("train", [training], say=lambda line: None)
        model, (x, y) = run.model(training), run.dataset.split("val")
    steps = run.profile.steps

    def share(attack: Attack) -> float:
        record = evaluate(model, x, y, [attack]).record
        return record["attacks"][attack.key]["robust_accuracy"]["value"]

    return {
        "eps_linf": eps,
        "clean": evaluate(model, x, y, []).record["clean_accuracy"]["value"],
        "linf_pgd": share(Attack("pgd", "linf", eps, steps)),
        "l2_pgd": {str(e): share(Attack("pgd", "l2", e, steps)) for e in L2},
        "l2_cw": {
            str(size): share(Attack("cw", "l2", run.profile.eps_l2, steps, cw_step_size=size))
            for size in CW_STEP_SIZES
        },
        "fingerprint": run.dataset.fingerprint,
    }


def first_within(candidates: dict[float, float]) -> float | None:
    return next((eps for eps, value in candidates.items() if 0.3 <= value <= 0.7), None)


def main() -> None:
    from ldatlib.execution import default_device
    from ldatlib.files import write_json
    from ldatlib.study.provenance import provenance
    from ldatlib.study.schedule import default_processes

    rows = Parallel(n_jobs=default_processes())(delayed(measure)(eps) for eps in LINF)
    for row in rows:
        print(
            f"L-inf {row['eps_linf']:.4f}: clean {row['clean']:.1%}, PGD {row['linf_pgd']:.1%}; L2 "
            + ", ".join(f"{e}: {v:.1%}" for e, v in row["l2_pgd"].items())
            + "; C&W "
            + ", ".join(f"{e}: {v:.1%}" for e, v in row["l2_cw"].items())
        )
    eps_linf = first_within({row["eps_linf"]: row["linf_pgd"] for row in rows})
    chosen = next(row for row in rows if row["eps_linf"] == eps_linf)
    choice = {
        "eps_linf": eps_linf,
        "eps_l2": first_within({float(e): v for e, v in chosen["l2_pgd"].items()}),
        "cw_step_size": float(min(chosen["l2_cw"], key=chosen["l2_cw"].get)),
    }
    print("chosen:", choice)
    path = PROJECT / "data" / "results" / "demo-budgets.json"
    content = {"split": "val", "defence": "standard", "seed": 0, "chosen": choice, "rows": rows}
    write_json(path, {**content, "provenance": provenance(default_device())})


if __name__ == "__main__":
    main()
