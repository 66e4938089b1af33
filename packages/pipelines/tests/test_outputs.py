import fcntl
import os
from pathlib import Path

import pytest
from fastvid_pipelines.checkpoint import new_folder
from fastvid_pipelines.outputs import check_writable, staged


def test_files_take_their_names_together(tmp_path: Path) -> None:
    paths = [tmp_path / "a.txt", tmp_path / "b.txt"]
    with staged(*paths) as parts:
        for part in parts:
            part.write_text(part.name)
            assert part.suffix == ".part"
        assert not any(path.exists() for path in paths)
    assert sorted(tmp_path.iterdir()) == paths


def test_files_are_open_for_writing_when_they_are_synced_as_windows_asks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    modes = []
    monkeypatch.setattr("os.fsync", lambda file: modes.append(fcntl.fcntl(file, fcntl.F_GETFL) & os.O_ACCMODE))
    with staged(tmp_path / "a.txt") as (part,):
        part.write_text("a")
    with new_folder(tmp_path / "model") as folder:
        (folder / "b.txt").write_text("b")
    assert modes == [os.O_RDWR, os.O_RDWR]
    assert (tmp_path / "a.txt").read_text() == "a"


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt, SystemExit])
def test_whatever_goes_wrong_nothing_is_left(tmp_path: Path, error: type[BaseException]) -> None:
    old = tmp_path / "a.txt"
    old.write_text("old")

    def fail() -> None:
        with staged(old, tmp_path / "b.txt") as (first, second):
            first.write_text("new")
            second.write_text("half")
            raise error

    with pytest.raises(error):
        fail()
    assert list(tmp_path.iterdir()) == [old]
    assert old.read_text() == "old"


def test_a_file_that_was_not_written_stops_all(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), staged(tmp_path / "a.txt", tmp_path / "b.txt") as (first, _):
        first.write_text("new")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("place", "message"), [("no/a.txt", "there is no folder"), (".", "which is a folder")])
def test_bad_places_are_refused(tmp_path: Path, place: str, message: str) -> None:
    with pytest.raises(ValueError, match=f"`output` is .*{message}"):
        check_writable("output", tmp_path / place)


@pytest.mark.parametrize("length", [256, 250])
def test_a_name_too_long_for_the_file_or_for_its_temporary_name_is_refused(tmp_path: Path, length: int) -> None:
    with pytest.raises(ValueError, match=r"`output` is '.*': File name too long"):
        check_writable("output", tmp_path / ("x" * length))
    longest = tmp_path / ("x" * 241)
    check_writable("output", longest)
    with staged(longest) as (part,):
        part.write_text("a")


def test_a_read_only_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.access", lambda path, mode: False)
    with pytest.raises(ValueError, match="not writable"):
        check_writable("output", tmp_path / "a.txt")
