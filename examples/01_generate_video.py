"""A photo and a sentence to a video, with the model that comes with fastvid-pipelines.

uv run python examples/01_generate_video.py examples/assets/dandelion.jpg "the camera pans left" out.mp4
"""

import argparse
from pathlib import Path

import torch
from fastvid_pipelines import FSVideoPipeline, Step, save_video
from fastvid_pipelines.types import LatentVideo


def tell(step: Step, video: LatentVideo) -> None:
    print(f"step {step.index + 1} of {step.num_steps}, {video.latents.shape[2]} latent frames")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photo", type=Path)
    parser.add_argument("prompt")
    parser.add_argument("output", type=Path)
    parser.add_argument("--model", help="folder or hub repository of another pipeline")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tiny", action="store_true", help="5 frames in 2 steps: only to see that it runs")
    options = parser.parse_args()

    pipe = FSVideoPipeline.from_pretrained(options.model) if options.model else FSVideoPipeline.default()
    clip = pipe(
        image=options.photo,
        prompt=options.prompt,
        num_frames=5 if options.tiny else None,
        num_inference_steps=2 if options.tiny else None,
        generator=torch.Generator().manual_seed(options.seed),
        callback_on_step_end=tell,
    )
    save_video(clip, options.output)
    print(f"{options.output}: {clip.frames.shape} at {clip.fps:g} frames a second, {sum(clip.seconds.values()):.1f} s")


if __name__ == "__main__":
    main()
