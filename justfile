set positional-arguments

# Threads that spin for long while they wait crawl where another process has one of their cores.
export GOMP_SPINCOUNT := "10000"

# List the recipes.
default:
    @just --list

# All that CI runs, but for the packages alone.
check: lint shapes
    uv run pytest

# Lock, format, lint, types and import rules.
lint:
    uv lock --check
    uv run ruff format --check
    uv run ruff check
    uv run mypy
    uv run pyright
    uv run lint-imports --no-logo

# Check the shapes in the signatures at run time; not where wrong ones are refused on purpose, nor while tracing.
shapes:
    uv run pytest --quiet tests/contracts tests/numerics --ignore tests/contracts/test_export.py -k "not refused" \
        --jaxtyping-packages=fastvid_vae,fastvid_dit,fastvid_accel,fastvid_pipelines,fastvid_export,typeguard.typechecked

# Tests of one package: vae, dit, accel, pipelines or export.
test package *args:
    uv run pytest "packages/{{package}}" {{args}}

# The tests that take minutes: export and compilation in every mode, the recipes and the benchmarks at toy size.
slow *args:
    uv run pytest -m "slow and not gpu and not weights" {{args}}

# Build each named package (all without a name) as a wheel and test it in an environment of its own.
alone *packages:
    uv run .ci/alone.py {{packages}}

# Run the example that starts with this number, such as 01.
example number *args:
    uv run python examples/{{number}}_*.py {{args}}

# Run the benchmark of this name.
bench name *args:
    uv run python benchmarks/{{name}}.py {{args}}

# Where photos and clips are, and where training leaves its checkpoints.
data := env("FASTVID_DATA", "../shared/data")
runs := env("FASTVID_RUNS", "runs/embedded")

# Train the embedded model's parts in turn, the last one without layer memory; after a kill it goes on.
train-embedded *args:
    uv run python recipes/embedded/train_autoencoder.py {{data}} {{runs}}
    uv run python recipes/embedded/train_transformer.py {{data}} {{runs}} {{args}}
    uv run python recipes/embedded/train_refiner.py {{data}} {{runs}}
    uv run python recipes/embedded/train_transformer.py {{data}} {{runs}} --no-layer-memory {{args}}

# Print the embedded model's scores on validation photos and clips.
eval-embedded *args:
    uv run python recipes/embedded/evaluate.py {{data}} {{args}}
