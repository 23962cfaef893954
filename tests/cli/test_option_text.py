"""An option's text is taken as it is, by its field's type; params.yaml is read whole or refused in one line."""

import sys
import time
from pathlib import Path
from typing import Any, Literal

import pytest

from noisyctl import config
from noisyctl.cli import main as cli
from noisyctl.datasets.folder import Params as Folder
from noisyctl.errors import ParamsError
from noisyctl.params import Params, param
from noisyctl.runs.mine_knn import Params as Knn


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def show(monkeypatch: pytest.MonkeyPatch, *words: str) -> None:
    """A dry run, which resolves every value."""
    monkeypatch.setattr(sys, "argv", ["noisyctl", *words, "--dry-run"])
    cli.app([*words, "--dry-run"], standalone_mode=False)


@pytest.mark.parametrize(
    "root", ["2024", "null", "true", "a: b", "#x", "[a]", "1e-4", "{a: 1}", "2024-01-01"]
)
def test_the_name_of_a_folder_is_taken_as_it_is(
    root: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    show(monkeypatch, "prepare-data", "--dataset", "folder", "--root", root, "--out", "out")
    assert f"root = {root}   (--root)" in capsys.readouterr().err


class Kinds(Params):
    whole: int = param(0)
    real: float = param(0.0)
    maybe: float | None = param(None)
    name: str | None = param(None)
    choice: Literal["1", "both"] = param("both")
    pair: tuple[float, float] = param((0.0, 0.0))


@pytest.mark.parametrize(
    "field, text, value",
    [
        ("whole", "5", 5),
        ("real", "1e-4", 1e-4),
        ("real", "3", 3.0),
        ("maybe", "none", None),
        ("maybe", "null", None),
        ("maybe", "0.5", 0.5),
        ("name", "null", "null"),
        ("name", "007", "007"),
        ("choice", "1", "1"),
        ("pair", "[0.1, 2]", (0.1, 2.0)),
    ],
)
def test_other_fields_read_their_own_type(field: str, text: str, value: Any) -> None:
    read = config.read_option(text, Kinds.model_fields[field].annotation)
    assert getattr(Kinds(**{field: read}), field) == value


@pytest.mark.parametrize(
    "option, text, said",
    [
        ("--k", "3.5", "--k: knn.k is '3.5': input should be a valid integer"),
        ("--k", "true", "--k: knn.k is 'true'"),
        ("--space", "[a]", "--space: knn.space is '\\[a\\]'"),
        ("--seed", "1e3", "--seed is '1e3'; give a whole number from 0 on"),
        ("--dataset", "../x", "--dataset is '../x'; give a name that can be that of a folder"),
    ],
)
def test_what_does_not_fit_is_refused(
    option: str, text: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ParamsError, match=said):
        show(monkeypatch, "mine-knn", option, text)


@pytest.mark.parametrize(
    "model, name, value, said",
    [
        (Knn, "k", True, "write a number or text"),
        (Folder, "root", True, "write a number or text"),
        (Kinds, "real", float("inf"), "finite"),
        (Kinds, "maybe", float("nan"), "finite"),
    ],
)
def test_values_that_are_none(model: type[Params], name: str, value: Any, said: str) -> None:
    with pytest.raises(ParamsError, match=said):
        config.resolve(
            model,
            [config.Layer({"root": "x"} if model is Folder else {}, "p"), config.Layer({name: value}, "p")],
            "b",
        )


BOMB = b"a: &a [x,x,x,x,x,x,x,x,x,x]\n" + b"".join(
    b"%c: &%c [%s]\n" % (name, name, b",".join([b"*%c" % (name - 1)] * 10)) for name in b"bcdefghij"
)
MERGES = b"a: &a {x: 1}\n" + b"".join(
    b"%c: &%c {<<: [%s]}\n" % (name, name, b",".join([b"*%c" % (name - 1)] * 10)) for name in b"bcdefghij"
)


@pytest.mark.parametrize(
    "content, said",
    [
        (
            BOMB,
            r"params.yaml:[0-9]+: with its aliases \(\*name\) written out this holds more than 100,000 values",
        ),
        (MERGES, "with its aliases"),
        (b"a: &a [*a]\n", "params.yaml:1: this block contains itself through an alias"),
        (
            b"seed: 1\na: " + b"[" * 5000 + b"]" * 5000,
            "params.yaml:2 is not YAML: nested more than 50 levels deep",
        ),
        (b"seed: 1\na: \xff\n", "params.yaml:2: the text is not UTF-8; save the file as UTF-8"),
        (b"\xff\xfed\0a\0", "params.yaml:1: the text is not UTF-8"),
        (b"5\n", "params.yaml:1: 5 stands where `key: value` lines are expected"),
        (b"null\n", "params.yaml:1: None stands where"),
        (b"5: x\n", "params.yaml:1: 5 is not a parameter; one of: dataset"),
        (b"seed: 1\nnull: x\n", "params.yaml:2: null is not a parameter"),
        (b"on: x\n", "params.yaml:1: on is not a parameter"),
        (b"? [a]\n: 1\n", "params.yaml:1"),
        (b"dataset: 2024-13-45\n", "a value is not what it looks like"),
        (b"seed: !!timestamp x\n", "a value is not what it looks like"),
        (b"noises: {x: 5}\n", "params.yaml:1: noises.x is 5; write a block `x:"),
        (b"methods:\n  pencil: 3\n", "params.yaml:2: methods.pencil is 3; write a block"),
        (b"dataset: [a, b]\n", r"params.yaml:1: dataset is \['a', 'b'\]; give one name"),
        (b"dataset: no\n", "params.yaml:1: dataset is False; give one name, in quotes"),
        (b"seed: true\n", "params.yaml:1: seed is True; give a whole number"),
        (b"noise: [1]\n", "params.yaml:1: noise is"),
        (
            b"methods:\n  pencil:\n    learning_rate: .inf\n",
            "params.yaml:3: methods.pencil.learning_rate is inf",
        ),
        (
            b"methods:\n  pencil:\n    learning_rate: .nan\n",
            "params.yaml:3: methods.pencil.learning_rate is nan",
        ),
        (b"methods:\n  pencil:\n    epochs: true\n", "params.yaml:3: methods.pencil.epochs is True"),
        (b"simclr: {epohs: 3}\n", "params.yaml:1: simclr.epohs is not a parameter; did you mean 'epochs'"),
        (b"noises:\n  a: {kind: symmetric, rat: 1}\n", "params.yaml:2: noises.a.rat is not a parameter"),
        (b"seed: " + b"9" * 5000 + b"\n", "a value is not what it looks like"),
        (b"a: " + b"x" * (11 * 2**20), "larger than 10 MiB"),
    ],
    ids=lambda given: str(given[:24]) if isinstance(given, bytes) else "",
)
def test_a_params_file_is_refused_in_one_line_and_in_time(
    content: bytes, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("params.yaml").write_bytes(content)
    before = time.perf_counter()
    with pytest.raises(ParamsError, match=said) as caught:
        show(monkeypatch, "train-method", "pencil")
    assert time.perf_counter() - before < 20
    assert len(str(caught.value)) < 500 and "\n" not in str(caught.value)


def test_a_folder_in_the_place_of_the_params_file(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("params.yaml").mkdir()
    with pytest.raises(ParamsError, match=r"params\.yaml is a folder"):
        show(monkeypatch, "train-method", "pencil")


@pytest.mark.parametrize(
    "assignment, said",
    [
        ("methods.knn_vote=3", "--set: methods.knn_vote is a block; name one of its values"),
        ("methods=3", "--set: methods is a block; name one of its values: methods.NAME.PARAMETER"),
        ("simclr=3", "--set: simclr is a block"),
        ("simclr.nonsense=1", "--set: simclr.nonsense is not a parameter; one of:"),
        ("warmups.default.epohs=1", "warmups.default.epohs is not a parameter; did you mean 'epochs'"),
        ("methods.elr.epohs=1", "methods.elr.epohs is not a parameter; did you mean 'epochs'"),
        ("noises.sym.rate=1", "--set: noises.sym: no such block in params.yaml"),
        ("dataset.x=1", "--set: dataset is a value, not a block"),
    ],
)
def test_nothing_that_is_set_is_passed_over(
    assignment: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ParamsError, match=said):
        show(monkeypatch, "train-method", "pencil", "--set", assignment)


def test_names_with_points_and_digits(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("data/2024").mkdir(parents=True)
    Path("params.yaml").write_text(
        "dataset: 2024\nnoises:\n  sym0.6: {kind: symmetric, rate: 0.6, include_true_class: false}\n"
    )
    show(monkeypatch, "inject-noise", "--noise", "sym0.6", "--set", "noises.sym0.6.rate=0.3")
    said = capsys.readouterr().err
    assert "rate = 0.3   (--set)" in said and "data/2024/noise/sym0.6-s0/labels.zarr" in said


def test_aliases_and_merges_of_a_usual_size_are_read(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("params.yaml").write_text(
        "methods:\n  elr: &base {epochs: 3}\n  pencil: {<<: *base, batch_size: 7}\n"
    )
    show(monkeypatch, "train-method", "elr")
    assert "epochs = 3   (params.yaml:2)" in capsys.readouterr().err
