"""What every transformer promises a pipeline."""

from typing import Any

import fastvid_pipelines.interfaces as pipelines
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from .installed import tiny_transformer, with_fake

TRANSFORMERS = with_fake("transformer")
CONTENT_FRAME = ["ReducioDiT"]
"""Those that are shown a content frame; the others are given the first frame as a condition beside the latents."""
FIRST_FRAME = [name for name in TRANSFORMERS if name not in CONTENT_FRAME]
GRID = (3, 4, 2)


def arguments(name: str, model: Any) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    channels = model.config.latent_channels
    given = {
        "latents": draw(2, channels, *GRID),
        "timestep": torch.tensor([900.0, 100.0]),
        "text": draw(2, 5, model.config.text_width),
    }
    if name in CONTENT_FRAME:
        frame = model.config.content_frame
        return given | {
            "semantic": draw(2, frame.semantic_tokens, frame.semantic_width),
            "content": draw(2, frame.content_channels, 4 * GRID[1], 4 * GRID[2]),
            "size": torch.tensor([[128.0, 64.0]] * 2),
        }
    return given | {
        "condition": model.first_frame_condition(draw(2, channels, 1, *GRID[1:]), GRID[0]),
        "image_tokens": None if model.config.image_width is None else draw(2, 3, model.config.image_width),
    }


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_a_prediction_has_the_shape_of_the_latents(name: str) -> None:
    model = tiny_transformer(name)
    given = arguments(name, model)
    assert model(**given).shape == given["latents"].shape


@pytest.mark.parametrize("name", FIRST_FRAME)
def test_the_condition_marks_the_first_frame_only(name: str) -> None:
    model = tiny_transformer(name)
    image_latents = torch.randn(1, model.config.latent_channels, 1, *GRID[1:])
    condition = model.first_frame_condition(image_latents, GRID[0])
    mask, latents = condition.split(
        [condition.shape[1] - model.config.latent_channels, model.config.latent_channels], 1
    )
    assert torch.equal(mask[:, :, :1], torch.ones_like(mask[:, :, :1]))
    assert torch.equal(latents[:, :, :1], image_latents)
    assert not condition[:, :, 1:].any()


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_attention_is_asked_once_a_block_and_its_answer_counts(name: str) -> None:
    model = tiny_transformer(name)
    given = arguments(name, model)
    sites: list[pipelines.AttentionSite] = []

    def exact(q: Tensor, k: Tensor, v: Tensor, site: pipelines.AttentionSite, /) -> Tensor:
        sites.append(site)
        assert q.shape == k.shape == v.shape
        assert q.shape[2] == site.grid[0] * site.grid[1] * site.grid[2]
        return F.scaled_dot_product_attention(q, k, v)

    def nothing(q: Tensor, k: Tensor, v: Tensor, site: pipelines.AttentionSite, /) -> Tensor:
        return torch.zeros_like(q)

    assert torch.equal(model(**given, attention=exact), model(**given))
    assert [site.block for site in sites] == list(range(sites[0].num_blocks))
    assert not torch.equal(model(**given, attention=nothing), model(**given))


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_positions_are_the_integer_grid_by_default_and_matter(name: str) -> None:
    model = tiny_transformer(name)
    given = arguments(name, model)
    axes = [
        torch.arange(size // patch, dtype=torch.float32)
        for size, patch in zip(GRID, model.config.patch_size, strict=True)
    ]
    positions = torch.stack(torch.meshgrid(*axes, indexing="ij"))
    plain = model(**given)
    torch.testing.assert_close(model(**given, positions=positions), plain, rtol=1e-5, atol=1e-6)
    assert not torch.allclose(model(**given, positions=positions * 2.5), plain, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_masked_text_does_not_count(name: str) -> None:
    model = tiny_transformer(name)
    given = arguments(name, model)
    mask = torch.tensor([[True, True, True, False, False]] * 2)
    changed: dict[str, Any] = given | {"text": torch.where(mask[..., None], given["text"], 7.0)}
    torch.testing.assert_close(model(**given, text_mask=mask), model(**changed, text_mask=mask), rtol=1e-5, atol=1e-6)
    assert not torch.allclose(model(**given), model(**changed))
