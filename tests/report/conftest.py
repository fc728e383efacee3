import pytest

from ldatlib import open_run


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    """What is published: records of every kind, without a second of training."""
    return open_run("cifar10-published", out=tmp_path_factory.mktemp("published"), jobs=1)


@pytest.fixture(scope="session")
def alike(run):
    """Published records; of what is not measured yet those of the profile's base: of one shape."""

    def records(kind, trainings):
        base = run.training(run.profile.base)
        there = [t if run.jobs_of(kind, [t])[0].done else base for t in trainings]
        return run.records(kind, there)

    return records
