"""Tiny OD-VAEs: the graph of variant 4 with few channels, stride (4, 8, 8)."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from fastvid_vae import ODVAE, ODVAE_VARIANT_4

TINY = replace(ODVAE_VARIANT_4, widths=(4, 4, 8, 8), num_blocks=1, norm_groups=2)


@pytest.fixture
def build() -> Callable[..., ODVAE]:
    """A model whose every weight is random."""

    def build(*, seed: int = 0, scale: float = 0.2, **changes: object) -> ODVAE:
        torch.manual_seed(seed)
        model = ODVAE(replace(TINY, **changes))  # type: ignore[arg-type]
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.normal_(std=scale)
        return model.eval().requires_grad_(False)

    return build
