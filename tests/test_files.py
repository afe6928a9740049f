"""Files and folders are whole or absent, and what stood there stays until the new one is whole."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from diffuseq.errors import InputError
from diffuseq.files import (
    PARTIAL,
    atomic_file,
    atomic_folder,
    check_file,
    check_folder,
    check_outputs,
    hash_file,
    remembered_hash,
    same_place,
    sweep,
    write_text,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with atomic_folder(tmp_path / "store") as made:
        (made / "a.txt").write_text("old")
    return tmp_path / "store"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def ended_process() -> int:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    return child.pid


def test_a_new_folder_takes_the_place_of_the_old_one_as_a_whole(folder: Path) -> None:
    with atomic_folder(folder) as made:
        (made / "b.txt").write_text("new")
        assert names(folder) == ["a.txt"]
    assert names(folder) == ["b.txt"]
    assert names(folder.parent) == ["store"]


def test_a_block_that_fails_changes_nothing(folder: Path) -> None:
    with pytest.raises(ZeroDivisionError), atomic_folder(folder) as made:
        (made / "a.txt").write_text("new")
        1 / 0  # noqa: B018
    with pytest.raises(ZeroDivisionError), atomic_file(folder / "a.txt") as file:
        file.write_text("new")
        1 / 0  # noqa: B018
    assert (folder / "a.txt").read_text() == "old"
    assert names(folder.parent) == ["store"]


def test_the_old_folder_comes_back_when_the_new_one_cannot_be_renamed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = Path.rename

    def refuse_the_new(path: Path, target: Path) -> Path:
        if target == folder and not path.name.endswith("-old"):
            raise PermissionError(13, "Permission denied")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", refuse_the_new)
    with (
        pytest.raises(InputError, match="store: Permission denied; choose"),
        atomic_folder(folder) as made,
    ):
        (made / "a.txt").write_text("new")
    assert (folder / "a.txt").read_text() == "old"
    assert names(folder.parent) == ["store"]


def test_folders_that_a_killed_process_left_are_removed_and_those_of_others_stay(
    folder: Path, ended_process: int
) -> None:
    host = socket.gethostname()
    left = [f"{PARTIAL}{host}-{ended_process}-store", f"{PARTIAL}{host}-{ended_process}-store-old"]
    others = [
        f"{PARTIAL}{host}-{os.getppid()}-store",
        f"{PARTIAL}{host}-{ended_process}-another",
        f"{PARTIAL}elsewhere-{ended_process}-store",
    ]
    for name in left + others:
        (folder.parent / name).mkdir()
    with atomic_folder(folder) as made:
        (made / "b.txt").write_text("new")
    assert names(folder.parent) == sorted([*others, "store"])
    sweep(folder.parent)
    assert names(folder.parent) == ["store"]


def test_a_file_that_a_killed_process_left_half_written_goes_when_it_is_written_anew(
    tmp_path: Path, ended_process: int
) -> None:
    host = socket.gethostname()
    left = [f"{PARTIAL}{host}-{ended_process}-a.txt", f"{PARTIAL}{host}-{ended_process}-other.txt"]
    for name in left:
        (tmp_path / name).write_text("half")
    write_text(tmp_path / "a.txt", "whole")
    assert names(tmp_path) == sorted([left[1], "a.txt"])  # what is of another file stays


def test_a_hash_is_remembered_until_the_file_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, memory = tmp_path / "data", tmp_path / "cache" / "hashes.json"
    path.write_text("old")
    assert remembered_hash(path, memory) == hash_file(path)
    assert not memory.exists()  # a change within the same tick of the clock could not be told
    os.utime(path, ns=(0, 0))
    first = remembered_hash(path, memory)
    monkeypatch.setattr("diffuseq.files.hash_file", lambda path: "read again")
    assert remembered_hash(path, memory) == first == hash_file(path)
    path.write_text("new")
    os.utime(path, ns=(0, 0))  # the same size and time: the time of the last change of any kind tells
    assert remembered_hash(path, memory) == "read again"
    memory.write_text("[1]")
    assert remembered_hash(path, memory) == "read again"


def test_the_hashes_of_several_files_are_remembered_side_by_side(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory, paths = tmp_path / "hashes.json", [tmp_path / "train", tmp_path / "valid"]
    for path in paths:
        path.write_text(path.name)
        os.utime(path, ns=(0, 0))
    first = [remembered_hash(path, memory) for path in paths]
    monkeypatch.setattr("diffuseq.files.hash_file", lambda path: "read again")
    assert [remembered_hash(path, memory) for path in paths] == first


def test_what_the_disk_refuses_is_one_sentence(tmp_path: Path) -> None:
    write_text(tmp_path / "file", "text")
    with pytest.raises(InputError, match=r"Cannot write .*inside: .*; choose a folder"):
        write_text(tmp_path / "file" / "inside", "text")


def test_a_hash_is_of_the_bytes(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")
    assert hash_file(tmp_path / "abc").startswith("ba7816bf8f01cfea")


def test_a_name_that_is_not_utf_8_stands_in_a_file_as_json_reads_it(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.csv")
    write_text(tmp_path / "a.json", json.dumps({"name": name}, ensure_ascii=False))
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {"name": name}


@pytest.mark.parametrize("name", ["answers.jsonl.gz", "ANSWERS.JSONL.GZ"])
def test_a_name_of_a_compressed_file_is_refused_for_what_is_written_plain(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=rf"{name} would be taken for compressed.*without \.gz"):
        check_file(tmp_path / name)


def test_what_is_no_plain_file_is_not_replaced_by_one(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "pipe")
    for name, what in (("pipe", "a pipe"), ("folder", "a folder"), ("link", "a pipe")):
        with pytest.raises(
            InputError, match=rf"{name} is {what}, which a file cannot replace; give the name"
        ):
            write_text(tmp_path / name, "text")
    assert (
        (tmp_path / "pipe").is_fifo() and (tmp_path / "folder").is_dir() and (tmp_path / "link").is_symlink()
    )
    assert names(tmp_path) == ["folder", "link", "pipe"]


@pytest.mark.parametrize("stream", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1", "/dev/../dev/stderr"])
def test_a_stream_is_no_file_wherever_it_leads(stream: str) -> None:
    with pytest.raises(InputError, match="is a stream, which a file cannot replace; look elsewhere"):
        check_file(Path(stream), "look elsewhere")


def test_a_device_is_no_file_to_write() -> None:
    with pytest.raises(InputError, match="/dev/zero is a device"):
        check_file(Path("/dev/zero"))


def test_a_folder_takes_the_place_of_nothing_but_a_folder(tmp_path: Path) -> None:
    write_text(tmp_path / "file", "text")
    with (
        pytest.raises(InputError, match="file is a file; give the name of a folder"),
        atomic_folder(tmp_path / "file"),
    ):
        pass
    assert (tmp_path / "file").read_text() == "text"
    check_folder(tmp_path)
    check_folder(tmp_path / "new")


@pytest.mark.parametrize("check", [check_file, check_folder])
def test_a_place_that_cannot_be_written_is_told_before_the_work(
    check: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_text(tmp_path / "file", "text")
    (tmp_path / "link").symlink_to("nowhere")
    for name in ("file/new", "file/folder/new", "link/new"):
        with pytest.raises(
            InputError, match=r"Cannot write .*new: .*(file|link) is no folder; choose a folder"
        ):
            check(tmp_path / name)
    check(tmp_path / "folder" / "new")
    assert names(tmp_path) == ["file", "link"]
    monkeypatch.setattr(os, "access", lambda folder, mode: folder != tmp_path)
    with pytest.raises(InputError, match=f"{tmp_path} is not yours to write into; choose a folder"):
        check(tmp_path / "folder" / "new")


def test_one_place_has_many_names(tmp_path: Path) -> None:
    write_text(tmp_path / "file", "text")
    (tmp_path / "link").symlink_to("file")
    assert same_place(tmp_path / "file", tmp_path / "link")
    assert not same_place(tmp_path / "file", tmp_path)
    assert not same_place(tmp_path / "new", tmp_path / "new")  # nothing is there


def test_what_is_read_is_not_written_and_nothing_is_written_twice(tmp_path: Path) -> None:
    read, new = tmp_path / "read.jsonl", tmp_path / "new.jsonl"
    read.write_text("rows")
    (tmp_path / "link.jsonl").symlink_to(read)
    check_outputs({"--output": new, "--pairs": None}, [read])
    for path in (read, tmp_path / "link.jsonl"):
        with pytest.raises(InputError, match="is what is read; give --pairs another name"):
            check_outputs({"--output": new, "--pairs": path}, [read, "-"])
    with pytest.raises(InputError, match=r"--output and --pairs are both .*give each a name of its own"):
        check_outputs({"--output": new, "--pairs": tmp_path / "x" / ".." / "new.jsonl"})
