"""Publishing in one step: killed at any point the old or the new content is there, and nobody else's file is touched."""

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from noisyctl.artifacts import files, store, tensor_files
from noisyctl.artifacts.kinds import NEIGHBORS
from noisyctl.errors import ArtifactError, OutputError

FORM = store.Form(NEIGHBORS)


def write(path: Path, value: int) -> None:
    store.write(path, NEIGHBORS, {"indices": np.full((3, 1), value), "similarity": np.zeros((3, 1))})


def value(path: Path) -> int:
    return int(store.read(path, NEIGHBORS).array("indices")[0, 0])


@pytest.fixture
def without_exchange(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system that has none."""
    monkeypatch.setattr(files, "_renameat2", lambda: None)


def die_at(name: str, call: Callable[[], object]) -> None:
    """Run `call` in a forked process that ends at its first `Path.rename` whose target is called so."""
    child = os.fork()
    if child == 0:
        rename = Path.rename

        def dying(self: Path, target: Path) -> Path:
            if Path(target).name == name:
                os._exit(9)
            return rename(self, target)

        Path.rename = dying  # type: ignore[method-assign]
        try:
            call()
        finally:
            os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9, "it was not killed"


@pytest.mark.usefixtures("without_exchange")
@pytest.mark.parametrize("next_step", [value, lambda path: write(path, 7)], ids=["read", "write"])
def test_killed_between_two_renames(tmp_path: Path, next_step: Callable[[Path], object]) -> None:
    path = tmp_path / "n.zarr"
    write(path, 1)
    die_at("n.zarr", lambda: write(path, 2))
    assert not path.exists(), "the fallback was not killed between its renames"
    assert next_step(path) in (1, None)
    assert value(path) in (1, 7)
    write(path, 3)
    assert [p.name for p in tmp_path.iterdir()] == ["n.zarr"]


@pytest.mark.usefixtures("without_exchange")
def test_a_reader_that_puts_it_back_while_the_writer_lives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "n.zarr"
    write(path, 1)
    rename, read = Path.rename, []

    def slow(self: Path, target: Path) -> Path:
        if Path(target) == path and ".partial-" in self.name and not read:
            read.append(value(path))
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", slow)
    write(path, 2)
    assert read == [1]
    assert value(path) == 2
    assert [p.name for p in tmp_path.iterdir()] == ["n.zarr"]


@pytest.mark.skipif(sys.platform != "linux", reason="renameat2 is Linux's")
def test_one_step_where_there_is_an_exchange(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "n.zarr"
    write(path, 1)

    def refuse(*places: object) -> None:
        raise AssertionError("two renames")

    monkeypatch.setattr(files, "_replace_in_two", refuse)
    write(path, 2)
    assert value(path) == 2


@pytest.mark.parametrize("exchange", [True, False])
def test_a_folder_that_appears_at_the_last_moment_stays(
    exchange: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "n.zarr"
    if not exchange:
        monkeypatch.setattr(files, "_renameat2", lambda: None)
    rename, rename_with = Path.rename, files._rename_with

    def appear() -> None:
        if not path.exists():
            path.mkdir()
            (path / "mine.txt").write_text("mine")

    def late(self: Path, target: Path) -> Path:
        appear()
        return rename(self, target)

    def late_with(source: Path, target: Path, flag: int) -> bool:
        if flag == files.RENAME_NOREPLACE:
            appear()
        return rename_with(source, target, flag)

    monkeypatch.setattr(Path, "rename", late)
    monkeypatch.setattr(Path, "replace", late)
    monkeypatch.setattr(files, "_rename_with", late_with)
    with pytest.raises(OutputError, match="nothing was written"):
        write(path, 2)
    assert [p.name for p in tmp_path.iterdir()] == ["n.zarr"]
    assert [p.name for p in path.iterdir()] == ["mine.txt"]


def test_what_is_exchanged_is_looked_at_before_it_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the last look at the place and the exchange another program puts its folder there."""
    path, look = tmp_path / "n.zarr", files.refuse_foreign
    write(path, 1)
    looked = []

    def swap(at: Path, form: files.Form) -> None:
        look(at, form)
        looked.append(at)
        if len(looked) == 2:
            path.rename(tmp_path / "away")
            path.mkdir()
            (path / "mine.txt").write_text("mine")

    monkeypatch.setattr(files, "refuse_foreign", swap)
    with pytest.raises(
        OutputError, match="is a folder, not neighbors that noisyctl wrote; nothing was written"
    ):
        write(path, 2)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["away", "n.zarr"]
    assert [p.name for p in path.iterdir()] == ["mine.txt"]


def test_names_that_only_look_like_remains(tmp_path: Path) -> None:
    path = tmp_path / "n[1].zarr"
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    dead = f".n[1].zarr.partial-{files._host()}-{gone.pid}"
    kept = [
        ".n[1].zarr.partial-abc",
        ".n[1].zarr.partial-",
        f".n[1].zarr.partial-elsewhere-{gone.pid}",  # of a process of another host, which may well live
        f".n[1].zarr.partial-{files._host()}-{os.getppid()}",
        f".n[1].zarr.partial-{files._host()}-{10**30}",
        f".n1.zarr.partial-{files._host()}-{gone.pid}",
    ]
    for name in [dead, *kept]:
        (tmp_path / name).write_text("x")
    write(path, 1)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([*kept, path.name])


def test_a_full_disk_while_networks_are_written(tmp_path: Path) -> None:
    path = tmp_path / "networks.safetensors"
    tensor_files.write(path, {"w": torch.zeros(3)}, {"kind": "networks"})
    before = path.read_bytes()
    script = f"""
import resource
from pathlib import Path
import torch
from noisyctl.artifacts import tensor_files
from noisyctl.errors import ArtifactError
resource.setrlimit(resource.RLIMIT_FSIZE, (20000, resource.RLIM_INFINITY))
try:
    tensor_files.write(Path({str(path)!r}), {{"w": torch.zeros(100000)}}, {{"kind": "networks"}})
except ArtifactError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "the file would be larger than allowed" in done.stdout
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("operation", ["mkdir", "write_bytes", "fsync", "rename"])
def test_a_full_disk_at_every_step_is_said(
    operation: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*given: object, **more: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    target = {"fsync": (os, "fsync"), "rename": (files, "_rename_with")}.get(operation, (Path, operation))
    monkeypatch.setattr(*target, full)
    with pytest.raises(ArtifactError, match="the disk is full; free some space"):
        tensor_files.write(
            tmp_path / "new" / "networks.safetensors", {"w": torch.zeros(3)}, {"kind": "networks"}
        )
    monkeypatch.undo()
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []


def test_a_folder_that_cannot_be_put_back_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, rename_with = tmp_path / "n.zarr", files._rename_with
    write(path, 1)
    foreign, exchanged = store.Form.foreign, []

    def exchange(source: Path, target: Path, flag: int) -> bool:
        exchanged.append(source)
        if len(exchanged) == 2:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return rename_with(source, target, flag)

    monkeypatch.setattr(files, "_rename_with", exchange)
    monkeypatch.setattr(
        store.Form, "foreign", lambda form, at: "is mine" if at in exchanged else foreign(form, at)
    )
    with pytest.raises(OutputError, match=r"is mine; it lies at .*\.partial-.* now, move it from there"):
        write(path, 2)
    monkeypatch.undo()
    assert value(exchanged[0]) == 1
