"""An accelerator of your own in twenty lines: in the later steps, queries see only every second key.

uv run python examples/03_write_an_accelerator.py examples/assets/meadow.jpg "the camera zooms in"
"""

import argparse

import numpy as np
import torch
import torch.nn.functional as F
from fastvid_accel.interfaces import AttentionSite, Estimate, Step, VideoCodec
from fastvid_pipelines import FSVideoPipeline
from torch import Tensor

Both = tuple[Tensor, Tensor]


class EverySecondKey:
    def start(self, *, num_steps: int, codec: VideoCodec) -> "Session":
        return Session()


class Session:
    def begin_step(self, step: Step) -> None:
        self.stride = 1 if step.index == 0 else 2

    def attention(self, q: Tensor, k: Tensor, v: Tensor, site: AttentionSite) -> Tensor:
        return F.scaled_dot_product_attention(q, k[:, :, :: self.stride], v[:, :, :: self.stride])

    def end_step(self, latents: Tensor, denoised: Tensor, positions: Tensor, step: Step, *, estimate: Estimate) -> Both:
        return latents, positions

    def finish(self, frames: Tensor) -> Tensor:
        return frames

    def report(self) -> dict[str, int]:
        return {"key stride": self.stride}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photo")
    parser.add_argument("prompt")
    parser.add_argument("--model", help="folder or hub repository of another pipeline")
    parser.add_argument("--tiny", action="store_true", help="5 frames in 2 steps: only to see that it runs")
    given = parser.parse_args()
    pipe = FSVideoPipeline.from_pretrained(given.model) if given.model else FSVideoPipeline.default()
    fewer = {"num_frames": 5, "num_inference_steps": 2} if given.tiny else {}
    frames = {}
    for name, fast in (("exact", None), ("every second key", EverySecondKey())):
        clip = pipe(image=given.photo, prompt=given.prompt, generator=torch.manual_seed(0), accelerator=fast, **fewer)
        frames[name] = clip.frames.astype(np.float64)
        print(f"{name}: {clip.seconds['denoise']:.2f} s to denoise")
    error = np.square(frames["exact"] - frames["every second key"]).mean()  # at this size it saves little
    print(f"PSNR between the two: {10 * np.log10(255**2 / max(error, 1e-9)):.1f} dB")


if __name__ == "__main__":
    main()
