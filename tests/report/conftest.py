import pytest

from ldatlib import open_run
from ldatlib.study.profiles import RESULTS
from ldatlib.study.records import read


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    """What is published: records of every kind, without a second of training."""
    return open_run("cifar10-published", out=tmp_path_factory.mktemp("published"), jobs=1)


@pytest.fixture(scope="session")
def earlier(run):
    """Published records of an earlier numerics version: not of the run, but of its shape."""

    def records(kind, trainings):
        found = {}
        for path in sorted((RESULTS / "cifar10-small" / "records").glob(f"{kind}-*.json")):
            record = read(path)
            found.setdefault(record.defence, record)
        return [found[training.name] for training in trainings]

    return records
