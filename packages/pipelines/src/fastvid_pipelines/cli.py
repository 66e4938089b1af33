"""The command `fastvid-cli`: flags in, exit codes out. What a verb does stands in `commands/`.

Nothing heavy is imported before a verb runs. Results go to stdout, everything else to stderr.
"""

import json
import logging
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from fastvid_pipelines import discovery
from fastvid_pipelines.exit_codes import MISSING_DEPENDENCY, TERMINATED, exit_codes

OWN_VERBS = ("generate", "refine", "reconstruct", "convert", "calibrate", "plan", "doctor")

app = typer.Typer(
    name="fastvid-cli",
    help="Fast video generation: a photo and a sentence in, a video out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Json = Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")]
Model = Annotated[str | None, typer.Option(help="Folder or hub repository of a pipeline; without: the embedded model.")]
Device = Annotated[str, typer.Option(help="Where to compute: cpu, cuda, cuda:1, ...")]
Dtype = Annotated[str, typer.Option(help="What to compute in: float32, bfloat16 or float16.")]


@app.command()
def generate(  # noqa: PLR0913, PLR0917  # one parameter a flag
    prompt: Annotated[str, typer.Option(help="What happens, such as 'the camera slowly zooms in'.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The mp4 to write; out.json and out.png appear beside it.")
    ],
    image: Annotated[
        Path | None,
        typer.Argument(help="The photo: the first frame; with a Reducio model the middle one."),
    ] = None,
    text_to_image: Annotated[
        str | None, typer.Option(help="Folder or hub repository of a diffusers pipeline that makes the photo.")
    ] = None,
    model: Model = None,
    accelerate: Annotated[
        str | None, typer.Option(help="Names of installed accelerators, in order: asymrnr,vgdfr.")
    ] = None,
    accelerate_settings: Annotated[
        list[str] | None,
        typer.Option(help="FILE of its settings, as fastvid-cli calibrate writes it; of several: NAME=FILE, each."),
    ] = None,
    engine: Annotated[
        Path | None, typer.Option(help="Folder of engines, as fastvid-cli export build makes them.")
    ] = None,
    engine_fallback: Annotated[
        str,
        typer.Option(
            help="What an engine cannot take, or where it cannot be loaded: error, or eager for the model itself."
        ),
    ] = "error",
    seed: Annotated[int, typer.Option(help="The same seed gives the same frames.")] = 0,
    negative_prompt: Annotated[str | None, typer.Option(help="What guidance leads away from.")] = None,
    num_frames: Annotated[int | None, typer.Option(help="Frames of the video.")] = None,
    height: Annotated[int | None, typer.Option(help="Height in pixels, even.")] = None,
    width: Annotated[int | None, typer.Option(help="Width in pixels, even.")] = None,
    fps: Annotated[float | None, typer.Option(help="Frames a second.")] = None,
    steps: Annotated[int | None, typer.Option(help="Steps of the solver.")] = None,
    guidance_scale: Annotated[float | None, typer.Option(help="1 turns guidance off.")] = None,
    shift: Annotated[float | None, typer.Option(help="Above 1: more of the steps at high noise.")] = None,
    solver: Annotated[str | None, typer.Option(help="euler, dpmsolver++ or unipc.")] = None,
    refiner_steps: Annotated[
        int | None, typer.Option(help="Steps of the second stage; 0: none. Without: for large videos only.")
    ] = None,
    device: Device = "cpu",
    dtype: Dtype = "float32",
    as_json: Json = False,
) -> None:
    """Make a video of a photo, or of a picture made from the prompt."""
    with exit_codes(as_json):
        from fastvid_pipelines.commands.generate import Options
        from fastvid_pipelines.commands.generate import generate as run

        options = Options(
            image=image,
            text_to_image=text_to_image,
            output=output,
            seed=seed,
            model=model,
            accelerate=accelerate,
            accelerate_settings=tuple(accelerate_settings or ()),
            engine=engine,
            engine_fallback=engine_fallback,
            device=device,
            dtype=dtype,
        )
        result = run(
            options,
            {
                "prompt": prompt,
                "negative_prompt": negative_prompt,
                "num_frames": num_frames,
                "height": height,
                "width": width,
                "fps": fps,
                "num_inference_steps": steps,
                "guidance_scale": guidance_scale,
                "shift": shift,
                "solver": solver,
                "refiner_steps": refiner_steps,
            },
        )
        _print(result, as_json, _made(result))


