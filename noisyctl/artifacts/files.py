"""Files and folders that are published whole, and never in the place of something that noisyctl did not write itself.

`publish` is the only way to write an output. It is told the form of what it writes: how to recognize an output of the
same kind, which may be replaced. Whatever else stands at the place stays there, and the command is refused. `check` asks
the same before a command begins its work, and refuses outputs that are inputs, lie inside one, or contain one.
"""

import contextlib
import ctypes
import errno
import functools
import hashlib
import json
import os
import platform
import re
import shutil
import stat
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from noisyctl.errors import ArtifactError, OutputError

MANIFEST = ".noisyctl.json"  # in a folder that is replaced as a whole: its kind, and the sha256 of every file
NO_FILE = "is a folder, and a file never replaces a folder"
IN_SCRATCH = ("scratch", "sweep", "made")  # what noisyctl keeps in NOISYCTL_SCRATCH
NETWORKS_KEY = "noisyctl"  # of the metadata of a safetensors file
AT_FDCWD, RENAME_NOREPLACE, RENAME_EXCHANGE = -100, 1, 2  # of renameat2
TRIES = 10  # to replace what other processes replace at the same time
PROJECT_FILES = (".git", ".dvc", "dvc.yaml", "params.yaml", "pyproject.toml", "setup.py", "package.json")


@runtime_checkable
class Form(Protocol):
    """A kind of output, and how to tell that a file or a folder is one that noisyctl wrote."""

    def foreign(self, path: Path) -> str | None:
        """Why what stands at `path` may not be replaced, as the end of a sentence; None where it may."""


@dataclass(frozen=True)
class Text:
    """A text file. It is ours where its first line begins with one of `heads`."""

    heads: tuple[str, ...]

    def foreign(self, path: Path) -> str | None:
        if not path.is_file():
            return NO_FILE
        try:
            with path.open("rb") as file:
                first = file.readline(4096).decode("utf-8-sig", "replace").strip()
        except OSError as error:
            return f"cannot be read ({error.strerror})"
        if not first.startswith(self.heads):
            return "is not a file that this command wrote"
        return None


@dataclass(frozen=True)
class Networks:
    """Networks of a kind (encoder, clusters, networks, checkpoint), also where their tensors are damaged."""

    kind: str

    def foreign(self, path: Path) -> str | None:
        if not path.is_file():
            return NO_FILE
        header = networks_header(path)
        if header is None:
            return "is not a file that noisyctl wrote, or is damaged"
        found = header.get("kind", "checkpoint")
        return None if found == self.kind else f"holds {found}, not {self.kind}"


def networks_header(path: Path) -> dict[str, Any] | None:
    """What a file of networks says of itself, without its tensors; None where noisyctl did not write it."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > path.stat().st_size:
                return None
            return dict(json.loads(json.loads(file.read(length))["__metadata__"][NETWORKS_KEY]))
    except (KeyError, OSError, RecursionError, TypeError, ValueError):
        return None


@dataclass(frozen=True)
class Link:
    """A symbolic link; what it leads to is never touched."""

    def foreign(self, path: Path) -> str | None:
        return None if path.is_symlink() else "is not a link that this command made"


@dataclass(frozen=True)
class Own:
    """Any file in a folder that noisyctl alone fills, such as its scratch folder."""

    def foreign(self, path: Path) -> str | None:
        return None if path.is_file() else NO_FILE


@dataclass(frozen=True)
class Folder:
    """A folder that one command fills and replaces as a whole. `seal` leaves in it the list of what was written."""

    kind: str

    def foreign(self, path: Path) -> str | None:
        if not path.is_dir():
            return "is a file, not a folder that this command wrote"
        files = {str(p.relative_to(path)): p for p in path.rglob("*") if not p.is_dir() or p.is_symlink()}
        if not files:
            return None if not any(path.iterdir()) else "holds folders that this command did not write"
        try:
            manifest = json.loads(files.pop(MANIFEST).read_text())
            listed = dict(manifest["files"])
            mine = manifest["kind"] == self.kind
        except (KeyError, OSError, ValueError, TypeError):
            return "is a folder that this command did not write"
        if not mine:
            return f"holds {manifest['kind']}, not {self.kind}"
        for name, file in sorted(files.items()):
            if name not in listed:
                return f"holds {name}, which this command did not write"
            if _recorded(file) != listed[name]:
                return f"holds {name}, which was changed after this command wrote it"
        return None

    def missing(self, folder: Path) -> list[str]:
        """The files of a sealed folder that are there no longer."""
        listed = json.loads((folder / MANIFEST).read_text())["files"]
        return [name for name in sorted(listed) if not os.path.lexists(folder / name)]

    def seal(self, folder: Path) -> None:
        """Write the list of the folder's files; call it when all of them are there. Of a link, what it says counts."""
        found = [p for p in sorted(folder.rglob("*")) if p.is_symlink() or p.is_file()]
        files = {str(p.relative_to(folder)): _recorded(p) for p in found}
        text = json.dumps({"kind": self.kind, "files": files}, indent=1, sort_keys=True)
        (folder / MANIFEST).write_text(text + "\n")


