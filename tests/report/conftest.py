import pytest

from ldatlib import open_run


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    """What is published: records of every kind, without a second of training."""
    return open_run("cifar10-published", out=tmp_path_factory.mktemp("published"), jobs=1)
