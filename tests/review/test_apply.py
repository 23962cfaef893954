"""apply and revert: labels are cleaned in a folder of their own, and nothing else is touched."""

import csv
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import folders
import pytest
from test_decisions import rows_of, write

from noisyctl.artifacts import files
from noisyctl.datasets import folder
from noisyctl.errors import DataError, OutputError
from noisyctl.review import apply, decisions, photos, result
from noisyctl.review.result import Result


@pytest.fixture
def listed(tmp_path: Path) -> Result:
    return folders.make(tmp_path, 24)


@pytest.fixture
def decided(listed: Result, tmp_path: Path) -> Path:
    return write(tmp_path / "decisions.csv", rows_of(listed))


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_the_manifest_is_what_prepare_data_takes(listed: Result, decided: Path, tmp_path: Path) -> None:
    about = apply.apply([decided], listed, tmp_path / "cleaned")
    assert (about["photos"], about["relabeled"], about["kept"], about["dropped"]) == (23, 1, 1, 1)
    params = folder.Params(
        root=str(listed.root),
        manifest=str(tmp_path / "cleaned/manifest.csv"),
        verified_manifest=str(tmp_path / "cleaned/verified.csv"),
    )
    data = folder.prepare(params)
    paths = data.splits["train"].paths
    labels = {str(p): data.class_names[k] for p, k in zip(paths, data.given_labels, strict=True)}
    expected = {row.path: row.given for row in listed.rows}
    expected[listed.rows[0].path] = listed.rows[0].suggested
    del expected[listed.rows[2].path]
    assert labels == expected
    checked = {str(paths[k]): data.class_names[label] for k, label in zip(*data.verified, strict=True)}
    assert checked == {row.path: expected[row.path] for row in listed.rows[:2]}


@pytest.mark.parametrize("how", [None, "links", "copies"])
def test_apply_then_revert_leaves_the_same_bytes(
    listed: Result, decided: Path, tmp_path: Path, how: photos.As
) -> None:
    before = folders.tree(tmp_path)
    apply.apply([decided], listed, tmp_path / "cleaned", how=how)
    first = folders.tree(tmp_path / "cleaned")
    after = {name: what for name, what in folders.tree(tmp_path).items() if not name.startswith("cleaned")}
    assert after == before
    apply.apply([decided], listed, tmp_path / "cleaned", how=how)  # replaces its own
    assert folders.tree(tmp_path / "cleaned") == first
    apply.revert(tmp_path / "cleaned")
    assert folders.tree(tmp_path) == before


@pytest.mark.parametrize("how", ["links", "copies"])
def test_a_folder_by_class(listed: Result, decided: Path, tmp_path: Path, how: photos.As) -> None:
    apply.apply([decided], listed, tmp_path / "cleaned", how=how)
    first = listed.rows[0]
    moved = tmp_path / "cleaned/photos" / first.suggested / Path(first.path).name
    assert moved.is_symlink() == (how == "links")
    assert moved.read_bytes() == (listed.root / first.path).read_bytes()
    data = folder.prepare(folder.Params(root=str(tmp_path / "cleaned/photos")))
    assert len(data.splits["train"].ids) == 23


def test_equal_names_and_class_names_that_no_folder_can_have(tmp_path: Path) -> None:
    root = tmp_path / "photos"
    classes = ("../up", "a/b", "A/b")
    rows = folders.rows(root, 6, classes)
    moved = []
    for k, row in enumerate(rows):
        place = f"{k}/same.png"
        (root / str(k)).mkdir()
        (root / row.path).rename(root / place)
        moved.append(replace(row, path=place))
    listed = result.read(folders.write(tmp_path / "out", root, moved, classes))
    one = write(tmp_path / "d.csv", [[moved[0].id, moved[0].path, moved[0].given, "keep", "", listed.digest]])
    apply.apply([one], listed, tmp_path / "cleaned", how="copies")
    files = [p for p in (tmp_path / "cleaned/photos").rglob("*") if p.is_file()]
    assert len({p.read_bytes() for p in files}) == 6
    assert {p.parent.name for p in files} == {"%2E%2E%2Fup", "a%2Fb", "A%2Fb"}


