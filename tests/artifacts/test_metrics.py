"""metrics.json: a changed byte never becomes another number in a table."""

import json
from pathlib import Path

import pytest

from noisyctl.artifacts import metrics
from noisyctl.errors import ArtifactError
from noisyctl.session import Session
from stages import table

FOUND = {
    "runs": {"elr/given-s0": {"method": "elr", "params": {"seed": 0}, "test_accuracy": {"last": 93.25}}},
    "knn_probe": {"knn_accuracy": 61.0, "not_computed": float("nan")},
}


def test_every_flipped_bit_is_found(tmp_path: Path) -> None:
    path = tmp_path / "metrics.json"
    metrics.write(path, FOUND)
    assert metrics.read(path)["runs"] == FOUND["runs"]
    whole = path.read_bytes()
    accepted = 0
    for place in range(len(whole)):
        for bit in range(8):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << bit]) + whole[place + 1 :])
            try:
                found = metrics.read(path)
            except ArtifactError as error:
                assert str(path) in str(error)
                assert str(error).endswith("with `noisyctl evaluate`")
            else:
                accepted += 1
                assert json.dumps(found) == json.dumps(metrics.read(_kept(tmp_path, whole)))
    assert accepted < 0.05 * 8 * len(whole), "only a blank may become another blank"


def _kept(folder: Path, whole: bytes) -> Path:
    (folder / "kept.json").write_bytes(whole)
    return folder / "kept.json"


FOREIGN = {
    "another program's": b'{"accuracy": 1}',
    "no digest": b'{"runs": {}}',
    "a list": b"[]",
    "a number": b"1",
    "null": b"null",
    "empty": b"",
    "not UTF-8": b"\xff\xfe\x00",
    "deep": b"[" * 100000,
    "a digest that is no text": b'{"runs": {}, "digest": {}}',
    "runs that are a list": b'{"runs": [], "digest": "x"}',
}


@pytest.mark.parametrize("content", FOREIGN.values(), ids=FOREIGN)
def test_foreign_contents_are_refused_in_one_line(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "metrics.json"
    path.write_bytes(content)
    with pytest.raises(
        ArtifactError, match=r"metrics\.json .*; make it .*with `noisyctl evaluate`"
    ) as caught:
        table.run(table.Inputs((path,), tmp_path / "t.md"), None, Session(quiet=True))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "t.md").exists()
    for place, why in ((tmp_path, "is not a metrics.json"), (tmp_path / "none", "does not exist")):
        with pytest.raises(ArtifactError, match=why):
            metrics.read(place)
