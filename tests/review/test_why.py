"""What is told of one photo."""

import json
from pathlib import Path

import folders
import pytest

from noisyctl.errors import DataError
from noisyctl.review import why


def test_by_id_by_path_and_by_the_place_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = folders.make(tmp_path, 12)
    row = listed.rows[0]
    about = why.facts(listed, row.id)
    assert about == why.facts(listed, row.path) == why.facts(listed, str(listed.root / row.path))
    monkeypatch.chdir(listed.root / Path(row.path).parent)
    assert why.facts(listed, Path(row.path).name) == about
    assert (about["rank"], about["given"], about["suggested"]) == (1, row.given, row.suggested)
    assert about["opinions"] == row.opinions
    assert [near["path"] for near in about["neighbors"]] == [
        listed.by_id[near.id].path for near in row.neighbors
    ]
    assert [copy["id"] for copy in about["duplicates"]] == [listed.rows[1].id]
    json.dumps(about, allow_nan=False)


def test_text_says_all_of_it(tmp_path: Path) -> None:
    listed = folders.make(tmp_path, 12)
    row = listed.rows[0]
    told = why.text(why.facts(listed, row.id))
    for part in (
        row.path,
        row.given,
        row.suggested,
        "relabel",
        "rank             1 of 12",
        "kernel_ridge",
        "copies of it",
    ):
        assert part in told
    same = sum(near.label == row.given for near in row.neighbors)
    assert f"{same} of 5 are labeled {row.given!r}" in told


def test_an_unknown_photo_is_said_with_a_near_one(tmp_path: Path) -> None:
    listed = folders.make(tmp_path, 12)
    with pytest.raises(DataError, match=r"neither an id nor a path.*did you mean"):
        why.facts(listed, listed.rows[0].path.replace("photo", "foto"))
