import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from fastvid_pipelines.types import MOST_PIXELS, GenerationRequest, check_prompt
from hypothesis import given
from hypothesis import strategies as st

from .fakes import SAMPLING

COUNTS = {"num_frames": (1, 4096), "height": (16, 8192), "width": (16, 8192), "num_inference_steps": (1, 1000)}
NUMBERS = {"fps": (0.01, 1000), "guidance_scale": (1, 100), "shift": (0.01, 100)}


@pytest.mark.parametrize("name", COUNTS)
@pytest.mark.parametrize(
    "value", [0, -1, 2**31, -(2**63), 2.0, math.nan, math.inf, True, "3", None, [4], np.float32(3)]
)
def test_bad_counts_are_refused_by_name_value_and_range(name: str, value: Any) -> None:
    least, most = COUNTS[name]
    with pytest.raises(ValueError, match=rf"`{name}` is .*expected .*{least} to {most}"):
        replace(SAMPLING, **{name: value})


@pytest.mark.parametrize("name", COUNTS)
def test_the_two_nearest_legal_values_are_named(name: str) -> None:
    least, most = COUNTS[name]
    with pytest.raises(ValueError, match=rf"nearest legal values: {least} and {least + 1}"):
        replace(SAMPLING, **{name: least - 1})
    with pytest.raises(ValueError, match=rf"nearest legal values: {most - 1} and {most}"):
        replace(SAMPLING, **{name: most + 1})


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("value", [0, -1, 1e9, math.nan, math.inf, True, "3", None, [1.0]])
def test_bad_numbers_are_refused_by_name_value_and_range(name: str, value: Any) -> None:
    least, most = NUMBERS[name]
    with pytest.raises(ValueError, match=rf"`{name}` is .*expected .*{least:g} to {most:g}"):
        replace(SAMPLING, **{name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [("num_frames", 1), ("num_frames", 13), ("height", 16), ("width", 131), ("num_inference_steps", np.int64(7))],
)
def test_ones_primes_and_whole_numbers_of_other_libraries_are_legal(name: str, value: int) -> None:
    assert getattr(replace(SAMPLING, **{name: value}), name) == value


def test_whole_numbers_become_pythons_own() -> None:
    """NumPy's small ones overflow in frames x height x width, and JSON takes none of them."""
    sampling = replace(SAMPLING, num_frames=np.uint8(200), height=np.int16(128), width=np.int64(128))
    assert [type(number) for number in (sampling.num_frames, sampling.height, sampling.width)] == [int] * 3


@pytest.mark.parametrize("name", [*COUNTS, *NUMBERS])
@pytest.mark.parametrize("digits", [400, 5000])
def test_a_number_too_long_to_be_written_is_refused_by_name(name: str, digits: int) -> None:
    with pytest.raises(ValueError, match=rf"`{name}` is a number of \d+ bits; expected"):
        replace(SAMPLING, **{name: 10**digits})


def test_a_video_that_no_machine_holds_is_refused() -> None:
    with pytest.raises(ValueError, match=rf"at most {MOST_PIXELS}, at this size at most 32 frames"):
        replace(SAMPLING, num_frames=4096, height=8192, width=8192)


def test_an_unknown_solver_is_refused() -> None:
    with pytest.raises(ValueError, match="`solver` is 'heun'; expected one of euler, dpmsolver"):
        replace(SAMPLING, solver="heun")


@pytest.mark.parametrize("value", [None, 7, b"text", ["a", "b"]])
def test_what_is_no_text_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="`prompt` is of type"):
        check_prompt("prompt", value)


def test_half_a_surrogate_pair_is_refused() -> None:
    with pytest.raises(ValueError, match=r"`prompt` holds '\\ud800' at 2"):
        check_prompt("prompt", "ab\ud800")


@pytest.mark.parametrize("text", ["", "a\0b", "🎥", "مرحبا", "x" * 100_000])
def test_any_other_text_is_legal(text: str) -> None:
    GenerationRequest(prompt=text, negative_prompt="", sampling=SAMPLING)


def test_a_negative_prompt_without_guidance_has_no_effect_and_is_refused() -> None:
    unguided = replace(SAMPLING, guidance_scale=1.0)
    GenerationRequest(prompt="a", negative_prompt="", sampling=unguided)
    with pytest.raises(ValueError, match=r"`negative_prompt` is 'blur', which has no effect at `guidance_scale` 1"):
        GenerationRequest(prompt="a", negative_prompt="blur", sampling=unguided)


ANYTHING = st.one_of(
    st.integers(), st.floats(), st.booleans(), st.text(max_size=5), st.none(), st.just(np.int32(5)), st.just(2**31)
)


@given(st.dictionaries(st.sampled_from([*COUNTS, *NUMBERS, "solver"]), ANYTHING, min_size=1, max_size=4))
def test_whatever_comes_in_the_answer_is_a_record_or_a_value_error(changes: dict[str, Any]) -> None:
    message, record = "", None
    try:
        record = replace(SAMPLING, **changes)
    except ValueError as error:
        message = str(error)
    if record is None:
        assert any(f"`{name}`" in message for name in (*changes, "num_frames"))
    else:
        assert record.num_frames * record.height * record.width <= MOST_PIXELS