@app.command()
def refine(  # noqa: PLR0913, PLR0917  # one parameter a flag
    video: Annotated[Path, typer.Argument(help="Any video file.")],
    prompt: Annotated[str, typer.Option(help="What happens in it.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The mp4 to write; out.json and out.png appear beside it.")
    ],
    image: Annotated[Path | None, typer.Option(help="The first frame at the new size.")] = None,
    model: Model = None,
    num_frames: Annotated[int | None, typer.Option(help="Only the first frames; without: all.")] = None,
    steps: Annotated[int | None, typer.Option(help="Steps of the refiner.")] = None,
    seed: Annotated[int, typer.Option(help="The same seed gives the same frames.")] = 0,
    device: Device = "cpu",
    dtype: Dtype = "float32",
    as_json: Json = False,
) -> None:
    """Make a video twice as high and wide."""
    with exit_codes(as_json):
        from fastvid_pipelines.commands.refine import Options
        from fastvid_pipelines.commands.refine import refine as run

        result = run(
            Options(
                video=video,
                prompt=prompt,
                output=output,
                image=image,
                num_frames=num_frames,
                steps=steps,
                seed=seed,
                model=model,
                device=device,
                dtype=dtype,
            )
        )
        _print(result, as_json, _made(result))


@app.command()
def reconstruct(
    video: Annotated[Path, typer.Argument(help="Any video file.")],
    output: Annotated[Path, typer.Argument(help="The mp4 to write; out.json and out.png appear beside it.")],
    model: Model = None,
    num_frames: Annotated[int | None, typer.Option(help="Only the first frames; without: all.")] = None,
    device: Device = "cpu",
    dtype: Dtype = "float32",
    as_json: Json = False,
) -> None:
    """Encode a video, decode it again, and say what was lost."""
    with exit_codes(as_json):
        from fastvid_pipelines.commands.reconstruct import reconstruct as run

        result = run(video=video, output=output, model=model, num_frames=num_frames, device=device, dtype=dtype)
        lost = f"PSNR {result['psnr']:.2f} dB at {result['compression']:.0f} times fewer numbers"
        _print(result, as_json, f"{_made(result)}\n{lost}")


@app.command()
def convert(  # noqa: PLR0913, PLR0917  # one parameter a flag
    src: Annotated[str, typer.Argument(help="File or folder of weights, or a repository of the hub.")],
    dst: Annotated[Path, typer.Argument(help="The folder to write; it must not be there yet.")],
    from_layout: Annotated[str, typer.Option("--from", help="Layout to read, such as wan-official, or one of ours.")],
    to_layout: Annotated[str, typer.Option("--to", help="Layout to write, such as fsvideo-dit or fsae.")],
    config: Annotated[
        str | None, typer.Option(help="Constant or folder of a larger model of ours, to begin with these weights.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of what --config adds; without: 0.")] = None,
    subfolder: Annotated[str | None, typer.Option(help="Folder of the model in SRC.")] = None,
    source: Annotated[str | None, typer.Option(help="Where files on this machine come from.")] = None,
    revision: Annotated[str | None, typer.Option(help="Which version of it.")] = None,
    licence: Annotated[str | None, typer.Option(help="Licence of the weights.")] = None,
    as_json: Json = False,
) -> None:
    """Make weights of other models ours, or ours theirs: Wan2.1, DC-AE, OD-VAE, Reducio-VAE, PixArt-alpha, RIFE."""
    with exit_codes(as_json):
        from fastvid_pipelines.commands.convert import Options
        from fastvid_pipelines.commands.convert import convert as run

        result = run(
            Options(
                src=src,
                dst=dst,
                from_layout=from_layout,
                to_layout=to_layout,
                target=config,
                seed=seed,
                subfolder=subfolder,
                source=source,
                revision=revision,
                licence=licence,
            )
        )
        origin = f"{result['source']}, revision {result['revision']}, licence {result['licence']}"
        _print(result, as_json, f"{result['output']}: {result['to']} from {result['from']}; {origin}")


@app.command()
def calibrate(  # noqa: PLR0913, PLR0917  # one parameter a flag
    image: Annotated[Path, typer.Argument(help="Any photo.")],
    prompt: Annotated[str, typer.Option(help="Anything that the model can do.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The file of settings to write, for generate --accelerate-settings.")
    ],
    accelerator: Annotated[str, typer.Option(help="Which accelerator to calibrate.")] = "asymrnr",
    model: Model = None,
    saving: Annotated[float, typer.Option(help="Share of the transformer's operations to save.")] = 0.05,
    q_rate: Annotated[float, typer.Option(help="Share of queries to drop where any are dropped.")] = 0.5,
    kv_rate: Annotated[float, typer.Option(help="Share of keys and values to drop where any are dropped.")] = 0.3,
    stride: Annotated[tuple[int, int, int], typer.Option(help="Frames, rows and columns of a cell.")] = (2, 2, 2),
    window: Annotated[int, typer.Option(help="Steps that one matching serves.")] = 5,
    num_frames: Annotated[int | None, typer.Option(help="Frames of the videos to come.")] = None,
    height: Annotated[int | None, typer.Option(help="Their height in pixels.")] = None,
    width: Annotated[int | None, typer.Option(help="Their width in pixels.")] = None,
    steps: Annotated[int | None, typer.Option(help="Steps of the solver.")] = None,
    seed: Annotated[int, typer.Option(help="The same seed gives the same settings.")] = 0,
    device: Device = "cpu",
    dtype: Dtype = "float32",
    as_json: Json = False,
) -> None:
    """Measure a model on one video, and write settings of an accelerator that save as much as asked for."""
    with exit_codes(as_json):
        from fastvid_pipelines.commands.calibrate import Options
        from fastvid_pipelines.commands.calibrate import calibrate as run

        options = Options(
            accelerator=accelerator,
            output=output,
            model=model,
            saving=saving,
            q_rate=q_rate,
            kv_rate=kv_rate,
            stride=stride,
            window=window,
            seed=seed,
            device=device,
            dtype=dtype,
        )
        size = {"num_frames": num_frames, "height": height, "width": width, "num_inference_steps": steps}
        result = run(options, image, {"prompt": prompt, **size})
        _print(
            result,
            as_json,
            f"{result['output']}: settings of {accelerator} for this model; to use them:\n{result['use']}",
        )


