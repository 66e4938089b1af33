"""The transformer as an engine: built, compared with the model, and put in its place.

uv run python examples/07_serve_engines.py examples/assets/meadow.jpg "the camera pans left" engines/
"""

import argparse
from dataclasses import replace
from pathlib import Path

import torch
from fastvid_export import (
    AxisRange,
    EngineFolder,
    Geometry,
    OnnxRuntime,
    Workload,
    build_engine,
    profiles_of,
    transformer_exportable,
)
from fastvid_pipelines import FSVideoPipeline


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photo")
    parser.add_argument("prompt")
    parser.add_argument("engines", type=Path, help="folder that gets a folder for each engine")
    parser.add_argument("--model", help="folder or hub repository of another pipeline")
    parser.add_argument("--tiny", action="store_true", help="compare at one size only: only to see that it runs")
    options = parser.parse_args()

    pipe = FSVideoPipeline.from_pretrained(options.model) if options.model else FSVideoPipeline.default()
    size, words = pipe.sampling, AxisRange(minimum=1, example=16, maximum=128)
    exportable = transformer_exportable(pipe.transformer, text_mask=True)
    exportable = replace(exportable, axes={**exportable.axes, "l": words})
    workload = Workload(frames=size.num_frames, height=size.height, width=size.width, batch=2)  # 2: guidance
    profiles = profiles_of(exportable, [workload], Geometry(stride=pipe.autoencoder.stride))
    cases = [profiles[0].minimum] if options.tiny else None
    record = build_engine(
        exportable, options.engines / "transformer", backend=OnnxRuntime(), profiles=profiles, cases=cases
    )
    print(f"engine {record.key[:12]}, built and compared in {record.seconds} s")

    call = {"image": options.photo, "prompt": options.prompt, "output_type": "pt"}
    eager = pipe(**call, generator=torch.Generator().manual_seed(0))
    pipe.transformer = EngineFolder(options.engines).transformer(pipe.transformer)
    served = pipe(**call, generator=torch.Generator().manual_seed(0))
    error = (served.frames - eager.frames).square().mean()
    print(f"{10 * torch.log10(4 / error):.1f} dB between the two videos")


if __name__ == "__main__":
    main()