def _recorded(path: Path) -> str:
    """What a sealed folder records of a file: the sha256 of its bytes, or where a link leads, which is not followed."""
    return f"link to {path.readlink()}" if path.is_symlink() else _sha256(path)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True)
class Writes:
    """What an output option stands for: the places that the command writes, each with its form.

    `inside` is set where the option names a folder that holds the places, beside other artifacts of noisyctl.
    """

    places: Mapping[Path, Form]
    inside: Path | None = None


def _foreign(path: Path, reason: str) -> OutputError:
    """The refusal to replace what stands at `path`, with the cure."""
    return OutputError(f"{path} {reason}; nothing was written. Choose another --out, or move it away first")


def refuse_foreign(path: Path, form: Form) -> None:
    """Raise OutputError where something stands at `path` that is not of this form, or lies there by a link."""
    if path.is_symlink() and not isinstance(form, Link):
        target = path.resolve()
        if not target.is_file():
            raise OutputError(f"{path} is a link; nothing was written. Give the place it leads to, {target}")
    elif not os.path.lexists(path):
        return
    if (reason := form.foreign(path)) is not None:
        raise _foreign(path, reason)


def check(
    outputs: Iterable[Writes], inputs: Iterable[Path], ours: Callable[[Path], bool], option: str = "--out"
) -> None:
    """Refuse outputs that would harm something, before any work is done.

    An output may not be an input, lie inside one, or contain one; it may replace only what `Form.foreign` knows; a folder
    that is shared with other artifacts must be new, empty, or hold artifacts of noisyctl, which `ours` tells of a path.
    Raises OutputError with the cure.
    """
    read = {_real(path): path for path in inputs}
    for output in outputs:
        if output.inside is not None:
            _check_shared_folder(output.inside, ours, option)
        for path, form in output.places.items():
            require_place(path, option)
            refuse_foreign(path, form)
            real = _real(path)
            for place, given in read.items():
                if real == place or place in real.parents:
                    how = "is an input of this command" if real == place else f"lies inside its input {given}"
                    raise OutputError(
                        f"{path} {how}; nothing was written. Choose a place outside of it with {option}"
                    )
                if real in place.parents:
                    raise OutputError(
                        f"{path} contains the input {given}; nothing was written. Choose another {option}"
                    )


def require_place(path: Path, option: str) -> None:
    """Refuse the current folder and those around it, a place below a file, and a place that cannot be written.

    Raises OutputError.
    """
    here = Path.cwd().resolve()
    real = _real(path)
    if path == Path() or real == here or real in here.parents:
        raise OutputError(
            f"{path} is the current folder or one around it; nothing was written. Give a place inside it with {option}"
        )
    parent = path.parent
    while not os.path.lexists(parent):
        parent = parent.parent
    if not parent.is_dir():
        raise OutputError(f"{parent} is a file, so nothing can be written at {path}; choose another {option}")
    _require_writable(parent, option)


def _require_writable(folder: Path, option: str) -> None:
    """A folder without any permission to write is left alone, also where the user is root."""
    if not (
        os.access(folder, os.W_OK) and folder.stat().st_mode & (stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH)
    ):
        raise OutputError(
            f"{folder} is read-only; nothing was written. Choose another {option}, or allow writing there"
        )


def _check_shared_folder(folder: Path, ours: Callable[[Path], bool], option: str) -> None:
    """A folder that artifacts are put into: new, empty, or already one of noisyctl's."""
    require_place(folder, option)
    if folder.is_symlink():
        raise OutputError(
            f"{folder} is a link; nothing was written. Give the folder it leads to, {folder.resolve()}"
        )
    if not folder.exists():
        return
    if not folder.is_dir():
        raise OutputError(f"{folder} is a file; nothing was written. Give a folder with {option}")
    _require_writable(folder, option)
    held = [p for p in folder.iterdir() if p.name in PROJECT_FILES or not p.name.startswith(".")]
    if not held:
        return
    project = next((p.name for p in held if p.name in PROJECT_FILES), None)
    if project is not None or not ours(folder):
        what = f"a project (it holds {project})" if project else "a folder with other files"
        raise OutputError(
            f"{folder} is {what}; nothing was written. Give a new or empty folder with {option}, "
            "or one that holds noisyctl's artifacts"
        )


