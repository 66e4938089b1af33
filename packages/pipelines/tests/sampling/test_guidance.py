import torch
from fastvid_pipelines.sampling.guidance import guide, join_branches
from fastvid_pipelines.types import Conditions, TextFeatures
from torch import Tensor


def features(seed: int, *, masked: bool) -> TextFeatures:
    generator = torch.Generator().manual_seed(seed)
    mask = torch.tensor([[True, True, False]]) if masked else None
    return TextFeatures(tokens=torch.randn(1, 3, 4, generator=generator), mask=mask)


def conditions(*, masked: bool = True, guided: bool = True) -> Conditions:
    return Conditions(
        text=features(1, masked=masked),
        negative_text=features(2, masked=masked) if guided else None,
        image_latents=torch.randn(1, 2, 1, 2, 2, generator=torch.Generator().manual_seed(3)),
        image_tokens=torch.randn(1, 5, 4, generator=torch.Generator().manual_seed(4)),
    )


def test_one_batch_equals_two_calls() -> None:
    latents = torch.randn(1, 2, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    given = conditions()
    joined = join_branches(given)

    def predict(batch: Tensor) -> Tensor:
        return batch * joined.text.tokens.mean((1, 2))[: len(batch), None, None, None, None] + 1

    def alone(text: TextFeatures) -> Tensor:
        return latents * text.tokens.mean((1, 2))[:, None, None, None, None] + 1

    assert given.negative_text is not None
    negative, positive = alone(given.negative_text), alone(given.text)
    torch.testing.assert_close(guide(predict, latents, 5.0), negative + 5.0 * (positive - negative))


def test_scale_one_asks_only_once_for_the_positive_branch() -> None:
    calls = []

    def predict(batch: Tensor) -> Tensor:
        calls.append(len(batch))
        return batch

    guide(predict, torch.ones(1, 1, 1, 1, 1), 1.0)
    guide(predict, torch.ones(1, 1, 1, 1, 1), 2.0)
    assert calls == [1, 2]


def test_branches_differ_in_the_text_alone_and_the_negative_one_comes_first() -> None:
    given = conditions()
    joined = join_branches(given)
    assert given.negative_text is not None
    assert torch.equal(joined.text.tokens[0], given.negative_text.tokens[0])
    assert torch.equal(joined.text.tokens[1], given.text.tokens[0])
    assert joined.text.mask is not None
    assert joined.text.mask.shape == (2, 3)
    assert torch.equal(joined.image_latents[0], joined.image_latents[1])
    assert joined.image_tokens is not None
    assert torch.equal(joined.image_tokens[0], joined.image_tokens[1])
    assert joined.negative_text is None


def test_without_masks_or_guidance_nothing_is_made_up() -> None:
    assert join_branches(conditions(masked=False)).text.mask is None
    unguided = conditions(guided=False)
    assert join_branches(unguided) is unguided
