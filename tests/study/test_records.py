"""Records have a written shape: what is published fits it, what does not is named."""

import json

import msgspec
import pytest
from helpers import record, synthetic_record, whitebox

from ldatlib.errors import UserError
from ldatlib.files import write_json
from ldatlib.study import records
from ldatlib.study.keys import NUMERICS
from ldatlib.study.kinds import KINDS
from ldatlib.study.profiles import RESULTS

PUBLISHED = sorted((RESULTS / "cifar10-small" / "records").glob("*.json"))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "record.json"


def written(path, **changed):
    """A record's file with some of its fields changed; None takes a field away."""
    found = records.content(whitebox("10", {"linf_pgd": "00"})) | changed
    write_json(path, {key: value for key, value in found.items() if value is not None})


def test_every_kind_has_a_shape():
    assert set(records.RECORDS) == set(KINDS) == set(NUMERICS)


def test_every_published_record_loads():
    kinds = {records.read(path).kind for path in PUBLISHED}
    # Table 1's attacks without its columns are for machines of their own.
    assert kinds == set(records.RECORDS) - {"worst_case"}


def test_what_is_read_is_what_was_written(path):
    for found in (whitebox("10", {"linf_pgd": "00"}), synthetic_record()):
        write_json(path, records.content(found))
        assert records.read(path) == found
        assert records.read(path, type(found)).title == "LDAT"
    with pytest.raises(AttributeError):
        found.title = "frozen"


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"kind": "whitbox"}, "unknown kind 'whitbox'; known: train, whitebox"),
        ({"kind": ["whitebox"]}, "unknown kind"),
        ({"kind": None}, "unknown kind None"),
        ({"numerics": None}, "missing required field `numerics`"),
        ({"accuracy": 0.5}, "unknown field `accuracy`"),
        ({"clean_right": "yes"}, r"regex .* at `\$.clean_right`"),
        ({"clean_accuracy": {"value": 1.5, "low": 0, "high": 1, "count": 1}}, "clean_accuracy.val"),
        ({"attacks": {"linf_pgd": {}}}, r"at `\$.attacks"),
    ],
)
def test_another_shape_is_one_line_that_names_file_and_field(path, changed, says):
    written(path, **changed)
    with pytest.raises(UserError, match=says) as refusal:
        records.read(path)
    assert "\n" not in str(refusal.value) and str(path) in str(refusal.value)
    assert "delete it" in str(refusal.value)


def test_a_cut_altered_missing_or_foreign_file_is_named(path):
    with pytest.raises(UserError, match="cannot read the record"):
        records.read(path)
    written(path)
    whole = path.read_text()
    for content, says in (
        (whole[:-20], "cannot read the record"),
        (whole.replace('"seed": 0', '"seed": 1'), "was altered"),
        ("[1, 2]", "no record of ours"),
        (json.dumps({"kind": "whitebox"}), "no checksum"),
    ):
        path.write_text(content)
        with pytest.raises(UserError, match=says):
            records.read(path)


def test_a_record_of_another_kind_is_refused(path):
    written(path)
    with pytest.raises(UserError, match="is of kind whitebox"):
        records.read(path, records.Detection)


def test_who_writes_a_wrong_record_is_told_the_field():
    good = records.content(synthetic_record())
    records.check("detection", good)
    # Tuples, and keys that are numbers, are what JSON makes of them.
    records.check("detection", good | {"settings": {"images": (1, 2), "eps": {0.5: 1}}})
    for changed, says in (
        ({"images": -1}, "images"),
        ({"scores": {"posterior": {}}}, "thresholds"),
        ({"extra": 1}, "unknown field `extra`"),
        ({"kind": "train"}, "says that it is of kind 'train'"),
    ):
        with pytest.raises(TypeError, match=says):
            records.check("detection", good | changed)
    with pytest.raises(ValueError, match="not JSON compliant"):
        records.check("detection", good | {"seconds": float("nan")})


def test_the_schema_is_that_of_the_structures():
    schema = records.schema()
    assert set(schema["kinds"]) == set(records.RECORDS)
    assert schema["kinds"]["sweep_eps"] == schema["kinds"]["sweep_steps"]
    share = schema["$defs"]["Share"]
    assert share["additionalProperties"] is False and set(share["required"]) == {
        *("value", "low", "high", "count")
    }
    assert share["properties"]["value"]["maximum"] == 1


def test_every_structure_and_field_says_what_it_is():
    own = {"provenance", "self_checks", "points", "tests", "numbers", "embedding", "effort"}
    plain = own | {"settings", "surface", "passed", "black_box"}
    for name, structure in records.schema()["$defs"].items():
        assert structure["description"], name
        for field, shape in structure["properties"].items():
            assert shape.get("description") or field in plain, (name, field)


def test_keys_with_commas_have_names():
    names = {field.name: field.encode_name for field in msgspec.structs.fields(records.Features)}
    assert names["numbers"] == "numbers"
    numbers = dict.fromkeys(("moved", "probe", "probe low", "probe high"), 0.5)
    for kind in ("natural", "adversarial"):
        numbers |= {f"to own centroid, {kind}": 0.1, f"silhouette, {kind}": -0.2}
    flat = {"natural": [[0, 1]], "adversarial": [[1, 0]], "y": [3]}
    found = record("features", numbers=numbers, embedding=flat, images=1)
    assert found.numbers.own_centroid_natural == 0.1
    assert records.content(found)["numbers"] == numbers
