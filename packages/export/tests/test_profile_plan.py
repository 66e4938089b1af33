from fractions import Fraction

import pytest
import torch
from fastvid_export import AxisRange, Exportable, Geometry, IndexSpec, InputSpec, Workload, profiles_of
from fastvid_export.lengths import num_destinations, num_kept, num_latent_frames, num_merged
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from .fakes import draw_normal

AXES = {axis: AxisRange(minimum=1, example=2, maximum=64) for axis in "bthw"}
GEOMETRY = Geometry(stride=(4, 16, 16), cell=(1, 2, 2))


class Pick(nn.Module):
    def forward(self, x: Tensor, keep_q_1: Tensor | None = None, keep_kv_1: Tensor | None = None) -> Tensor:
        return x


def exportable(*, reduced: bool = False) -> Exportable:
    inputs: dict[str, InputSpec | IndexSpec] = {"x": InputSpec(shape=("b", "t", "h", "w"), draw=draw_normal)}
    axes = dict(AXES)
    if reduced:
        for name, axis in (("keep_q_1", "q1"), ("keep_kv_1", "k1")):
            inputs[name] = IndexSpec(shape=("b", 2, axis), below=("t", "h", "w"))
            axes[axis] = AxisRange(minimum=1, example=2, maximum=10_000)
    return Exportable(name="fake", module=Pick().eval(), inputs=inputs, outputs=("y",), axes=axes)


def ranges(text: str | list[str], **options: bool) -> dict[str, dict[str, tuple[int, int, int]]]:
    texts = [text] if isinstance(text, str) else text
    profiles = profiles_of(exportable(**options), [Workload.parse(item) for item in texts], GEOMETRY)
    return {p.name: {axis: (r.minimum, r.example, r.maximum) for axis, r in p.axes.items()} for p in profiles}


def test_one_workload_is_one_size() -> None:
    assert ranges("17x128x64:batch=2") == {"dense": {"b": (2, 2, 2), "t": (5, 5, 5), "h": (8, 8, 8), "w": (4, 4, 4)}}


def test_several_span_a_range_and_the_first_is_what_it_is_tuned_for() -> None:
    found = ranges(["33x128x128", "17x128x128:batch=2", "33x64x128"])["dense"]
    assert found == {"b": (1, 1, 2), "t": (5, 9, 9), "h": (4, 8, 8), "w": (8, 8, 8)}


def test_merging_is_a_profile_from_the_fewest_frames_to_all() -> None:
    found = ranges(["33x128x128", "33x128x128:merged=0.5"])
    assert list(found) == ["dense", "merged"]
    assert (found["dense"]["t"], found["merged"]["t"]) == ((9, 9, 9), (5, 7, 9))


def test_a_graph_of_fewer_tokens_has_one_profile_from_the_fewest_kept_to_all() -> None:
    found = ranges("17x128x64:keep_q=0.7,keep_kv=0.5", reduced=True)
    assert list(found) == ["reduced"]
    assert (found["reduced"]["q1"], found["reduced"]["k1"]) == ((112, 112, 160), (80, 80, 160))  # of 160 tokens
    assert ranges("17x128x64:keep_q=0.1", reduced=True)["reduced"]["q1"] == (40, 40, 160)  # the destinations stay
    merged = ranges("17x128x64:keep_q=0.5,merged=0.4", reduced=True)["reduced"]
    assert (merged["t"], merged["q1"]) == ((2, 3, 5), (32, 48, 160))


def test_a_dense_graph_holds_what_a_reducing_workload_does_without_reduction() -> None:
    assert ranges("17x128x64:keep_q=0.7") == ranges("17x128x64")


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ([], "at least one workload"),
        (["17x120x128"], "`height` of a workload must be a multiple of 16 here, got 120; .* are 112 and 128"),
        (["17x128x7"], "`width` of a workload must be a multiple of 16 here, got 7; .* are 16 and 32"),
        (["18x128x128"], "`frames` of a workload must be 1 and a multiple of 4 here, got 18; .* are 17 and 21"),
        (["17x128x128", "17x128x129"], "`width` of a workload"),
        (["1x1024x16", "1x16x1024"], "do not fit together: .* reaches 4096 tokens, and the largest has 64"),
        (["17x2048x128"], "h from 128 to 128 in 'dense'; the graph holds for 1 to 64"),
    ],
)
def test_workloads_that_fit_nothing(texts: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        profiles_of(exportable(), [Workload.parse(text) for text in texts], GEOMETRY)


def test_indices_without_a_reduction_are_refused() -> None:
    with pytest.raises(ValueError, match="`workloads` reduce nothing"):
        ranges("17x128x64", reduced=True)


def test_tokens_of_several_latents() -> None:
    geometry = Geometry(stride=(4, 8, 8), causal=False, patch_size=(2, 2, 2))
    assert geometry.grid(Workload(frames=16, height=64, width=32)) == (2, 4, 2)
    with pytest.raises(ValueError, match="gives 3 latent frames; the part takes them 2 at a time"):
        geometry.grid(Workload(frames=12, height=64, width=32))
    with pytest.raises(ValueError, match="`height` of a workload must be a multiple of 16"):
        geometry.grid(Workload(frames=16, height=72, width=32))


def test_shares_and_cells_that_do_not_come_out_even_are_rounded_down() -> None:
    assert num_destinations((5, 9, 7), (1, 2, 2)) == 60  # and not 100, one for each cell begun
    assert num_kept(315, 60, Fraction(7, 10)) == 220  # of 220.5
    assert num_kept(315, 60, Fraction(1, 10)) == 60


@given(st.tuples(*[st.integers(1, 40)] * 3), st.integers(1, 1000))
def test_kept_tokens_lie_between_destinations_and_all(grid: tuple[int, int, int], thousandths: int) -> None:
    n, d = grid[0] * grid[1] * grid[2], num_destinations(grid, (1, 2, 2))
    kept = num_kept(n, d, Fraction(thousandths, 1000))
    assert d <= kept <= n
    assert num_kept(n, d, Fraction(1)) == n


@given(st.integers(1, 200), st.integers(1, 100))
def test_merged_frames_are_rounded_up_and_never_none(frames: int, hundredths: int) -> None:
    merged = num_merged(frames, Fraction(hundredths, 100))
    assert 1 <= merged <= frames
    assert merged - 1 < frames * hundredths / 100 <= merged


def test_latent_frames() -> None:
    assert [num_latent_frames(n, 4, causal=True) for n in (1, 2, 5, 6, 17, 121)] == [1, 2, 2, 3, 5, 31]
    assert [num_latent_frames(n, 4, causal=False) for n in (1, 4, 5, 16)] == [1, 1, 2, 4]
    assert torch.zeros(1, 1, 9).unfold(2, 5, 4).shape[2] == num_latent_frames(9, 4, causal=True) - 1
