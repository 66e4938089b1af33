set positional-arguments

# List the recipes.
default:
    @just --list

# All that CI runs, but for the packages alone.
check:
    uv lock --check
    uv run ruff format --check
    uv run ruff check
    uv run mypy
    uv run pyright
    uv run lint-imports --no-logo
    uv run pytest

# Tests of one package: vae, dit, accel, pipelines or export.
test package *args:
    uv run pytest "packages/{{package}}" {{args}}

# Build each named package (all without a name) as a wheel and test it in an environment of its own.
alone *packages:
    uv run .ci/alone.py {{packages}}

# Run the example that starts with this number, such as 01.
example number *args:
    uv run python examples/{{number}}_*.py {{args}}

# Run the benchmark of this name.
bench name *args:
    uv run python benchmarks/{{name}}.py {{args}}

# Train the embedded model's parts in turn; run again after a kill, it goes on.
train-embedded *args:
    uv run python recipes/embedded/train_autoencoder.py {{args}}
    uv run python recipes/embedded/train_transformer.py {{args}}

# Print the embedded model's scores on validation photos and clips.
eval-embedded *args:
    uv run python recipes/embedded/evaluate.py {{args}}
