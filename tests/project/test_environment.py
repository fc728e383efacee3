"""environment.yml, uv.lock and pyproject.toml name the same packages and versions."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
FRESHEN = "run `uv lock`, then `python tools/environment.py`"

Versions = dict[str, set[str]]


def locked_versions(lock: str) -> Versions:
    """The third-party packages of a uv.lock; one may be locked at several versions."""
    versions: Versions = {}
    for package in tomllib.loads(lock)["package"]:
        if "registry" in package["source"]:
            versions.setdefault(package["name"], set()).add(package["version"])
    return versions


def pip_requirements(environment: str) -> list[str]:
    (pip,) = [d for d in yaml.safe_load(environment)["dependencies"] if isinstance(d, dict)]
    return pip["pip"]


def pinned_versions(requirements: list[str]) -> Versions:
    versions: Versions = {}
    for line in requirements:
        requirement = Requirement(line)
        (pin,) = requirement.specifier
        assert pin.operator == "==", f"{line}: not an exact pin"
        versions.setdefault(canonicalize_name(requirement.name), set()).add(pin.version)
    return versions


def environment_pins(environment: str) -> Versions:
    return pinned_versions([r for r in pip_requirements(environment) if not r.startswith("-")])


def differences(pins: Versions, lock: Versions) -> list[str]:
    return [
        f"{name}: pinned {sorted(pins.get(name, []))}, locked {sorted(lock.get(name, []))}"
        for name in sorted(pins.keys() | lock.keys())
        if pins.get(name) != lock.get(name)
    ]


def named_requirements(pyproject: str) -> list[Requirement]:
    """What pyproject.toml names: for all users, in extras, and in groups for development."""
    content = tomllib.loads(pyproject)
    lines = [*content["project"]["dependencies"]]
    for some in (content["project"]["optional-dependencies"], content["dependency-groups"]):
        lines += sum(some.values(), [])
    return [Requirement(line) for line in lines]


@pytest.fixture(scope="module")
def lock() -> str:
    return (ROOT / "uv.lock").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def environment() -> str:
    return (ROOT / "environment.yml").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def pyproject() -> str:
    return (ROOT / "pyproject.toml").read_text(encoding="utf-8")


def test_environment_pins_exactly_the_lock(environment, lock):
    found = differences(environment_pins(environment), locked_versions(lock))
    assert not found, f"environment.yml differs from uv.lock, {FRESHEN}: {found}"


def test_environment_takes_only_python_and_pip_from_conda(environment):
    content = yaml.safe_load(environment)
    assert "conda-forge" in content["channels"]
    names = [re.split("[=<> ]", d)[0] for d in content["dependencies"] if isinstance(d, str)]
    assert names == ["python", "pip"]


def test_environment_ends_with_the_project_itself(environment):
    assert pip_requirements(environment)[-1] == "-e ."


def test_every_named_dependency_is_locked(pyproject, lock):
    named = {canonicalize_name(r.name) for r in named_requirements(pyproject)} - {"ldatlib"}
    assert {"torch", "torchvision", "jupyterlab", "pytest", "ruff", "uv"} <= named
    missing = named - locked_versions(lock).keys()
    assert not missing, f"pyproject.toml names what uv.lock lacks, {FRESHEN}: {sorted(missing)}"


def test_lock_knows_the_bounds_of_pyproject(pyproject, lock):
    """A changed bound that was never locked shows here, as uv.lock repeats the bounds."""
    (project,) = [p for p in tomllib.loads(lock)["package"] if p["name"] == "ldatlib"]
    metadata = project["metadata"]
    locked = {
        (canonicalize_name(r["name"]), r.get("specifier", ""))
        for r in sum(metadata["requires-dev"].values(), metadata["requires-dist"])
    }
    named = {(canonicalize_name(r.name), str(r.specifier)) for r in named_requirements(pyproject)}
    assert named == locked, f"uv.lock is older than pyproject.toml, {FRESHEN}"


def test_lock_names_public_sources_only(lock):
    hosts = set(re.findall(r'(?:registry|url) = "([^"]*//[^/"]*|[^"]*)', lock))
    assert hosts == {"https://pypi.org", "https://files.pythonhosted.org"}


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('"torch==2.14.1"', '"torch==2.13.0"', "torch: pinned ['2.13.0'], locked ['2.14.1']"),
        ('    - "torch==2.14.1"\n', "", "torch: pinned [], locked ['2.14.1']"),
        ('"torch==2.14.1"', '"torch==2.14.1"\n    - "left-over==1"', "left-over: pinned ['1']"),
    ],
    ids=["other version", "missing from environment.yml", "missing from uv.lock"],
)
def test_a_difference_is_found(environment, lock, old, new, told):
    assert environment.count(old) == 1
    changed = environment_pins(environment.replace(old, new))
    (difference,) = differences(changed, locked_versions(lock))
    assert difference.startswith(told)


def test_a_loose_pin_is_refused(environment):
    with pytest.raises(AssertionError, match="not an exact pin"):
        environment_pins(environment.replace("torch==2.14.1", "torch>=2.14.1"))