@app.command()
def plan(
    model: Annotated[str, typer.Option(help="Name of a full-size model.")] = "fsvideo-14b",
    height: Annotated[int, typer.Option(help="Height in pixels.")] = 720,
    width: Annotated[int, typer.Option(help="Width in pixels.")] = 1280,
    num_frames: Annotated[int, typer.Option(help="Frames of the video.")] = 121,
    steps: Annotated[int, typer.Option(help="Steps of the base model, two passes each.")] = 30,
    refiner_steps: Annotated[int, typer.Option(help="Steps of the refiner, one pass each.")] = 8,
    as_json: Json = False,
) -> None:
    """Say what a video would cost on a full-size model: tokens, operations, memory. Nothing is allocated."""
    with exit_codes(as_json):
        from fastvid_pipelines.commands import plan as planning

        report = planning.plan(
            model, num_frames=num_frames, height=height, width=width, steps=steps, refiner_steps=refiner_steps
        )
        _print(report, as_json, planning.table(report))


@app.command()
def doctor(as_json: Json = False) -> None:
    """Say what is installed, what is missing, and how to install it."""
    with exit_codes(as_json):
        from fastvid_pipelines.commands.doctor import examine

        report = examine()
        _print(report, as_json, _listed(report))
        if report["missing"]:
            raise typer.Exit(MISSING_DEPENDENCY)


def main() -> None:
    """The entry point of the script."""
    # Before torch: threads that spin for long while they wait crawl where another process has one of their cores.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(TERMINATED))  # lets `finally` remove temporary files
    _log_to_stderr()
    _add_commands()
    app()


def _add_commands() -> None:
    """The verbs of other packages; none of them can take the place of one that is here."""
    for name, entry in discovery.installed(discovery.COMMANDS).items():
        if name not in OWN_VERBS:
            _add_command(name, entry.dist.name if entry.dist else entry.module, entry.load)


def _add_command(name: str, package: str, load: Callable[[], Callable[..., None] | typer.Typer]) -> None:
    """A verb of another package: a function whose parameters are the flags, or an application that has verbs itself.

    It is imported when it is called.
    """

    @app.command(
        name,
        help=f"From {package}; see: fastvid-cli {name} --help",
        add_help_option=False,
        context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    )
    def call(context: typer.Context) -> None:
        with exit_codes(as_json="--json" in context.args):
            loaded = load()
            if isinstance(loaded, typer.Typer):
                verb = loaded
            else:
                verb = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
                verb.command()(loaded)
            verb(args=context.args, prog_name=f"fastvid-cli {name}")


def _log_to_stderr() -> None:
    """One line a stage, unless a terminal shows a progress bar instead; warnings always."""
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(lambda record: record.name.startswith("fastvid"))
    logging.basicConfig(
        level=logging.WARNING if sys.stderr.isatty() else logging.INFO, format="%(message)s", handlers=[handler]
    )


def _print(result: dict[str, Any], as_json: bool, text: str) -> None:
    print(json.dumps(result) if as_json else text)


def _made(result: dict[str, Any]) -> str:
    """The line about the files of a run."""
    output = result["output"]
    video = f"{output['num_frames']} frames of {output['width']}x{output['height']}, {output['fps']:g} a second"
    return (
        f"{output['video']}: {video}, in {result['seconds']['total']:.1f} s; "
        f"with {output['sidecar']} and {output['contact_sheet']}"
    )


def _listed(report: dict[str, Any]) -> str:
    lines = []
    for name, value in report.items():
        items = value if isinstance(value, list) else [f"{key}: {item}" for key, item in value.items()]
        lines += [f"{name}:", *(f"  {item}" for item in items or ["none"])]
    return "\n".join(lines)