def test_parts_become_the_column_split_and_changes_in_test_are_told(tmp_path: Path) -> None:
    root = tmp_path / "photos"
    rows = [
        replace(row, path=f"{'test' if row.rank % 2 else 'train'}/{row.path}")
        for row in folders.rows(root, 12)
    ]
    for row in rows:
        (root / row.path).parent.mkdir(parents=True, exist_ok=True)
        (root / row.path.split("/", 1)[1]).rename(root / row.path)
    test = [row.id for row in rows if row.path.startswith("test/")]
    listed = result.read(folders.write(tmp_path / "out", root, rows, splits={"test": test}))
    about = apply.apply(
        [write(tmp_path / "d.csv", rows_of(listed))], listed, tmp_path / "cleaned", how="links"
    )
    assert {row["path"].split("/")[0]: row["split"] for row in table(tmp_path / "cleaned/manifest.csv")} == {
        "test": "test",
        "train": "train",
    }
    assert about["changed_in_test"] == 2
    assert any("test part" in line for line in apply.lines(about, tmp_path / "cleaned"))
    assert all(row["path"].startswith("train/") for row in table(tmp_path / "cleaned/verified.csv"))
    assert sorted(p.name for p in (tmp_path / "cleaned/photos").iterdir()) == ["test", "train"]


def test_conflicts_are_listed_and_change_nothing(listed: Result, decided: Path, tmp_path: Path) -> None:
    rows = rows_of(listed)
    rows[0][3:5] = ["drop", ""]
    other = write(tmp_path / "other.csv", rows)
    about = apply.apply([decided, other], listed, tmp_path / "cleaned")
    assert (about["conflicts"], about["relabeled"], about["photos"]) == (1, 0, 23)
    conflicts = table(tmp_path / "cleaned/conflicts.csv")
    assert [(row["decision"], Path(row["file"]).name, row["row"]) for row in conflicts] == [
        ("relabel", "decisions.csv", "2"),
        ("drop", "other.csv", "2"),
    ]
    labels = {row["path"]: row["label"] for row in table(tmp_path / "cleaned/manifest.csv")}
    assert labels[listed.rows[0].path] == listed.rows[0].given
    with pytest.raises(apply.StrictError, match="differ on 1 photos"):
        apply.apply([decided, other], listed, tmp_path / "strict", strict=True)
    assert not (tmp_path / "strict").exists()


def test_photos_that_are_gone_or_were_replaced_are_listed(
    listed: Result, decided: Path, tmp_path: Path
) -> None:
    first, gone = listed.rows[0], listed.rows[7]
    (listed.root / gone.path).unlink()
    folders.photo(listed.root / first.path, (1, 2, 3), 99)
    about = apply.apply([decided], listed, tmp_path / "cleaned")
    assert (about["left_out"], about["relabeled"], about["photos"]) == (2, 0, 21)
    reasons = {row["path"]: row["reason"] for row in table(tmp_path / "cleaned/left_out.csv")}
    assert "replaced" in reasons[first.path]
    assert "gone" in reasons[gone.path]
    with pytest.raises(apply.StrictError, match="2 photos are not those of the list"):
        apply.apply([decided], listed, tmp_path / "strict", strict=True)


def test_a_moved_folder_is_found_with_its_root(listed: Result, decided: Path, tmp_path: Path) -> None:
    listed.root.rename(tmp_path / "moved")
    with pytest.raises(DataError, match="--root"):
        apply.apply([decided], listed, tmp_path / "cleaned")
    again = result.read(listed.folder, tmp_path / "moved")
    assert apply.apply([decided], again, tmp_path / "cleaned")["photos"] == 23


