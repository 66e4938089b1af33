"""A causal decoder as a standard or lite one, ready to fine-tune. Source: FSVideo, section 2.2; the map is ours."""

from collections.abc import Mapping

import torch
from torch import Tensor


def causal_to_centred(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Kernels that saw (t-2, t-1, t) as kernels that see (t-1, t, t+1): (first + second, third, 0).

    A still video decodes as before; a moving one does not quite, hence the fine-tune. The encoder stays as it is.
    There is no inverse: the sum of two taps does not tell them apart.
    """
    return {
        name: _shift(tensor) if name.startswith("decoder.") and tensor.dim() == 5 and tensor.shape[2] == 3 else tensor
        for name, tensor in state_dict.items()
    }


def _shift(kernel: Tensor) -> Tensor:
    before, now, after = kernel[:, :, 0] + kernel[:, :, 1], kernel[:, :, 2], torch.zeros_like(kernel[:, :, 2])
    return torch.stack([before, now, after], dim=2)
