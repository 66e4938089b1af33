import pytest
from fastvid_export import AxisRange
from fastvid_export.profile import Profile, check_profiles, smallest_that_holds


def profile(name: str = "dense", **axes: tuple[int, int, int]) -> Profile:
    return Profile(
        name=name,
        axes={axis: AxisRange(minimum=low, example=mid, maximum=high) for axis, (low, mid, high) in axes.items()},
    )


def test_it_holds_what_lies_in_every_range() -> None:
    dense = profile(b=(1, 2, 4), t=(3, 3, 5))
    assert dense.holds({"b": 1, "t": 5})
    assert not dense.holds({"b": 1, "t": 2})
    assert not dense.holds({"b": 5, "t": 3})
    assert (dense.minimum, dense.example, dense.maximum) == ({"b": 1, "t": 3}, {"b": 2, "t": 3}, {"b": 4, "t": 5})
    with pytest.raises(ValueError, match=r"`sizes` must give every axis, \['b', 't'\]"):
        dense.holds({"b": 1})


def test_of_the_profiles_that_hold_the_smallest_is_taken() -> None:
    profiles = [profile("large", t=(1, 4, 100)), profile("small", t=(4, 4, 8)), profile("middle", t=(4, 9, 10))]
    assert [smallest_that_holds(profiles, {"t": t}) for t in (3, 4, 9, 100, 101)] == [0, 1, 2, 0, None]


@pytest.mark.parametrize(
    ("profiles", "message"),
    [
        ([], "at least one"),
        ([profile(t=(1, 2, 3)), profile(t=(1, 2, 3))], "names of their own"),
        ([profile(t=(1, 2, 3), q=(1, 1, 1))], r"'dense' has unknown \['q'\], missing \[\]"),
        ([profile()], r"missing \['t'\]"),
        ([profile(t=(1, 2, 9))], "t from 1 to 9 in 'dense'; the graph holds for 1 to 8"),
    ],
)
def test_profiles_that_do_not_fit_the_graph(profiles: list[Profile], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_profiles({"t": AxisRange(minimum=1, example=2, maximum=8)}, profiles)


def test_names_are_words() -> None:
    with pytest.raises(ValueError, match="`name` of a profile must be a word"):
        profile("../dense", t=(1, 2, 3))