@pytest.mark.parametrize(
    "place", ["photos/cleaned", "photos", "out/cleaned", "out", ".", "decisions.csv", "mine"]
)
def test_places_that_would_harm_something_are_refused(
    listed: Result, decided: Path, tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").write_text("mine")
    before = folders.tree(tmp_path)
    with pytest.raises(OutputError):
        apply.apply([decided], listed, tmp_path / place)
    assert folders.tree(tmp_path) == before


def test_nothing_decided_yet(listed: Result, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no decision yet"):
        apply.apply([write(tmp_path / "d.csv", rows_of(listed)[3:])], listed, tmp_path / "cleaned")


def edit(cleaned: Path) -> None:
    (cleaned / "manifest.csv").write_text("path,label\n")


def add(cleaned: Path) -> None:
    (cleaned / "photos/notes.txt").write_text("mine")


def remove(cleaned: Path) -> None:
    (cleaned / "verified.csv").unlink()


def lead_elsewhere(cleaned: Path) -> None:
    link = next(p for p in (cleaned / "photos").rglob("*") if p.is_symlink())
    link.unlink()
    link.symlink_to("/elsewhere")


@pytest.mark.parametrize("change", [edit, add, remove, lead_elsewhere])
def test_revert_refuses_what_is_not_as_apply_left_it(
    listed: Result, decided: Path, tmp_path: Path, change: object
) -> None:
    apply.apply([decided], listed, tmp_path / "cleaned", how="links")
    change(tmp_path / "cleaned")  # type: ignore[operator]
    before = folders.tree(tmp_path)
    with pytest.raises(OutputError, match="nothing was removed"):
        apply.revert(tmp_path / "cleaned")
    assert folders.tree(tmp_path) == before


def test_revert_ends_a_revert_that_was_killed(
    listed: Result, decided: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    apply.apply([decided], listed, tmp_path / "cleaned")
    with monkeypatch.context() as patch:
        patch.setattr(
            files, "remove", lambda path: None
        )  # as if the process had ended after hiding the folder
        apply.revert(tmp_path / "cleaned")
    assert list(tmp_path.glob(".cleaned.*"))
    apply.revert(tmp_path / "cleaned")
    assert not list(tmp_path.glob(".cleaned.*"))
    with pytest.raises(OutputError, match="is no folder"):
        apply.revert(tmp_path / "cleaned")


def test_revert_refuses_folders_of_others(listed: Result, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    before = folders.tree(tmp_path)
    for place in ("photos", "out", "empty", "nowhere"):
        with pytest.raises(OutputError):
            apply.revert(tmp_path / place)
    assert folders.tree(tmp_path) == before


def test_revert_works_when_the_photos_are_gone(listed: Result, decided: Path, tmp_path: Path) -> None:
    apply.apply([decided], listed, tmp_path / "cleaned", how="links")
    listed.root.rename(tmp_path / "elsewhere")
    apply.revert(tmp_path / "cleaned")
    assert not (tmp_path / "cleaned").exists()


def test_a_full_disk_in_the_middle_leaves_the_former_folder(
    listed: Result, decided: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    apply.apply([decided], listed, tmp_path / "cleaned")
    before = folders.tree(tmp_path)

    def full(*paths: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(photos.shutil, "copyfile", full)
    with pytest.raises(result.ArtifactError, match="the disk is full"):
        apply.apply([decided], listed, tmp_path / "cleaned", how="copies")
    assert folders.tree(tmp_path) == before


def test_odd_names_go_through(tmp_path: Path) -> None:
    root = tmp_path / "photos"
    classes = ("=1+1", 'a, "b"', "tab\tand\r\nline")
    rows = folders.rows(root, 6, classes)
    odd = "-x\n'@;,\".png"
    place = f"{Path(rows[0].path).parent}/{odd}"
    (root / rows[0].path).rename(root / place)
    rows[0] = replace(rows[0], path=place)
    listed = result.read(folders.write(tmp_path / "out", root, rows, classes))
    assert list(listed.rows) == rows
    made = [
        decisions.Decision(row, "relabel", row.suggested, "", 0) for row in rows if row.given != row.suggested
    ]
    (tmp_path / "d.csv").write_text(decisions.as_csv(made, listed.digest), encoding="utf-8", newline="")
    about = apply.apply([tmp_path / "d.csv"], listed, tmp_path / "cleaned")
    assert about["relabeled"] == len(made) > 0
    assert {row["path"]: row["label"] for row in table(tmp_path / "cleaned/manifest.csv")} == {
        row.path: row.suggested for row in rows
    }
    assert json.loads((tmp_path / "cleaned/apply.json").read_text())["photos"] == 6


def test_killed_while_it_copies_it_leaves_nothing_and_can_run_again(
    listed: Result, decided: Path, tmp_path: Path
) -> None:
    code = (
        "import os, sys; from pathlib import Path; from noisyctl.review import apply, photos, result\n"
        "photos.shutil.copyfile = lambda *paths: os._exit(9)\n"
        f"apply.apply([Path({str(decided)!r})], result.read(Path({str(listed.folder)!r})), "
        f"Path({str(tmp_path / 'cleaned')!r}), how='copies')"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 9
    assert not (tmp_path / "cleaned").exists()
    apply.apply([decided], listed, tmp_path / "cleaned", how="copies")
    apply.revert(tmp_path / "cleaned")
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]


def test_photos_that_were_added_moved_or_deleted_since(listed: Result, decided: Path, tmp_path: Path) -> None:
    plain = [row for row in listed.rows[4:] if row.given == "hat"]
    renamed, other, gone = plain[:3]
    told = listed.rows[0]  # decided to be its suggestion
    folders.photo(listed.root / "hat/new.png", (9, 9, 9), 1000)
    folders.photo(listed.root / "scarf/new.png", (9, 9, 9), 1001)  # a class that the list does not know
    folders.photo(
        listed.root / "loose.png", (9, 9, 9), 1002
    )  # in no class: as clean would, apply passes it over
    (listed.root / renamed.path).rename(listed.root / "hat/renamed.png")
    (listed.root / other.path).rename(listed.root / "dress/moved.png")
    (listed.root / gone.path).unlink()
    (listed.root / told.path).rename(listed.root / told.suggested / "by hand.png")
    before = folders.tree(listed.root)
    about = apply.apply([decided], listed, tmp_path / "cleaned")
    assert (about["added"], about["moved"], about["left_out"]) == (2, 3, 1)
    labels = {row["path"]: row["label"] for row in table(tmp_path / "cleaned/manifest.csv")}
    assert labels["hat/new.png"] == labels["hat/renamed.png"] == "hat"
    assert labels["scarf/new.png"] == "scarf"
    assert labels["dress/moved.png"] == "dress"  # as it lies now
    assert labels[f"{told.suggested}/by hand.png"] == told.suggested
    assert not {renamed.path, other.path, gone.path, told.path, "loose.png"} & set(labels)
    assert len(labels) == 24 - 1 - 1 + 2  # one was dropped and one is gone
    assert {(row["change"], row["now"]) for row in table(tmp_path / "cleaned/changes.csv")} == {
        ("added", "hat/new.png"),
        ("added", "scarf/new.png"),
        ("moved", "hat/renamed.png"),
        ("moved", "dress/moved.png"),
        ("moved", f"{told.suggested}/by hand.png"),
    }
    assert [row["path"] for row in table(tmp_path / "cleaned/left_out.csv")] == [gone.path]
    text = "\n".join(apply.lines(about, tmp_path / "cleaned"))
    assert "2 photos were added" in text and "3 photos were moved" in text
    assert folders.tree(listed.root) == before


def test_a_photo_that_was_moved_against_its_decision_is_left_out(
    listed: Result, decided: Path, tmp_path: Path
) -> None:
    told = listed.rows[0]
    third = next(name for name in listed.class_names if name not in (told.given, told.suggested))
    (listed.root / told.path).rename(listed.root / third / "moved.png")
    about = apply.apply([decided], listed, tmp_path / "cleaned")
    assert (about["left_out"], about["moved"], about["photos"]) == (1, 1, 22)
    (row,) = table(tmp_path / "cleaned/left_out.csv")
    assert (
        f"moved to {third}/moved.png" in row["reason"]
        and f"decided to be {told.suggested!r}" in row["reason"]
    )


def test_files_that_clean_could_not_use_are_not_new(listed: Result, decided: Path, tmp_path: Path) -> None:
    (listed.root / "hat/=broken.png").write_bytes(b"no image")
    (listed.folder / "work").mkdir(exist_ok=True)
    (listed.folder / "work/quarantine.csv").write_text("path,reason\nhat/=broken.png,no image\n")
    about = apply.apply([decided], listed, tmp_path / "cleaned")
    assert (about["added"], about["moved"]) == (0, 0)


def test_of_a_manifest_s_photos_the_moved_keep_their_label_and_no_other_is_added(
    listed: Result, decided: Path, tmp_path: Path
) -> None:
    rows = [replace(row, given="hat" if row.rank == 9 else row.given) for row in listed.rows]
    assert rows[8].path.split("/")[0] != "hat"  # so the folders are not the labels
    by_manifest = replace(listed, rows=tuple(rows))
    folders.photo(listed.root / "dress/new.png", (9, 9, 9), 1000)
    (listed.root / rows[8].path).rename(listed.root / "elsewhere.png")
    about = apply.apply([decided], by_manifest, tmp_path / "cleaned")
    assert (about["added"], about["moved"], about["left_out"]) == (0, 1, 0)
    labels = {row["path"]: row["label"] for row in table(tmp_path / "cleaned/manifest.csv")}
    assert labels["elsewhere.png"] == "hat"
