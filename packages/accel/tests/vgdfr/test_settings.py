import json
from pathlib import Path

import pytest
from fastvid_accel import VGDFR, VGDFRConfig
from fastvid_accel.vgdfr.ifnet import IFNet, IFNetConfig
from fastvid_accel.vgdfr.motion import MotionInterpolator
from fastvid_accel.vgdfr.restore import LinearInterpolator


def written(folder: Path, **facts: object) -> Path:
    file = folder / "vgdfr.json"
    file.write_text(json.dumps({"format": "fastvid-vgdfr/1", "settings": {}, "interpolator": "linear"} | facts))
    return file


def test_settings_come_from_a_file(tmp_path: Path) -> None:
    assert VGDFR.load(written(tmp_path)).config == VGDFRConfig()
    settings = {"threshold": None, "keep_ratio": 0.5, "positions": [0, 3], "lengths": [9, 5], "skipped_stages": 1}
    expected = VGDFRConfig(threshold=None, keep_ratio=0.5, positions=(0, 3), lengths=(9, 5), skipped_stages=1)
    assert VGDFR.load(written(tmp_path, settings=settings), model="any").config == expected


def test_interpolators_are_named_or_are_a_folder_beside_the_file(tmp_path: Path) -> None:
    config = IFNetConfig(feature_channels=2, widths=(4,), scales=(1,))
    IFNet(config).save_pretrained(tmp_path / "rife")
    assert isinstance(VGDFR.load(written(tmp_path)).interpolate, LinearInterpolator)
    assert VGDFR.load(written(tmp_path, interpolator="motion")).interpolate == MotionInterpolator()
    found = VGDFR.load(written(tmp_path, interpolator="rife")).interpolate
    assert isinstance(found, IFNet)
    assert found.config == config


@pytest.mark.parametrize(
    ("facts", "named"),
    [
        ({"format": "fastvid-asymrnr/1"}, "is not of the format 'fastvid-vgdfr/1'"),
        ({"extra": 1}, "is not of the format"),
        ({"settings": {"treshold": 0.5}}, "`settings` are {'treshold': 0.5}; expected some of"),
        ({"settings": []}, r"`settings` are \[\]"),
        ({"settings": {"threshold": 2}}, "`threshold` is 2"),
        ({"settings": {"threshold": "0.8"}}, "`threshold` is '0.8'; expected a number or None"),
        ({"settings": {"threshold": True}}, "`threshold` is True; expected a number"),
        ({"settings": {"threshold": None, "keep_ratio": [0.5]}}, r"`keep_ratio` is \(0.5,\); expected a number"),
        ({"settings": {"lengths": 9}}, "`lengths` is 9; expected a tuple of whole numbers"),
        ({"settings": {"positions": 3}}, "`positions` is 3; expected 'local', 'global', 'centre', a tuple"),
        ({"settings": {"keep_ratio": 0.5}}, "`threshold` is 0.75 and `keep_ratio` is 0.5"),
        ({"interpolator": "rife"}, "`interpolator` is 'rife'; expected 'linear', 'motion' or the folder"),
        ({"interpolator": None}, "`interpolator` is None"),
        ({"interpolator": "."}, r"holds no config\.json"),
    ],
)
def test_files_that_say_something_else_are_refused(tmp_path: Path, facts: dict[str, object], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        VGDFR.load(written(tmp_path, **facts))


def test_what_is_no_json_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="which is no file"):
        VGDFR.load(tmp_path)
    (tmp_path / "vgdfr.json").write_text("{")
    with pytest.raises(ValueError, match="is no JSON"):
        VGDFR.load(tmp_path / "vgdfr.json")
