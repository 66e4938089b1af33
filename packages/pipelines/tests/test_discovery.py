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
    with pytest.raises(ValueError, match=r"`accelerator` is 'magic'; installed: 'none'\..*fastvid-accel"):
        discovery.find(discovery.ACCELERATORS, "magic")


def test_where_nothing_is_installed_the_line_that_installs_it_is_named(entries: list[EntryPoint]) -> None:
    entries.clear()
    with pytest.raises(MissingPackageError, match=r"no accelerator is installed.*pip install fastvid-accel"):
        discovery.find(discovery.ACCELERATORS, "none")
    with pytest.raises(MissingPackageError, match=r"fastvid_vae\.FSAE, .*pip install fastvid-vae"):
        discovery.find_class(discovery.AUTOENCODERS, "fastvid_vae", "FSAE")


def test_a_name_taken_twice_leads_to_the_library_that_was_meant(entries: list[EntryPoint]) -> None:
    entries.append(EntryPoint("Fraction", "zipfile:ZipFile", discovery.AUTOENCODERS))
    for _ in range(2):
        assert discovery.find_class(discovery.AUTOENCODERS, "fractions", "Fraction").__name__ == "Fraction"
        assert discovery.find_class(discovery.AUTOENCODERS, "zipfile", "Fraction").__name__ == "ZipFile"
        entries.reverse()


@pytest.mark.parametrize("other", ["aaa_other:X", "zzz_other:X"])
def test_a_name_that_fastvid_took_stays_its_own(entries: list[EntryPoint], other: str) -> None:
    entries[:] = [
        EntryPoint("none", other, discovery.ACCELERATORS),
        EntryPoint("none", "fastvid_accel:NoAcceleration", discovery.ACCELERATORS),
        EntryPoint("more", other, discovery.ACCELERATORS),
    ]
    for _ in range(2):
        found = discovery.installed(discovery.ACCELERATORS)
        assert {name: entry.value for name, entry in found.items()} == {
            "none": "fastvid_accel:NoAcceleration",
            "more": other,
        }
        entries.reverse()


@pytest.mark.parametrize(
    ("library", "class_name"), [("os", "system"), ("fractions", "Decimal"), ("decimal", "Fraction")]
)
def test_a_folder_cannot_name_what_is_not_registered(entries: list[EntryPoint], library: str, class_name: str) -> None:
    message = rf"the pipeline's autoencoder is {library}\.{class_name}; installed: fractions\.Fraction$"
    with pytest.raises(CheckpointError, match=message):
        discovery.find_class(discovery.AUTOENCODERS, library, class_name)
