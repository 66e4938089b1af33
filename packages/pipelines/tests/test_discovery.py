from importlib.metadata import EntryPoint

import pytest
from fastvid_pipelines import discovery
from fastvid_pipelines.errors import CheckpointError, MissingPackageError


@pytest.fixture
def entries(monkeypatch: pytest.MonkeyPatch) -> list[EntryPoint]:
    found = [
        EntryPoint("Fraction", "fractions:Fraction", discovery.AUTOENCODERS),
        EntryPoint("none", "collections:OrderedDict", discovery.ACCELERATORS),
    ]
    monkeypatch.setattr(discovery, "entry_points", lambda group: [entry for entry in found if entry.group == group])
    return found


def test_finds_what_is_installed(entries: list[EntryPoint]) -> None:
    assert discovery.find(discovery.ACCELERATORS, "none").__name__ == "OrderedDict"
    assert discovery.find_class(discovery.AUTOENCODERS, "fractions", "Fraction").__name__ == "Fraction"


def test_an_unknown_name_is_answered_with_the_installed_ones(entries: list[EntryPoint]) -> None:
    with pytest.raises(ValueError, match=r"`accelerator` is 'magic'; installed: none\..*fastvid-accel"):
        discovery.find(discovery.ACCELERATORS, "magic")


def test_where_nothing_is_installed_the_line_that_installs_it_is_named(entries: list[EntryPoint]) -> None:
    entries.clear()
    with pytest.raises(MissingPackageError, match=r"no accelerator is installed.*pip install fastvid-accel"):
        discovery.find(discovery.ACCELERATORS, "none")
    with pytest.raises(MissingPackageError, match=r"fastvid_vae\.FSAE, .*pip install fastvid-vae"):
        discovery.find_class(discovery.AUTOENCODERS, "fastvid_vae", "FSAE")


@pytest.mark.parametrize(
    ("library", "class_name", "error"),
    [
        ("os", "system", MissingPackageError),
        ("fractions", "Decimal", CheckpointError),
        ("decimal", "Fraction", MissingPackageError),
    ],
)
def test_a_folder_cannot_name_what_is_not_registered(
    entries: list[EntryPoint], library: str, class_name: str, error: type[Exception]
) -> None:
    with pytest.raises(error, match=f"the pipeline's autoencoder is {library}.{class_name}"):
        discovery.find_class(discovery.AUTOENCODERS, library, class_name)
