"""What `rife.safetensors` holds, and how it was made.

Each tensor is what public code made of the frames and weights below, in float32 on a CPU, and then in [-1, 1] again:
`4.26.heavy` is VGDFR/RIFE_model.py of github.com/thu-nics/VGDFR at 0f52b05 (MIT licence), both pairs at both times,
padded as its frame_interpolate.py does. `4.25` is IFNet_HDv3.py of github.com/huggingface/image_gen_aux (Apache-2.0),
the same network with 4 features for 16, and `4.25.lite` and `4.25.heavy` are that one with other widths and, for lite,
scales 32 to 4 and 1 and padding to 128; the first pair at the first time. Tolerance: 1e-5.
"""

from pathlib import Path

import torch
from torch import Tensor

RECORDED = Path(__file__).with_name("rife.safetensors")
TIMES = (0.25, 0.5)


def frames() -> tuple[Tensor, Tensor]:
    """Two pairs of smooth pictures in [-1, 1], whose sides are no multiples."""
    noise = torch.randn(4, 3, 6, 8, generator=torch.Generator().manual_seed(0))
    smooth = torch.nn.functional.interpolate(noise, size=(40, 56), mode="bicubic").clamp(-1, 1)
    return smooth[:2], smooth[2:]


def weights(like: dict[str, Tensor]) -> dict[str, Tensor]:
    """Drawn in the order of names: what a kernel sums up keeps its variance, biases and betas are near 0 and 1."""
    generator = torch.Generator().manual_seed(1)
    drawn = {}
    for name in sorted(like):
        noise = torch.randn(like[name].shape, generator=generator)
        if name.endswith("beta"):
            drawn[name] = 1 + 0.1 * noise
        elif name.endswith("bias"):
            drawn[name] = 0.1 * noise
        else:
            drawn[name] = 0.7 * noise / like[name][0].numel() ** 0.5
    return drawn
