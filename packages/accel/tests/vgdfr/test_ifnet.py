import json
import sys
from pathlib import Path

import pytest
import torch
from fastvid_accel.conversion.rife import RELEASES, RIFE
from fastvid_accel.vgdfr.frame_rate import FrameRate, Merge
from fastvid_accel.vgdfr.ifnet import RIFE_4_25, IFNet, IFNetConfig
from fastvid_accel.vgdfr.restore import restore_frames
from safetensors.torch import load_file
from torch import Tensor

from .ifnet_cases import RECORDED, TIMES, frames, weights

SMALL = IFNetConfig(feature_channels=2, widths=(8, 4), scales=(2, 1))
RELEASED = {"4.25": "4.25 or 4.26", "4.25.lite": "4.25.lite", "4.25.heavy": "4.25.heavy", "4.26.heavy": "4.26.heavy"}


def released(kind: str) -> IFNet:
    with torch.device("meta"):
        model = IFNet(RELEASES[RELEASED[kind]])
    model.load_state_dict(weights(model.state_dict()), assign=True)
    return model.eval()


def small() -> IFNet:
    torch.manual_seed(0)
    return IFNet(SMALL).requires_grad_(False).eval()


@pytest.mark.parametrize("kind", RELEASED)
@torch.no_grad()
def test_it_is_the_released_network(kind: str) -> None:
    expected = load_file(RECORDED)[kind]
    first, last = frames()
    count = len(expected)
    found = released(kind)(first[:count], last[:count], TIMES[: expected.shape[1]])
    assert expected.std() > 0.3
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_pairs_and_times_do_not_meet() -> None:
    model, (first, last) = small(), frames()
    together = model(first, last, TIMES)
    assert together.shape == (2, 2, 3, 40, 56)
    for pair in range(2):
        for place, time in enumerate(TIMES):
            alone = model(first[pair : pair + 1], last[pair : pair + 1], (time,))
            torch.testing.assert_close(alone[0, 0], together[pair, place], rtol=0, atol=1e-5)
    assert (together[:, 0] - together[:, 1]).abs().max() > 1e-3


@pytest.mark.parametrize("size", [(1, 1), (8, 8), (9, 17)])
def test_any_size_and_data_type_come_out_as_they_came_in(size: tuple[int, int]) -> None:
    first = torch.rand(2, 1, 3, *size, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 2 - 1
    found = small().bfloat16()(first[0], first[1], (0.5,))
    assert found.shape == (1, 1, 3, *size)
    assert found.dtype == torch.float64
    assert found.isfinite().all()


def test_gaps_of_a_video_are_filled() -> None:
    rate = FrameRate(num_frames=17, stride=4, merges=(Merge(first_frame=1, rate=2, score=1.0),))
    kept = torch.rand(1, 3, len(rate.groups), 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    whole = restore_frames(kept, rate, small())
    assert whole.shape[2] == 17
    assert whole.isfinite().all()
    expected = small()(kept[:, :, 1], kept[:, :, 2], (0.5,))[:, 0]
    torch.testing.assert_close(whole[:, :, 2], expected, rtol=0, atol=1e-5)


def test_a_folder_comes_back(tmp_path: Path) -> None:
    model = small()
    model.save_pretrained(tmp_path / "rife")
    again = IFNet.from_pretrained(tmp_path / "rife")
    assert again.config == SMALL
    first, last = frames()
    assert torch.equal(again(first, last, TIMES), model(first, last, TIMES))
    assert not again.training
    assert not any(parameter.requires_grad for parameter in again.parameters())
    assert IFNet.from_pretrained(tmp_path / "rife", dtype=torch.bfloat16).encode.cnn0.weight.dtype == torch.bfloat16


def test_folders_that_hold_something_else_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"holds no config\.json"):
        IFNet.from_pretrained(tmp_path)
    small().save_pretrained(tmp_path)
    config = tmp_path / "config.json"
    values = json.loads(config.read_text())
    config.write_text(json.dumps(values | {"widths": [8, 8]}))
    with pytest.raises(ValueError, match=r"does not fit config\.json"):
        IFNet.from_pretrained(tmp_path)
    for changed in (values | {"_class_name": "RIFE"}, values | {"depth": 1}, [], {"_class_name": "IFNet"}):
        config.write_text(json.dumps(changed))
        with pytest.raises(ValueError, match="describes no IFNet"):
            IFNet.from_pretrained(tmp_path)
    config.write_text("{")
    with pytest.raises(ValueError, match="is no JSON"):
        IFNet.from_pretrained(tmp_path)


def test_without_safetensors_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "safetensors.torch", None)
    for call in (small().save_pretrained, IFNet.from_pretrained):
        with pytest.raises(ImportError, match=r"pip install 'fastvid-accel\[ifnet\]'"):
            call(tmp_path)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"feature_channels": 0}, "`feature_channels` is 0"),
        ({"widths": (8, 5)}, r"`widths` is \(8, 5\)"),
        ({"widths": ()}, "`widths`"),
        ({"scales": (2, 1, 1)}, "`scales`"),
        ({"scales": (2, 0)}, "`scales`"),
    ],
)
def test_settings_that_make_no_network_are_refused(changes: dict[str, object], named: str) -> None:
    settings = {"feature_channels": 2, "widths": (8, 4), "scales": (2, 1)}
    with pytest.raises(ValueError, match=named):
        IFNetConfig(**settings | changes)  # type: ignore[arg-type]


def test_times_outside_the_gap_are_refused() -> None:
    first, last = frames()
    for time in (0.0, 1.0, -0.5, float("nan")):
        with pytest.raises(ValueError, match="expected numbers between 0 and 1"):
            small()(first, last, (0.5, time))


@pytest.mark.parametrize("kind", RELEASED)
def test_a_file_tells_its_release(kind: str) -> None:
    state = released(kind).state_dict()
    training = {"module.teacher.conv0.0.0.weight": torch.zeros(1), "module.caltime.0.weight": torch.zeros(1)}
    found = RIFE.load({f"module.{name}": tensor for name, tensor in state.items()} | training, None)
    assert found.config == RELEASES[RELEASED[kind]]
    assert all(torch.equal(found.state_dict()[name], tensor) for name, tensor in state.items())


def test_other_files_are_refused(tmp_path: Path) -> None:
    state: dict[str, Tensor] = released("4.25").state_dict()
    with pytest.raises(ValueError, match=r"no release of RIFE that is known here: 4\.25 or 4\.26, 4\.25\.lite"):
        RIFE.load({"module.block0.conv0.0.0.weight": torch.zeros(1)}, None)
    with pytest.raises(ValueError, match=r"missing \['block2.convblock.3.beta'\], left over \['extra'\]"):
        RIFE.load(
            {name: state[name] for name in state if name != "block2.convblock.3.beta"} | {"extra": torch.zeros(1)}, None
        )
    with pytest.raises(ValueError, match=r"misshapen \['block0.lastconv.0.bias \(1,\), expected \(52,\)'\]"):
        RIFE.load(state | {"block0.lastconv.0.bias": torch.zeros(1)}, None)
    with pytest.raises(ValueError, match="`config` is there"):
        RIFE.load(state, {})
    with pytest.raises(ValueError, match="`target` is 'large'"):
        RIFE.start(state, None, "large", 0)
    small().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="holds an IFNet of no release"):
        RIFE.export(tmp_path, small().state_dict())


def test_sides_are_padded_to_whole_cells_of_the_coarsest_level() -> None:
    assert RIFE_4_25.multiple == 64
    assert RELEASES["4.25.lite"].multiple == 128
