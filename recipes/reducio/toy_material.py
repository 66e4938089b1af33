"""Made-up photos and clips on which the scripts of this folder can be tried in seconds."""

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
from fastvid_vae.video_io import VideoWriter
from PIL import Image

NUM_FRAMES = 18


def write_material(folder: Path) -> None:
    """One photo and one clip of soft blobs for training and one for validation, and the split.json that says so."""
    for kind in ("photos", "clips"):
        (folder / kind).mkdir(parents=True)
    for seed, split in enumerate(("train", "validation")):
        blobs = np.random.default_rng(seed).integers(0, 256, (9, 12, 3), dtype=np.uint8)
        picture = Image.fromarray(blobs).resize((320, 240), Image.Resampling.BICUBIC)
        picture.save(folder / "photos" / f"{split}.png")
        with VideoWriter(folder / "clips" / f"{split}.mp4", rate=Fraction(8)) as writer:
            for frame in range(NUM_FRAMES):
                writer.write(np.asarray(picture.crop((frame, 0, frame + 200, 160))))
    names = {
        kind: {split: [f"{split}.{suffix}"] for split in ("train", "validation")}
        for kind, suffix in (("photos", "png"), ("clips", "mp4"))
    }
    (folder / "split.json").write_text(json.dumps(names))
