import pytest
import torch
from fastvid_dit.config import RefinerMask
from fastvid_dit.refinement import condition_picture, dynamic_mask, refiner_condition, upsampling_error

MASK = RefinerMask(error_low=0.1, error_high=0.5)


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_the_mask_runs_against_the_error_inside_its_range() -> None:
    error = torch.tensor([0.0, 0.1, 0.3, 0.5, 9.0]).view(1, 1, 1, 1, 5)
    mask = dynamic_mask(error, MASK).flatten()
    assert torch.allclose(mask, torch.tensor([0.8, 0.8, 0.5, 0.2, 0.2]))
    literal = RefinerMask(error_low=0.1, error_high=0.5, mode="error")
    assert torch.allclose(dynamic_mask(error, literal).flatten(), 1 - mask)


def test_a_mean_mask_is_one_number_a_sample() -> None:
    error = torch.tensor([[0.1, 0.5], [0.3, 0.3]]).view(2, 1, 1, 1, 2)
    mean = RefinerMask(error_low=0.1, error_high=0.5, reduce="mean")
    assert torch.allclose(dynamic_mask(error, mean), torch.full((2, 1, 1, 1, 2), 0.5))


def test_the_mask_of_a_sample_does_not_depend_on_its_neighbours() -> None:
    error = draw(3, 1, 1, 4, 4).abs()
    alone = torch.cat([dynamic_mask(error[i : i + 1], MASK) for i in range(3)])
    assert torch.equal(dynamic_mask(error, MASK), alone)


def test_frame_0_is_the_truth_and_the_rest_is_upsampled() -> None:
    upsampled, first, upsampled_first = draw(2, 4, 3, 2, 2), draw(2, 4, 1, 2, 2, seed=1), draw(2, 4, 1, 2, 2, seed=2)
    condition = refiner_condition(upsampled, first, upsampled_first, MASK)
    assert torch.equal(condition.latents[:, :, :1], first)
    assert torch.equal(condition.latents[:, :, 1:], upsampled[:, :, 1:])
    assert (condition.mask[:, :, 0] == 1).all()
    later = condition.mask[:, :, 1:]
    assert later.min() >= MASK.lowest
    assert later.max() <= MASK.highest
    assert torch.equal(later[:, :, 0], later[:, :, 1])
    assert torch.equal(later[:, :, :1], dynamic_mask(upsampling_error(first, upsampled_first), MASK))
    channels = condition.channels(4)
    assert channels.shape == (2, 8, 3, 2, 2)
    assert torch.equal(channels[:, 3:4], condition.mask)
    assert torch.equal(channels[:, 4:], condition.latents)


def test_the_picture_shows_mask_over_strength() -> None:
    first = torch.zeros(1, 4, 1, 2, 3)
    condition = refiner_condition(torch.ones(1, 4, 2, 2, 3), first, first, MASK)
    picture = condition_picture(condition)
    assert picture.shape == (6, 8)  # two rows of frames, a line below each; two frames, a column beside each
    assert (picture[:2, :3] == 255).all()  # frame 0 is the truth
    assert (picture[:2, 4:7] == round(0.8 * 255)).all()  # without error, the highest confidence
    assert (picture[3:5, :3] == 0).all()
    assert (picture[3:5, 4:7] == 255).all()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"error_low": 0.5}, "error_low"),
        ({"error_high": float("inf")}, "error_high"),
        ({"lowest": 0.0}, "lowest"),
        ({"highest": 1.0}, "highest"),
        ({"mode": "trust"}, "mode"),
        ({"reduce": "max"}, "reduce"),
    ],
)
def test_a_mask_that_makes_no_sense_is_refused(changed: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=f"`{message}`"):
        RefinerMask(**{"error_low": 0.1, "error_high": 0.5, **changed})  # type: ignore[arg-type]
