"""Fewer latent frames where little moves: VGDFR on a photo, with a record of what was merged and a picture of it.

uv run python examples/06_merge_frames.py examples/assets/meadow.jpg "the camera slowly pans left" --output out.mp4
"""

import argparse
import json
from pathlib import Path

import torch
from fastvid_accel import VGDFR, VGDFRConfig
from fastvid_accel.vgdfr.motion import MotionInterpolator
from fastvid_accel.vgdfr.record import MergeRecord
from fastvid_pipelines import FSVideoPipeline, save_video
from PIL import Image


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photo")
    parser.add_argument("prompt")
    parser.add_argument("--output", type=Path, required=True, help="the mp4; record and picture go beside it")
    parser.add_argument("--keep", type=float, help="share of frames to keep, instead of a threshold of similarity")
    parser.add_argument("--model", help="folder or hub repository of another pipeline")
    parser.add_argument("--tiny", action="store_true", help="17 frames in 2 steps: only to see that it runs")
    options = parser.parse_args()

    pipe = FSVideoPipeline.from_pretrained(options.model) if options.model else FSVideoPipeline.default()
    config = VGDFRConfig() if options.keep is None else VGDFRConfig(threshold=None, keep_ratio=options.keep)
    wanted = {"num_frames": 17, "num_inference_steps": 2} if options.tiny else {"num_frames": 33}
    clip = pipe(
        image=options.photo,
        prompt=options.prompt,
        generator=torch.Generator().manual_seed(0),
        accelerator=VGDFR(config, MotionInterpolator()),
        **wanted,
    )
    save_video(clip, options.output)
    strip = MergeRecord.from_json(clip.acceleration).picture()  # grey: kept; blue: two became one; orange: four
    Image.fromarray(strip.numpy()).save(options.output.with_suffix(".png"))
    options.output.with_suffix(".json").write_text(json.dumps(clip.acceleration, indent=2) + "\n")
    kept, all_of_them = len(clip.acceleration["kept_latents"]), clip.acceleration["num_latents"]
    print(f"{kept} of {all_of_them} latent frames left; denoised in {clip.seconds['denoise']:.2f} s")


if __name__ == "__main__":
    main()
