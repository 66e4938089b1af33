import json
import struct
from pathlib import Path
from typing import Any

import pytest
from fastvid_accel import AsymRnR, AsymRnRConfig
from fastvid_accel.asymrnr.cost import Shape
from fastvid_accel.asymrnr.released import RELEASED, STRENGTHS, released
from fastvid_accel.asymrnr.schedule import Plan, make_plan, predict
from fastvid_accel.asymrnr.tier_table import read_tiers

TEXT = {"cogvideox-2b": 226, "cogvideox-5b": 226, "hunyuanvideo": 256, "fastvideo-hunyuan": 256, "mochi-1": 256}
# share of cells with fewer queries, with fewer values, and of attention's operations that is left
FACTS = {
    ("cogvideox-2b", "base"): (0.267, 0.300, 0.767),
    ("cogvideox-2b", "fast"): (0.267, 0.410, 0.715),
    ("cogvideox-5b", "base"): (0.286, 0.174, 0.790),
    ("cogvideox-5b", "fast"): (0.286, 0.293, 0.747),
    ("hunyuanvideo", "base"): (0.138, 0.392, 0.765),
    ("hunyuanvideo", "fast"): (0.305, 0.392, 0.718),
    ("fastvideo-hunyuan", "base"): (0.133, 0.411, 0.762),
    ("fastvideo-hunyuan", "fast"): (0.133, 0.411, 0.723),
    ("mochi-1", "base"): (0.233, 0.115, 0.816),
    ("mochi-1", "fast"): (0.277, 0.115, 0.790),
}


def plan_of(accelerator: AsymRnR) -> Plan:
    table = accelerator.table
    assert table is not None
    return make_plan(accelerator.config, table, grid=table.grid, num_blocks=table.num_blocks, num_steps=table.num_steps)


@pytest.mark.parametrize("model", RELEASED)
@pytest.mark.parametrize("strength", STRENGTHS)
def test_where_the_released_settings_reduce_and_how_much_attention_they_leave(model: str, strength: str) -> None:
    accelerator = released(model, strength)
    plan = plan_of(accelerator)
    assert plan.clamps == ()
    cells = [cell for row in plan.cells for cell in row]
    fewer_q = sum(cell.q < plan.num_tokens for cell in cells) / len(cells)
    fewer_v = sum(cell.kv < plan.num_tokens for cell in cells) / len(cells)
    shape = Shape(batch=1, heads=1, head_width=64, num_tokens=plan.num_tokens, num_text=TEXT[model])
    cost = predict(plan, shape, metric="euclidean")
    assert (round(fewer_q, 3), round(fewer_v, 3)) == FACTS[model, strength][:2]
    assert cost.attention / cost.dense_attention == pytest.approx(FACTS[model, strength][2], abs=6e-4)


def test_other_names_are_refused() -> None:
    with pytest.raises(ValueError, match="expected one of cogvideox-2b"):
        released("sora")


def test_settings_are_saved_and_loaded(tmp_path: Path) -> None:
    path = tmp_path / "settings.json"
    for accelerator in (AsymRnR(), released("mochi-1")):
        accelerator.save(path)
        assert AsymRnR.load(path) == accelerator


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "is no file"),
        ("{", "is no JSON"),
        ("{}", "is not of the format"),
        ('{"format": "fastvid-asymrnr/0", "settings": {}, "table": null}', "is not of the format"),
        ('{"format": "fastvid-asymrnr/1", "settings": {}, "table": null}', "`settings` lack"),
    ],
)
def test_files_that_hold_no_settings_are_refused(tmp_path: Path, text: str | None, message: str) -> None:
    path = tmp_path / "settings.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ValueError, match=message):
        AsymRnR.load(path)


NOT_A_NUMBER = float("nan")
WRONG_TYPES: list[tuple[str, str, object]] = [
    *(
        ("settings", name, wrong)
        for name in ("q", "stride", "window", "seed", "first_block", "dense_matching", "min_gain")
        for wrong in (None, "x", 1.5, NOT_A_NUMBER, [[None]])
    ),
    *(
        ("table", name, wrong)
        for name in ("model", "grid", "stride", "num_steps", "window", "q")
        for wrong in (0, 1.5, [], [[None]], NOT_A_NUMBER)
    ),
]


