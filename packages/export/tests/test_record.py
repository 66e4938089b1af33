import hashlib
import json
import random
from dataclasses import replace
from typing import Any

import pytest
from fastvid_export import AxisRange, EngineError
from fastvid_export.profile import Profile
from fastvid_export.record import EngineRecord, FileRecord, OutputRecord, TensorRecord

PROFILE = Profile(name="dense", axes={"b": AxisRange(minimum=1, example=2, maximum=4)})
RECORD = EngineRecord(
    name="fake",
    graph="a" * 64,
    weights="b" * 64,
    backend="tensorrt_rtx",
    backend_version="1.7.1",
    target=("sm80", "sm89"),
    precision="float16",
    flavour="fused",
    options={"opset": 23, "tf32": False},
    versions={"torch": "2.13.0"},
    inputs=(TensorRecord(name="x", dtype="float16", shape=("b", 4, (2, "b"))),),
    results=(OutputRecord(name="y", dtype="float16", dims=(None, 4)),),
    profiles=(PROFILE, replace(PROFILE, name="merged")),
    files=(FileRecord(name="engine.plan", sha256="c" * 64, size=7),),
    parity={"passed": True},
    parity_of="graph",
    seconds=1.5,
    created="2026-01-01T00:00:00+00:00",
)


def test_it_reads_what_it_wrote() -> None:
    assert EngineRecord.from_json(RECORD.to_json()) == RECORD
    assert RECORD.outputs == ("y",)
    assert RECORD.inputs[0].concrete({"b": 3}) == (3, 4, 6)


@pytest.mark.parametrize("field", ["files", "seconds", "created", "parity", "key", "precision", "profiles"])
def test_a_record_that_was_edited_is_refused(field: str) -> None:
    content = json.loads(RECORD.to_json())
    content[field] = None
    with pytest.raises(EngineError, match="was changed after it was written"):
        EngineRecord.from_json(json.dumps(content))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is damaged"),
        ("[]", "names no format"),
        ('{"format": 2}', "has format 2, this version reads 1"),
        ("[" * 100_000, "is damaged"),
        ('{"format": 1, "seconds": NaN}', "is damaged"),
    ],
)
def test_other_texts_are_refused(text: str, message: str) -> None:
    with pytest.raises(EngineError, match=message):
        EngineRecord.from_json(text)


@pytest.mark.parametrize(
    "change",
    [
        {"profiles": [{"name": "dense", "axes": {"b": [1, 2]}}]},
        {"profiles": [{"name": 5, "axes": {}}]},
        {"inputs": [{"name": "x", "dtype": "float16"}]},
        {"files": [{"name": "engine.plan"}]},
        {"parity": 3},
        {"more": 1},
    ],
)
def test_a_record_of_another_form_is_refused_even_where_its_digest_fits(change: dict[str, Any]) -> None:
    content = json.loads(RECORD.to_json()) | change
    del content["digest"]
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    digest = hashlib.sha256(text.encode()).hexdigest()
    with pytest.raises(EngineError, match="is damaged"):
        EngineRecord.from_json(json.dumps(content | {"digest": digest}))


def test_one_flipped_bit_is_refused_or_changes_nothing() -> None:
    """A space may become another kind of space; all else counts."""
    text, draw = RECORD.to_json().encode(), random.Random(0)
    for _ in range(2000):
        spoiled = bytearray(text)
        spoiled[draw.randrange(len(text))] ^= 1 << draw.randrange(8)
        try:
            record = EngineRecord.from_json(spoiled.decode(errors="replace"))
        except EngineError:
            continue
        assert record == RECORD


@pytest.mark.parametrize(
    "change",
    [
        {"name": "other"},
        {"inputs": (replace(RECORD.inputs[0], shape=("b", 4, (3, "b"))),)},
        {"results": (replace(RECORD.results[0], dims=(None, 5)),)},
        {"graph": "0" * 64},
        {"weights": "0" * 64},
        {"backend": "tensorrt"},
        {"backend_version": "1.7.2"},
        {"target": ("sm80",)},
        {"precision": "bfloat16"},
        {"flavour": "portable"},
        {"options": {"opset": 22, "tf32": False}},
        {"versions": {"torch": "2.12.0"}},
        {"profiles": (PROFILE,)},
    ],
)
def test_the_key_is_of_all_that_decides_what_is_built(change: dict[str, Any]) -> None:
    assert replace(RECORD, **change).key != RECORD.key


def test_the_key_is_not_of_what_came_of_it_nor_of_the_order_of_profiles() -> None:
    outcome: dict[str, Any] = {"files": (), "seconds": 2.0, "created": "later", "parity": {}, "parity_of": "engine"}
    assert replace(RECORD, **outcome).key == RECORD.key
    assert replace(RECORD, profiles=RECORD.profiles[::-1]).key == RECORD.key
