"""`calibrate`: what it refuses before it makes a video."""

from dataclasses import replace
from pathlib import Path

import pytest
from fastvid_pipelines.commands.calibrate import Options, calibrate

OPTIONS = Options(
    accelerator="asymrnr",
    output=Path("settings.json"),
    model=None,
    saving=0.05,
    q_rate=0.5,
    kv_rate=0.3,
    stride=(2, 2, 2),
    window=5,
    seed=0,
    device="cpu",
    dtype="float32",
)


@pytest.mark.parametrize(
    ("flag", "wrong"),
    [
        ("saving", 0.0),
        ("saving", 1.0),
        ("saving", float("nan")),
        ("q_rate", 1.0),
        ("kv_rate", -0.1),
        ("kv_rate", float("nan")),
    ],
)
def test_shares_out_of_range_are_refused_before_anything_is_read(tmp_path: Path, flag: str, wrong: float) -> None:
    options = replace(OPTIONS, output=tmp_path / "settings.json", **{flag: wrong})
    with pytest.raises(ValueError, match=f"`--{flag.replace('_', '-')}` is"):
        calibrate(options, tmp_path / "no-photo.jpg", {"prompt": "still"})
