"""Files and folders that are never half-written: made under another name, flushed to disk, then renamed."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import socket
import stat
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffuseq.errors import InputError
from diffuseq.names import readable

if TYPE_CHECKING:
    from torch import Tensor

PARTIAL = ".partial-"
_OLD = "-old"
JUST_CHANGED_NS = 2_000_000_000
"""File systems tell times in steps of up to two seconds."""
_STREAMS = ("/dev/stdin", "/dev/stdout", "/dev/stderr", "/dev/fd", "/proc")
"""What stands for an open file, also where it leads to a plain one at the moment."""
_FILE, _FOLDER = "a file", "a folder"


def check_file(path: Path, instead: str = "give the name of a plain file") -> None:
    """Raise `InputError` where a file cannot take the place of what `path` names: a folder, a device, a pipe, a
    stream, or whose ending says that it is compressed, which nothing that we write is; and where nothing can be
    written. To be asked before the work whose outcome goes there. instead: what to do, for the message."""
    _check_name(path)
    if path.suffix.lower() == ".gz":
        raise InputError(
            f"{path} would be taken for compressed, and is written plain; give a name without .gz."
        )
    with _explained(path):
        what = "a stream" if _is_stream(path) else _kind(path)
    if what not in (None, _FILE):
        raise InputError(f"{path} is {what}, which a file cannot replace; {instead}.")
    _check_writable(path, path.absolute().parents)


def check_folder(path: Path) -> None:
    """Raise `InputError` where `path` is there and is no folder, and where nothing can be written into it."""
    with _explained(path):
        what = _kind(path)
    if what not in (None, _FOLDER):
        raise InputError(f"{path} is {what}; give the name of a folder.")
    _check_writable(path, (path.absolute(), *path.absolute().parents))


def same_place(path: str | Path, other: str | Path) -> bool:
    """Whether both are there and are the same file or folder, by whatever names."""
    try:
        return os.path.samefile(path, other)
    except OSError:
        return False


def check_outputs(written: Mapping[str, Path | None], read: Iterable[str | Path] = ()) -> None:
    """Raise `InputError` where a file that is to be written is one that is read, or is to be written twice.

    written: the paths by the options that name them, for the message.
    """
    read, first = list(read), dict[str, str]()
    for option, path in written.items():
        if path is None:
            continue
        if any(same_place(path, other) for other in read):
            raise InputError(f"{path} is what is read; give {option} another name.")
        other = first.setdefault(os.path.realpath(path), option)
        if other != option:
            raise InputError(f"{other} and {option} are both {path}; give each a name of its own.")


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; when the block ends well it becomes `path`, else nothing changes.

    What killed processes of this machine left of `path` is removed. Raises `InputError` when the disk is full
    or the folder cannot be written, and as `check_file`. A link is replaced, not what it leads to.
    """
    check_file(path)
    temporary = _temporary(path)
    with _explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(path)
        try:
            yield temporary
            _flush(temporary)
            os.replace(temporary, path)
            _flush(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """The same for a folder of files, which takes the place of a folder that stood at `path`.

    What killed processes of this machine left of `path` is removed.
    """
    check_folder(path)
    temporary = _temporary(path)
    with _explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(path)
        _remove(temporary)
        temporary.mkdir()
        try:
            yield temporary
            for made in (*temporary.rglob("*"), temporary):
                _flush(made)
            _replace_folder(temporary, path)
            _flush(path.parent)
        finally:
            _remove(temporary)


def sweep(folder: Path) -> None:
    """Remove what killed processes left behind; only for who alone writes into `folder`."""
    for left in folder.glob(f"{PARTIAL}*"):
        _remove(left)


def hash_file(path: str | Path) -> str:
    """The SHA-256 of a file's bytes, as hexadecimal digits."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def remembered_hash(path: str | Path, memory: Path) -> str:
    """`hash_file`, remembered in the JSON file `memory` for as long as size, time and place of `path` stay, so
    that a large file is not read again to know that it is the same."""
    status = os.stat(path)
    now = [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]
    name = str(Path(path).resolve())
    known = _known_hashes(memory)
    match known.get(name):
        case [seen, str(digest)] if seen == now:
            return digest
    digest = hash_file(path)
    if time.time_ns() - status.st_mtime_ns > JUST_CHANGED_NS:  # else a change could share its time stamp
        write_text(memory, json.dumps(known | {name: [now, digest]}))
    return digest


def _known_hashes(memory: Path) -> dict[str, Any]:
    """What is remembered of all files; nothing where that cannot be read, since it can be had again."""
    try:
        known = json.loads(read_text(memory))
    except (OSError, ValueError, RecursionError):
        return {}
    return known if isinstance(known, dict) else {}


def read_text(path: Path, largest: int = 16 * 2**20) -> str:
    """A small UTF-8 file, whole, in memory that is bounded whatever `path` is (a device, say).

    Raises `ValueError` when it is larger than `largest` bytes or no UTF-8, and `OSError`.
    """
    with open(path, "rb") as stream:
        content = stream.read(largest + 1)
    if len(content) > largest:
        raise ValueError(f"it is larger than {largest // 2**20} MiB")
    return content.decode("utf-8")


def write_text(path: Path, text: str) -> None:
    """Write a small text file in one piece. What is not UTF-8, in the name of a file, stands as an escape there,
    which JSON reads as it was."""
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a safetensors file; what the disk refuses is an `OSError`, as for every other file."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    alone = {name: _own_memory(tensor) for name, tensor in tensors.items()}
    try:
        save_file(alone, path, metadata={"format": "pt"})
    except SafetensorError as error:
        code = errno.ENOSPC if "No space left" in str(error) else errno.EIO
        raise OSError(code, str(error)) from error
    path.chmod(0o644)  # the library makes it readable for its owner alone


@contextmanager
def utf8_path(path: Path) -> Iterator[Path]:
    """A path by which libraries that take UTF-8 alone open a file of ours within the block: its own, or one through
    a link to its folder."""
    if readable(str(path)) == str(path):
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        link = Path(folder) / "link"
        link.symlink_to(path.parent.absolute())
        yield link / path.name


def _own_memory(tensor: Tensor) -> Tensor:
    tensor = tensor.detach().cpu().contiguous()
    is_view = tensor.untyped_storage().nbytes() != tensor.numel() * tensor.element_size()
    return tensor.clone() if is_view else tensor


def _flush(path: Path) -> None:
    """Make sure that a file or a folder is on the disk, not only in the page cache."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _check_name(path: Path) -> None:
    if not path.name:
        raise InputError(f"{str(path)!r} is no name for something new; give the name of a file or folder.")


def _check_writable(path: Path, folders: Iterable[Path]) -> None:
    """Raise `InputError` where the first of the folders that is there cannot take what `path` needs."""
    folder = next(each for each in folders if os.path.lexists(each))
    problem = "is no folder"
    if folder.is_dir():
        problem = "" if os.access(folder, os.W_OK | os.X_OK) else "is not yours to write into"
    if problem:
        raise InputError(f"Cannot write {path}: {folder} {problem}; choose a folder that can be written.")


def _is_stream(path: Path) -> bool:
    place = os.path.abspath(path)
    return any(place == stream or place.startswith(f"{stream}/") for stream in _STREAMS)


def _kind(path: Path) -> str | None:
    """What is at `path`, links followed; None for nothing. Raises `OSError` where that cannot be told."""
    try:
        mode = os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None
    kinds = {stat.S_IFREG: _FILE, stat.S_IFDIR: _FOLDER, stat.S_IFIFO: "a pipe"}
    kinds |= {stat.S_IFCHR: "a device", stat.S_IFBLK: "a device", stat.S_IFSOCK: "a socket"}
    return kinds.get(stat.S_IFMT(mode), "no plain file")


def _temporary(path: Path) -> Path:
    _check_name(path)
    return path.with_name(f"{PARTIAL}{socket.gethostname()}-{os.getpid()}-{path.name}")


def _replace_folder(new: Path, path: Path) -> None:
    """Rename `new` to `path`; what stood there is moved aside first, and comes back if that fails."""
    old = new.with_name(f"{new.name}{_OLD}")
    if not path.exists():
        new.rename(path)
        return
    path.rename(old)
    try:
        new.rename(path)
    except OSError:
        old.rename(path)
        raise
    _remove(old)


def _remove_abandoned(path: Path) -> None:
    """Remove what processes of this machine that live no more began to write in place of `path`."""
    prefix = f"{PARTIAL}{socket.gethostname()}-"
    for left in path.parent.iterdir():
        if left.name.startswith(prefix):
            process, _, name = left.name.removeprefix(prefix).partition("-")
            if name.removesuffix(_OLD) == path.name and process.isdigit() and not _is_alive(int(process)):
                _remove(left)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _remove(path: Path) -> None:
    """Remove a folder or a file, as far as the disk lets us: what stays is swept later."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn what the disk says into one sentence."""
    try:
        yield
    except OSError as error:
        todo = "free some space" if error.errno == errno.ENOSPC else "choose a folder that can be written"
        raise InputError(
            f"Cannot write {path}: {error.strerror or error}; {todo} and start again."
        ) from error