@pytest.mark.parametrize(("part", "name", "wrong"), WRONG_TYPES)
def test_settings_of_another_type_are_refused(tmp_path: Path, part: str, name: str, wrong: object) -> None:
    path = tmp_path / "settings.json"
    released("mochi-1").save(path)
    facts = json.loads(path.read_text())
    facts[part][name] = wrong
    path.write_text(json.dumps(facts))
    with pytest.raises(ValueError, match="`"):
        AsymRnR.load(path)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\xff\xfe", "is no text"),
        (100_000 * b"[", "is no JSON"),
        (b'{"format": "fastvid-asymrnr/1", "settings": [], "table": null}', "expected an object of settings"),
        (b'{"format": "fastvid-asymrnr/1", "settings": {}, "table": [1]}', "`table` is"),
    ],
)
def test_files_that_are_built_wrongly_are_refused(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "settings.json"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=message):
        AsymRnR.load(path)


def test_settings_of_another_model_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "settings.json"
    released("mochi-1").save(path)
    with pytest.raises(ValueError, match="this one is 'mine'; calibrate"):
        AsymRnR.load(path, model="mine")


def write_tiers(path: Path, tensors: dict[str, list[list[int]]], dtype: str = "I64") -> None:
    """As the safetensors library would."""
    header: dict[str, Any] = {"__metadata__": {"by": "a test"}}
    data = b""
    for name, rows in tensors.items():
        flat = [value for row in rows for value in row]
        first = len(data)
        data += struct.pack(f"<{len(flat)}q", *flat)
        header[name] = {"dtype": dtype, "shape": [len(rows), len(rows[0])], "data_offsets": [first, len(data)]}
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def test_tables_of_tiers_become_similarities(tmp_path: Path) -> None:
    path = tmp_path / "tiers.safetensors"
    write_tiers(path, {"q": [[7, 7, 0, 0], [9, 9, 3, 3]], "k": [[1, 1, 1, 1]] * 2, "v": [[0, 0, 8, 8], [5, 5, 5, 5]]})
    where: dict[str, Any] = {"model": "theirs", "grid": (4, 4, 4), "stride": (2, 2, 2), "metric": "euclidean"}
    table = read_tiers(path, levels=10, window=2, **where)
    assert table.q == ((0.7, 0.0), (0.9, 0.3))
    assert table.kv == ((0.0, 0.8), (0.5, 0.5))
    assert table.h is None
    accelerator = AsymRnR(AsymRnRConfig(q=((0.7, 0.5),), kv=((0.8, 0.3),), window=2), table)
    assert [[cell.q for cell in row] for row in plan_of(accelerator).cells] == [[32, 64], [32, 64]]
    for changes, message in (
        ({"levels": 9}, "has tiers from 3 to 9"),
        ({"levels": 10, "window": 4}, "changes within a window"),
    ):
        with pytest.raises(ValueError, match=message):
            read_tiers(path, **({"window": 2} | where | changes))


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "tiers.safetensors"
    where: dict[str, Any] = {"levels": 10, "model": "theirs", "grid": (4, 4, 4), "stride": (2, 2, 2), "window": 2}
    with pytest.raises(ValueError, match="no safetensors file"):
        read_tiers(path, metric="euclidean", **where)
    path.write_bytes(b"something else")
    with pytest.raises(ValueError, match="no safetensors file"):
        read_tiers(path, metric="euclidean", **where)
    write_tiers(path, {"q": [[1, 1]]}, dtype="F64")
    with pytest.raises(ValueError, match="expected I64"):
        read_tiers(path, metric="euclidean", **where)
    write_tiers(path, {"q": [[1, 1]]})
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(ValueError, match="cut off"):
        read_tiers(path, metric="euclidean", **where)
