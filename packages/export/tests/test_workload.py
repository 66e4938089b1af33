from typing import Any

import pytest
from fastvid_export import Workload


@pytest.mark.parametrize(
    ("text", "workload"),
    [
        ("17x128x64", Workload(frames=17, height=128, width=64)),
        (
            "121x720x1280:merged=0.5,keep_q=0.7,keep_kv=0.5,batch=2",
            Workload(frames=121, height=720, width=1280, batch=2, keep_q=0.7, keep_kv=0.5, merged=0.5),
        ),
    ],
)
def test_texts(text: str, workload: Workload) -> None:
    assert Workload.parse(text) == workload
    assert (workload.reduces, workload.merges) == (":" in text, ":" in text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("17x128", "expected FRAMESxHEIGHTxWIDTH"),
        ("17x128x128:", "expected FRAMESxHEIGHTxWIDTH"),
        ("17x128x-128", "expected FRAMESxHEIGHTxWIDTH"),
        ("17x128x128:keep=0.5", "sets 'keep'; it can set batch, keep_q, keep_kv, merged"),
        ("17x128x128:merged=0.5,merged=0.6", "sets merged twice"),
        ("17x128x128:merged=half", "'half', which is no number"),
        ("17x128x128:batch=1.5", "'1.5', which is no number"),
        ("17x128x128:merged=1.5", "`merged` of a workload must be above 0 and at most 1, got 1.5"),
        ("17x128x128:keep_q=0", "`keep_q` of a workload must be above 0 and at most 1, got 0.0"),
        ("17x128x128:keep_kv=nan", "`keep_kv` of a workload must be above 0"),
        ("0x128x128", "`frames` of a workload must be at least 1, got 0"),
        ("17x128x128:batch=0", "`batch` of a workload must be at least 1, got 0"),
    ],
)
def test_mistakes(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Workload.parse(text)


@pytest.mark.parametrize("change", [{"height": -1}, {"width": 0}, {"keep_q": 1.01}])
def test_mistakes_in_python(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="of a workload must be"):
        Workload(**({"frames": 17, "height": 128, "width": 128} | change))