def require_scratch(folder: Path) -> None:
    """Refuse a scratch folder that is a file, or that holds what noisyctl did not put there. Raises OutputError."""
    cure = "set NOISYCTL_SCRATCH to a new folder of its own"
    if not os.path.lexists(folder):
        return
    if not folder.is_dir():
        raise OutputError(f"the scratch folder {folder} is a file, not a folder; {cure}")
    held = sorted(p.name for p in folder.iterdir())
    other = [n for n in held if n in PROJECT_FILES or not (n in IN_SCRATCH or n.startswith("."))]
    if other:
        raise OutputError(f"the scratch folder {folder} holds {other[0]}, which is not noisyctl's; {cure}")


def _real(path: Path) -> Path:
    """The place itself: its parents' links followed, its own not (a link is replaced, not what it leads to)."""
    path = Path(os.path.abspath(path))  # noqa: PTH100 - resolve() would follow the last link
    return path.parent.resolve() / path.name


@contextlib.contextmanager
def publish(path: Path, form: Form) -> Iterator[Path]:
    """Give a hidden sibling of `path` to write to; when the block ends well it takes `path`'s place in one step.

    What stood at `path` stays until then, and stays for good where it is not of this form: OutputError. Killed at any
    moment, the old content or the new one is at `path` (or is put back there by `recover`, see `_replace`). Raises
    ArtifactError where the place cannot be written or the disk is full.
    """
    path = Path(path)
    recover(path)
    refuse_foreign(path, form)
    partial = _sibling(path, "partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_remains(path)
        yield partial
        _sync(partial)
        refuse_foreign(path, form)
    except OSError as error:
        remove(partial)
        raise disk_error(path, error) from error
    except BaseException:
        remove(partial)
        raise
    try:
        _replace(partial, path, form)
        _sync_folder(path.parent)
    except OSError as error:
        remove(partial)
        raise disk_error(path, error) from error
    except _Kept as error:
        raise OutputError(str(error)) from error
    except OutputError:
        remove(partial)
        raise


def size_and_time(path: Path) -> tuple[int, int]:
    """Bytes and time of the last change of a file, by which it is known again; -1 twice where there is no file."""
    try:
        about = path.stat()
    except OSError:
        return -1, -1
    return (about.st_size, about.st_mtime_ns) if stat.S_ISREG(about.st_mode) else (-1, -1)


def exists(path: Path) -> bool:
    """Whether something is published at `path`, also where a killed command left it to be put back."""
    recover(path)
    return path.exists()


def remove_remains(path: Path) -> bool:
    """Remove what killed processes left beside `path`, and tell whether there was any.

    What a live process or one of another host writes stays.
    """
    own = (_sibling(path, "partial"), _sibling(path, "old"))
    left = [remains.path for remains in _remains(path) if remains.dead or remains.path in own]
    for remains in left:
        remove(remains)
    return bool(left)


def remove_remains_in(folder: Path) -> None:
    """Remove what killed processes left of anything in `folder`. What a live process or one of another host writes stays."""
    form = re.compile(r"\..+\.(partial|old)-([A-Za-z0-9._]+)-([0-9]+)")
    found = [(p, form.fullmatch(p.name)) for p in sorted(folder.iterdir())] if folder.is_dir() else []
    for path, match in found:
        if match and _Remains(path, match[1], match[2], int(match[3])).dead:
            remove(path)


def discard(path: Path) -> None:
    """Remove a file or a folder, if it is there, so that nobody finds a part of it: it is first renamed out of sight."""
    hidden = _sibling(path, "partial")
    try:
        path.rename(hidden)
    except FileNotFoundError:
        return
    except OSError as error:
        raise disk_error(path, error) from error
    remove(hidden)


def recover(path: Path) -> None:
    """Put back what stood at `path` where a process was killed between the two renames of `_replace`."""
    if os.path.lexists(path) or not path.parent.is_dir():
        return
    for remains in _remains(path):
        if remains.role == "old":
            with contextlib.suppress(OSError):  # another process was faster, or the folder is read-only
                remains.path.rename(path)
            return


def _replace(partial: Path, path: Path, form: Form) -> None:
    """Bring `partial` to `path` and remove what stood there, if it is of this form.

    Linux exchanges the two in one step, so that the one or the other is always at `path`, and what was taken away can be
    looked at before it is removed. Where the file system cannot, a file is renamed over the old one, and a folder takes
    two renames: one that is killed between them leaves the old folder beside `path`, and `recover` puts it back.
    Raises OutputError where something of another form appeared at `path` meanwhile; it stays there.
    """
    for _ in range(TRIES):
        try:
            if not os.path.lexists(path):
                done = _rename_with(partial, path, RENAME_NOREPLACE)
            elif done := _rename_with(partial, path, RENAME_EXCHANGE):
                _remove_old(partial, path, form)
            if not done:
                _replace_in_two(partial, path, form)
            return
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.ENOENT, errno.ENOTEMPTY):
                raise
            refuse_foreign(path, form)  # something came or went meanwhile
    raise OutputError(
        f"{path} is being written by other processes again and again; wait for them, then run again"
    )


