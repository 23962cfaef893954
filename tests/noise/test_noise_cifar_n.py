"""People's labels: files that look like the authors', old and new pickles, orders that do not fit, code in a file."""

import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from noisyctl.errors import DataError
from noisyctl.noise import cifar_n

RNG = np.random.default_rng(0)
CLEAN, COARSE = RNG.integers(0, 10, 60), RNG.integers(0, 4, 60)
KEYS = ("aggre_label", "worse_label", "random_label1", "random_label2", "random_label3", "noisy_label")
LABELS = {key: RNG.integers(0, 10, 60) for key in KEYS} | {"clean_label": CLEAN}
LABELS |= {"noisy_coarse_label": RNG.integers(0, 4, 60), "clean_coarse_label": COARSE}


def take(path: Path, which: str, clean: np.ndarray = CLEAN, classes: int = 10) -> np.ndarray:
    params = cifar_n.Params.model_validate({"file": str(path), "which": which})
    return cifar_n.corrupt(clean, classes, params, np.random.default_rng(0))


def write(path: Path, labels: dict[str, np.ndarray] = LABELS) -> Path:
    if path.suffix == ".pt":
        torch.save(labels, path)
    elif path.suffix == ".npz":
        np.savez(path, **labels)
    else:
        rows = np.stack(list(labels.values()), axis=1)
        path.write_text(
            "\n".join([",".join(labels), *(",".join(map(str, row)) for row in rows.tolist())]) + "\n"
        )
    return path


@pytest.mark.parametrize("name", ["human.pt", "human.npz", "human.csv"])
def test_each_kind_of_label_from_each_kind_of_file(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name)
    for which in ("aggre", "worse"):
        assert (take(path, which) == LABELS[f"{which}_label"]).all()
    for number in (1, 2, 3):
        assert (take(path, f"random{number}") == LABELS[f"random_label{number}"]).all()
    assert (take(path, "fine") == LABELS["noisy_label"]).all()
    assert (take(path, "coarse", COARSE, 4) == LABELS["noisy_coarse_label"]).all()


def numpy1(pickled: bytes) -> bytes:
    """A pickle as numpy 1 wrote it, such as the authors': the module had another name."""
    assert b"numpy._core.multiarray" in pickled
    return pickled.replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n")


def test_pickles_of_numpy_1_in_both_formats_of_torch(tmp_path: Path) -> None:
    torch.save(LABELS, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    (tmp_path / "old.pt").write_bytes(numpy1((tmp_path / "old.pt").read_bytes()))
    write(tmp_path / "new.pt")
    with zipfile.ZipFile(tmp_path / "new.pt") as new, zipfile.ZipFile(tmp_path / "zip.pt", "w") as out:
        for entry in new.namelist():
            content = new.read(entry)
            out.writestr(entry, numpy1(content) if entry.endswith("data.pkl") else content)
    for name in ("old.pt", "zip.pt"):
        assert (take(tmp_path / name, "worse") == LABELS["worse_label"]).all()


@pytest.mark.parametrize("dtype", ["uint8", "int32", "int64"])
def test_small_integers_are_read(tmp_path: Path, dtype: str) -> None:
    path = write(tmp_path / "human.pt", {k: v.astype(dtype) for k, v in LABELS.items()})
    noisy = take(path, "aggre")
    assert (noisy == LABELS["aggre_label"]).all()
    assert noisy.dtype == np.int64


def test_another_order_is_refused_with_the_number_of_mismatches(tmp_path: Path) -> None:
    path, moved = write(tmp_path / "human.pt"), CLEAN.copy()
    moved[[3, 5]] = (CLEAN[[3, 5]] + 1) % 10
    with pytest.raises(
        DataError, match=r"2 of 60 clean labels differ .*sample 3.*order of CIFAR's python version"
    ):
        take(path, "aggre", moved)
    # 20 superclasses and 100 classes are not each other's labels.
    with pytest.raises(DataError, match="of 60 clean labels differ"):
        take(path, "coarse")


class Command:
    """Unpickled, it would run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.mkdir, (self.folder / "it ran",)


def test_code_in_a_file_is_not_run(tmp_path: Path) -> None:
    torch.save(LABELS | {"aggre_label": Command(tmp_path)}, tmp_path / "bad.pt")
    with pytest.raises(DataError, match="holds more than integer arrays"):
        take(tmp_path / "bad.pt", "aggre")
    np.savez(tmp_path / "bad.npz", aggre_label=np.array([Command(tmp_path)], object))
    with pytest.raises(DataError, match="holds more than integer arrays"):
        take(tmp_path / "bad.npz", "aggre")
    assert not (tmp_path / "it ran").exists()


def test_files_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    few = {k: LABELS[k] for k in ("clean_label", "aggre_label")}
    with pytest.raises(
        DataError, match="has no 'worse_label', but aggre_label, clean_label; choose another `which`"
    ):
        take(write(tmp_path / "few.pt", few), "worse")
    with pytest.raises(DataError, match="holds 60 labels, the data set 59 samples"):
        take(write(tmp_path / "human.pt"), "worse", CLEAN[:59])
    with pytest.raises(DataError, match=r"labels lie outside 0\.\.9"):
        take(write(tmp_path / "wide.pt", few | {"aggre_label": CLEAN + 1}), "aggre")
    with pytest.raises(DataError, match=r"aggre_label is float64\[60\]; it needs one integer"):
        take(write(tmp_path / "real.npz", few | {"aggre_label": CLEAN / 2}), "aggre")
    with pytest.raises(DataError, match=r"is not a \.pt, \.npz or \.csv file"):
        take(tmp_path / "human.json", "aggre")
    torch.save(torch.zeros(3), tmp_path / "tensor.pt")
    with pytest.raises(DataError, match="holds a Tensor, not named arrays"):
        take(tmp_path / "tensor.pt", "aggre")


@pytest.mark.parametrize("name", ["a.pt", "a.npz"])
def test_damaged_files_are_refused(tmp_path: Path, name: str) -> None:
    whole = write(tmp_path / name).read_bytes()
    for damaged in (b"", b"hello", whole[: len(whole) // 2]):
        (tmp_path / name).write_bytes(damaged)
        with pytest.raises(DataError, match="is damaged"):
            take(tmp_path / name, "aggre")
    (tmp_path / "a.csv").write_text("clean_label,aggre_label\n1\n")
    with pytest.raises(DataError, match="is damaged"):
        take(tmp_path / "a.csv", "aggre")


def test_no_matrix_is_promised() -> None:
    assert cifar_n.transition_matrix(10, cifar_n.Params(file="a.pt", which="aggre")) is None
