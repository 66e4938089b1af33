"""The decoder as an ONNX file with dynamic sizes, compared with eager before it is written.

uv run python examples/04_export_onnx.py decoder.onnx
"""

import argparse
from pathlib import Path

from fastvid_export import decoder_exportable, export_onnx
from fastvid_pipelines import FSVideoPipeline
from fastvid_vae import FSAE


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path, help="ends in .onnx; the parity report appears beside it")
    parser.add_argument("--model", type=Path, help="folder of another pipeline")
    parser.add_argument("--tiny", action="store_true", help="compare at one size only: only to see that it runs")
    options = parser.parse_args()

    model = FSAE.from_pretrained(options.model, subfolder="vae") if options.model else embedded_autoencoder()
    exportable = decoder_exportable(model.eval(), reference=True)
    cases = [{"b": 1, "t": 2, "h": 3, "w": 4}] if options.tiny else None
    report = export_onnx(exportable, options.output, cases=cases)
    for case in report.cases:
        print(case.describe())


def embedded_autoencoder() -> FSAE:
    model = FSVideoPipeline.default().autoencoder
    assert isinstance(model, FSAE)
    return model


if __name__ == "__main__":
    main()