class _Kept(Exception):
    """The hidden sibling holds what noisyctl did not write."""


def _remove_old(old: Path, path: Path, form: Form) -> None:
    """Remove what the exchange took away from `path`; exchange it back where it is not of this form."""
    if (reason := form.foreign(old)) is not None:
        try:
            _rename_with(old, path, RENAME_EXCHANGE)
        except OSError as error:
            raise _Kept(f"{path} {reason}; it lies at {old} now, move it from there") from error
        raise _foreign(path, reason)
    remove(old)


def _replace_in_two(partial: Path, path: Path, form: Form) -> None:
    """For file systems without an exchange. A folder cannot be renamed over another one."""
    if not path.is_dir() or path.is_symlink():
        partial.replace(path)
        return
    old = _sibling(path, "old")
    path.rename(old)
    if form.foreign(old) is not None:
        old.rename(path)
        refuse_foreign(path, form)
    try:
        partial.rename(path)
    except OSError:
        recover(path)
        raise
    remove(old)


def _rename_with(source: Path, target: Path, flag: int) -> bool:
    """renameat2 of Linux; False where the system or the file system has none. Raises OSError."""
    call = _renameat2()
    if call is None:
        return False
    if call(AT_FDCWD, os.fsencode(source), AT_FDCWD, os.fsencode(target), flag) == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EPERM):
        return False
    raise OSError(code, os.strerror(code), str(source), None, str(target))


@functools.cache
def _renameat2() -> Callable[..., int] | None:
    if sys.platform != "linux":
        return None
    call: Callable[..., int] | None = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    return call


@dataclass(frozen=True)
class _Remains:
    """A hidden sibling that a publishing process made: `partial` is what it writes, `old` what it is replacing."""

    path: Path
    role: str
    host: str
    pid: int

    @property
    def dead(self) -> bool:
        """Whether its process is known to be gone; of a process of another host nothing is known."""
        return self.host == _host() and not _alive(self.pid)


def _sibling(path: Path, role: str) -> Path:
    return path.with_name(f".{path.name}.{role}-{_host()}-{os.getpid()}")


def _remains(path: Path) -> list[_Remains]:
    """The hidden siblings of `path`; a name that only looks like one is passed over."""
    form = re.compile(rf"\.{re.escape(path.name)}\.(partial|old)-([A-Za-z0-9._]+)-([0-9]+)")
    beside = sorted(path.parent.iterdir()) if path.parent.is_dir() else []
    found = [(p, form.fullmatch(p.name)) for p in beside]
    return [_Remains(p, match[1], match[2], int(match[3])) for p, match in found if match]


@functools.cache
def _host() -> str:
    return re.sub(r"[^A-Za-z0-9._]", "_", platform.node())[:32] or "unknown"


def disk_error(path: Path, error: OSError) -> ArtifactError:
    cures = {
        errno.ENOSPC: "the disk is full; free some space",
        errno.EDQUOT: "the disk quota is used up; free some space",
        errno.EFBIG: "the file would be larger than allowed; raise the limit",
        errno.EROFS: "the file system is read-only; choose another --out",
        errno.EACCES: "no permission to write there; choose another --out",
        errno.EPERM: "no permission to write there; choose another --out",
        errno.EEXIST: "a file stands where a folder is needed; choose another --out",
        errno.ENOTDIR: "a file stands where a folder is needed; choose another --out",
    }
    reason = cures.get(error.errno or 0, f"{error.strerror or error}; choose another --out")
    return ArtifactError(f"cannot write {path}: {reason}, then run the same command again (nothing is lost)")


def _sync(path: Path) -> None:
    for file in [path] if path.is_file() else sorted(path.rglob("*")):
        if file.is_file():
            descriptor = os.open(file, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
    for folder in [path, *path.rglob("*")] if path.is_dir() else []:
        if folder.is_dir():
            _sync_folder(folder)


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove(path: Path) -> None:
    """Remove a file or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            path.unlink()


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True
