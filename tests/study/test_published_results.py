"""What is published: whole records of one data set, and pages that say what the records say."""

import subprocess
import sys

import pytest
import torch
from tiny import PROJECT

from ldatlib import load_model, open_run
from ldatlib.files import read_json
from ldatlib.report import tables
from ldatlib.study.notebooks import COMPUTES
from ldatlib.study.profiles import RESULTS
from ldatlib.study.records import read
from ldatlib.study.switches import CHOSEN_SWITCH

sys.path.insert(0, str(PROJECT / "tools"))
import cifar_pages  # noqa: E402

pytestmark = pytest.mark.slow

FOLDER = RESULTS / "cifar10-small"
RECORDS = sorted((FOLDER / "records").glob("*.json"))
# More would make a clone slow.
MOST_BYTES = 25 * 10**6


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return open_run("cifar10-published", out=tmp_path_factory.mktemp("published"), jobs=1)


def test_there_are_records():
    kinds = {path.name.partition("-")[0] for path in RECORDS}
    assert {"train", "whitebox", "basic", "validation"} <= kinds


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.stem)
def test_a_record_says_where_it_comes_from(path):
    record = read(path)
    data = read_json(FOLDER / "data.json")
    assert record.dataset == "CIFAR-10 (JPEG copy)" == data["title"]
    assert record.fingerprint == data["fingerprint"]
    assert record.seconds > 0 and record.key in path.name
    source = record.provenance
    assert source.revision and source.device and source.libraries["torch"]
    assert getattr(record, "ok", True)
    if record.kind == "train":
        assert len(path.with_suffix(".jsonl").read_text().splitlines()) == record.last["epoch"]


def test_all_of_table_1_is_there(run):
    """Every defence of the profile, attacked with every attack on the same images."""
    trainings = run.trainings()
    assert {"standard", "trades", "mart", "lbgat", "l2_at", "ldat"} <= {
        training.name for training in trainings
    }
    keys = {attack.key for attack in run.table1_attacks()}
    for record in run.records("whitebox", trainings):
        assert set(record.attacks) == keys
        assert record.clean_accuracy.count == run.profile.eval_images


def test_every_notebook_finds_its_results_and_shows_every_training(run):
    """What the profile names of the study is what there is: no more, no less."""
    # Of the networks in two dimensions, which 01 draws, nothing is published.
    numbers = [number for number in COMPUTES if number != "01"]
    assert [job.path.name for n in numbers for job in run.plan(n) if not job.done] == []
    widest = cifar_pages.whole(run)
    trained = {t.label for t in widest.ablations() if widest.jobs_of("train", [t])[0].done}
    assert trained == {t.label for t in run.ablations()}


def test_weights_are_small_and_load(run):
    files = [path for path in FOLDER.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < MOST_BYTES
    for training in run.select_seed(run.trainings()):
        model = load_model(run.checkpoint_path(training))
        with torch.no_grad():
            assert model(torch.full((2, 3, 32, 32), 0.5)).isfinite().all()


def test_saved_attacks_fool_the_published_weights(run):
    """Weights, images and records belong together: clean images are judged as recorded."""
    for training, record in zip(
        run.trainings(), run.records("whitebox", run.trainings()), strict=True
    ):
        saved, model = run.adversarial(training), run.model(training)
        with torch.no_grad():
            right = (model(saved["x"]).argmax(1) == saved["y"]).tolist()
        recorded = [bit == "1" for bit in record.clean_right[: len(right)]]
        # The images are float16 here; an image on the boundary may change sides.
        assert sum(a != b for a, b in zip(right, recorded, strict=True)) <= 1


def test_the_default_for_new_users_is_what_validation_chose(run):
    done = {
        name: training
        for name, training in run.likelihood_trainings().items()
        if run.jobs_of("validation", [training])[0].done
    }
    assert {"as written", "lambda 0", CHOSEN_SWITCH, "lambda 0.1"} <= set(done)
    validated = run.records("validation", list(done.values()))
    assert tables.chosen_by_validation(list(done), validated, CHOSEN_SWITCH) == CHOSEN_SWITCH


def test_pages_say_what_the_records_say():
    command = [sys.executable, str(PROJECT / "tools" / "published_tables.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_runner_opens_what_is_published(tmp_path):
    command = [sys.executable, str(PROJECT / "runner.py"), "--profile", "cifar10-published"]
    done = subprocess.run(
        [*command, "--only", "08", "--out", str(tmp_path)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "figures" / "fig9.png").is_file()
