"""`noisyctl clean`: from a folder of photos to the list of labels that look wrong, and a report to review it in.

Steps, each of which leaves an artifact and is left out where that artifact is up to date:

  [1] look:     which photos there are, by their folders or by a manifest; OUT/work/photos.csv
  [2] prepare:  every photo is decoded once, and what cannot be read is set aside with the reason; images.zarr, paths.zarr,
                labels.zarr and quarantine.csv in OUT/work
  [3] embed:    the features of a frozen pretrained encoder, which sees no label; features.zarr
  [4] judge:    opinions on every label, combined into one probability (noisyctl/opinions); OUT/labels.csv, labels.parquet
                and result.json; where several people labeled, annotators.csv
  [5] report:   OUT/report.html
  [6] model:    OUT/model, which labels new photos (`noisyctl predict --run OUT/model`) and is trained on the features by a
                method that withstands wrong labels

A label that is corrected in a manifest redoes [4] to [6] alone; a photo that is moved to another folder is decoded again
as well, without [3]. A photo that is new, gone or changed redoes all. Where nothing has changed, nothing is done. The
photos themselves are only ever read.
"""

import csv
import hashlib
import json
import os
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast, get_args

import numpy as np
from jaxtyping import Shaped

from noisyctl.artifacts import files, label_list, store
from noisyctl.artifacts.kinds import FEATURES, IMAGES, LABELS, PATHS
from noisyctl.datasets.folder import (
    SPLITS,
    Annotations,
    Params,
    Rule,
    encoded,
    existing_folder,
    from_folders,
    from_manifest,
    read_table,
    sorted_classes,
)
from noisyctl.errors import DataError, NoisyctlError, OutputError, ParamsError, TrainingError
from noisyctl.opinions import Judgement, duplicates, judge
from noisyctl.review import annotators, model, report
from noisyctl.review import result as results
from noisyctl.review.since import Since, since
from noisyctl.runs.embedding import embed_images
from noisyctl.runs.judging import listed
from noisyctl.runs.prepare_data import prepare
from noisyctl.seeds import numpy_stream
from noisyctl.session import Session
from noisyctl.training.scratch import FOLDER

STEPS = ("prepare", "embed", "judge", "report", "model")
PHOTOS, SEEN = "photos.csv", "seen.json"  # in OUT/work
COLUMNS = ("path", "label")
MANIFEST = files.Text((",".join(COLUMNS),))
STATE = files.Text(('{"clean":',))
ABOUT = files.Text(("{",))  # of result.json, which stands in a folder that has been found to be a result
SIDE = 256  # pixels of the squares that images.zarr speaks of; the encoder reads the files at its own size
VERSION = 1

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Photo:
    """A photo as the user names it: path relative to the root, label, and the part it lies in (train, val, test) or ""."""

    path: str
    label: str
    part: str


@dataclass(frozen=True)
class Found:
    """The photos below a root, and how they were told apart."""

    root: Path
    photos: tuple[Photo, ...]
    aside: tuple[tuple[str, str], ...]  # files that are no photos: path and reason
    layout: str
    groups: Mapping[str, str] = field(default_factory=dict)  # by path: of photos that belong together
    annotations: Annotations | None = None  # where several people labeled; then the label is made of theirs


@dataclass(frozen=True)
class Cleaned:
    """What clean has made or found up to date. `judgement` is None where the list was up to date."""

    out: Path
    done: tuple[str, ...]
    unreadable: int
    judgement: Judgement | None
    result: results.Result
    seconds: Mapping[str, float] = field(default_factory=dict)  # of what was done


# --- [1] look


def find_photos(
    root: Path, manifest: Path | None = None, groups: Path | None = None, consensus: Rule = "dawid_skene"
) -> Found:
    """The photos below `root`: those that a manifest names (columns path, label), or all, labeled by their folders.

    Of several people's labels in the manifest one is made by the rule `consensus`.
    Folders at the top that are called train, val, valid, validation or test are parts, in them a folder for each class;
    else the folders at the top are the classes. `groups` is a table with the columns path, group of photos that belong
    together, as those of one product; a manifest may have a column `group` itself. Raises DataError where there is no
    photo, or fewer than two classes.
    """
    root = existing_folder(str(root))
    annotations = None
    if manifest is not None:
        source = from_manifest(root, str(manifest), consensus)
        annotations = source.annotations
        found = [Photo(s.path, s.label, s.split if s.split != "train" else "") for s in source.samples]
        aside, layout = source.aside, source.layout
    elif parts := _parts(root):
        found, aside = [], []
        for name in parts:
            inside = from_folders(root / name)
            found += [Photo(f"{name}/{s.path}", s.label, SPLITS[name.casefold()]) for s in inside.samples]
            aside += [type(a)(f"{name}/{a.path}", a.reason) for a in inside.aside]
        layout = f"folders {', '.join(parts)}, in them a folder for each class"
    else:
        source = from_folders(root)
        found, aside, layout = (
            [Photo(s.path, s.label, "") for s in source.samples],
            source.aside,
            source.layout,
        )
    if not found:
        raise DataError(
            f"{root} has no photo in a folder of a class; put each photo into ROOT/CLASS/, or give a --manifest"
        )
    classes = {photo.label for photo in found}
    if len(classes) < 2:
        raise DataError(
            f"all {len(found)} photos are of one class, {classes.pop()!r}; a wrong label shows only where there are two "
            "classes or more. Is the folder one level too deep?"
        )
    together = _groups(manifest if groups is None else groups, groups is not None)
    reasons = tuple((a.path, a.reason) for a in aside)
    in_order = tuple(sorted(found, key=lambda p: p.path))
    return Found(root, in_order, reasons, layout, together, annotations)


def require_rule(value: str) -> Rule:
    """The option's value. Raises ParamsError where there is no such rule."""
    for known in get_args(Rule):
        if value == known:
            return cast(Rule, known)
    raise ParamsError(f"--consensus is {value!r}; one of: {', '.join(get_args(Rule))}")


def _parts(root: Path) -> list[str]:
    """The folders at the top that are parts, if all of them are."""
    folders = sorted(p.name for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))
    return folders if folders and all(name.casefold() in SPLITS for name in folders) else []


def _groups(table: Path | None, required: bool) -> dict[str, str]:
    if table is None:
        return {}
    read = read_table(table, ["path", *(["group"] if required else [])], [] if required else ["group"])
    if "group" not in read.columns:
        return {}
    return {p: g for p, g in zip(read.columns["path"], read.columns["group"], strict=True) if g.strip()}


# --- all


def clean(
    found: Found,
    out: Path,
    session: Session,
    encoder: str,
    tell: Tell = lambda text: None,
    *,
    with_model: bool = True,
) -> Cleaned:
    """Make the list, the report and the model of these photos in the folder `out`, and leave out what is up to date there.

    `tell` is given lines about the work as it goes on. Raises OutputError where `out` holds something else, DataError where
    too few photos can be read.
    """
    require_place(out, found.root)
    work = out / results.WORK
    work.mkdir(parents=True, exist_ok=True)
    files.remove_remains_in(
        session.scratch / FOLDER
    )  # of a step that is up to date, and will not look there again
    seen = read_seen(work)
    write_seen(work, seen)  # from here on the folder is known as one of clean's
    times = [time.monotonic()]
    done = _prepared(found, work, seen, session)
    times.append(time.monotonic())
    done += _embedded(work, encoder, session)
    times.append(time.monotonic())
    judgement = judged(found, out, seen, session)
    done += ["judge"] if judgement is not None else []
    times.append(time.monotonic())
    result = results.read(out)
    if _report_is_due(found, out, seen):
        tell("writing the report")
        report.write(result, out / results.REPORT, title=_title(found))
        seen["report"] = _shown(found, out)
        write_seen(work, seen)
        done.append("report")
    times.append(time.monotonic())
    if with_model and model.is_due(work, out / results.MODEL, session.seed):
        tell(
            f"list and report are ready: {out / results.REPORT}; now the model that labels new photos is trained"
        )
        done += trained_model(out, session, tell)
    times.append(time.monotonic())
    took = dict(zip(STEPS, np.diff(times).tolist(), strict=True))
    seconds = {step: took[step] for step in STEPS if step in done}
    return Cleaned(out, tuple(done), _count(work / "quarantine.csv"), judgement, result, seconds)


def trained_model(out: Path, session: Session, tell: Tell) -> list[str]:
    """Train the model; where that cannot be, such as with too few photos of a class, the list is whole without it."""
    try:
        model.write(out / results.WORK, out / results.MODEL, session)
        return ["model"]
    except (ParamsError, DataError, TrainingError) as error:
        tell(f"no model was trained: {error}")
        return []


def since_last(found: Found, out: Path) -> Since | None:
    """What happened to the photos since they were last made a list of; None where that is not known."""
    work = out / results.WORK
    seen = read_seen(work)
    if not seen.get("photos") or not _readable(work) or not (work / PHOTOS).is_file():
        return None
    changed = since({p.path: p.label for p in found.photos}, found.root, work / PHOTOS, work)
    return replace(changed, same_files=_digest_of_photos(found, changed.former) == seen["photos"])


def due(
    found: Found,
    out: Path,
    encoder: str,
    *,
    seed: int = 0,
    with_model: bool = True,
    changed: Since | None = None,
) -> tuple[str, ...]:
    """The steps of STEPS that `clean` would take, as far as that is known before a photo is opened.

    `changed` is what `since_last` gives. Without it, `embed` is among the steps where a photo was only moved, though it will
    be left out.
    """
    work, steps = out / results.WORK, STEPS if with_model else STEPS[:-1]
    seen = read_seen(work)
    if seen.get("photos") != _digest_of_photos(found) or not _readable(work):
        kept = changed is not None and changed.only_moved and _is_embedded(work, encoder)
        return tuple(step for step in steps if step != "embed" or not kept)
    if not _is_embedded(work, encoder):
        return steps[1:]
    former = seen.get("judged", {})
    labels = digest_of([(p.path, p.label) for p in found.photos])
    same = seen.get("labels") == labels and former.get("groups") == digest_of(sorted(found.groups.items()))
    if not (same and _whole(out)):
        return steps[2:]
    left = ["report"] if _report_is_due(found, out, seen) else []
    if with_model and model.is_due(work, out / results.MODEL, seed):
        left.append("model")
    return tuple(left)


def require_place(out: Path, root: Path) -> None:
    """Refuse a folder that holds anything but a former result, that lies among the photos, or around them.

    Raises OutputError; nothing is written.
    """
    real, photos = Path(os.path.realpath(out)), Path(os.path.realpath(root))
    if real == photos or photos in real.parents:
        raise OutputError(f"{out} lies among the photos in {root}; nothing was written. Choose another --out")
    if real in photos.parents:
        raise OutputError(
            f"{out} is a folder around the photos in {root}; nothing was written. Choose another --out"
        )
    require_former_or_new(out)


def require_former_or_new(out: Path) -> None:
    """Refuse what is neither a former result, nor an empty folder, nor nothing at all. Raises OutputError."""
    files.require_place(out, "--out")
    if out.is_dir() and any(out.iterdir()):
        ours = STATE.foreign(out / results.WORK / SEEN) is None
        if not ours:
            raise OutputError(
                f"{out} holds other files, and no former result of clean; nothing was written. "
                "Give a new or empty folder with --out"
            )
    elif out.exists() and not out.is_dir():
        raise OutputError(f"{out} is a file; nothing was written. Give a folder with --out")


def default_out(root: Path) -> Path:
    """NAME-clean in the current folder; beside the photos where the current folder is theirs, or lies inside it."""
    photos, here = root.resolve(), Path.cwd().resolve()
    name = f"{photos.name or 'photos'}-clean"
    if here == photos or photos in here.parents:
        return Path(os.path.relpath(photos.parent / name))
    return Path(name)


# --- [2] prepare


def _prepared(found: Found, work: Path, seen: dict[str, Any], session: Session) -> list[str]:
    """Images and labels of these photos; only the labels where no photo has changed."""
    photos, labels = _digest_of_photos(found), digest_of([(p.path, p.label) for p in found.photos])
    known = seen.get("photos") == photos and _readable(work)
    if known and seen.get("labels") == labels:
        return []
    with files.publish(work / PHOTOS, MANIFEST) as partial:
        rows = [COLUMNS, *((p.path, p.label) for p in found.photos)]
        with partial.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(rows)  # to the letter: prepare takes no text of it for a quoted one
    if known:
        _relabel(found, work)
        done = ["labels"]
    else:
        params = Params(root=str(found.root), manifest=str(work / PHOTOS), image_size=SIDE, keep="files")
        prepare("folder", work, params, session)
        done = ["prepare"]
    write_seen(work, seen | {"photos": photos, "labels": labels})
    seen |= {"photos": photos, "labels": labels}
    return done


def _relabel(found: Found, work: Path) -> None:
    """Write labels.zarr anew for the images that are there: their rows are in the order of paths.zarr."""
    by_path = {photo.path: photo.label for photo in found.photos}
    images, paths = store.read(work / "images.zarr", IMAGES), store.read(work / "paths.zarr", PATHS)
    texts = [by_path[path] for path in paths.array("train_path").tolist()]
    names = sorted_classes(set(texts), str(found.root))
    store.write(
        work / "labels.zarr",
        LABELS,
        {"noisy_labels": encoded(texts, names)},
        inputs={"images": images.digest},
        attributes={"class_names": list(names)},
    )


def _readable(work: Path) -> bool:
    """Whether images, paths and labels are there and belong together."""
    try:
        images = store.read(work / "images.zarr", IMAGES)
        made = [store.read(work / f"{kind.name}.zarr", kind) for kind in (PATHS, LABELS)]
    except NoisyctlError:
        return False
    return all(artifact.inputs.get("images") == images.digest for artifact in made)


def _digest_of_photos(found: Found, former: Mapping[str, str] = MappingProxyType({})) -> str:
    """Changes when a photo is added, removed, moved or written anew; not when its label is corrected in a manifest.

    Moved photos count as where they were before, if their `former` paths are given by the present ones.
    """
    return digest_of(
        sorted((former.get(p.path, p.path), *files.size_and_time(found.root / p.path)) for p in found.photos)
    )


# --- [3] embed


def _embedded(work: Path, encoder: str, session: Session) -> list[str]:
    if _is_embedded(work, encoder):
        return []
    embed_images(work / "images.zarr", encoder, work / "features.zarr", session)
    return ["embed"]


def _is_embedded(work: Path, encoder: str) -> bool:
    """Whether the features of this encoder are there, and were made from these images."""
    images = store.read(work / "images.zarr", IMAGES)
    try:
        there = store.read(work / "features.zarr", FEATURES)
    except NoisyctlError:
        return False
    return there.inputs.get("images") == images.digest and there.attributes.get("encoder") == encoder


# --- [4] judge


def judged(found: Found, out: Path, seen: dict[str, Any], session: Session) -> Judgement | None:
    """The list, written; None where it is there and was made from the same features, labels and groups."""
    work = out / results.WORK
    features, labels = store.read(work / "features.zarr", FEATURES), store.read(work / "labels.zarr", LABELS)
    ids, paths = _ids_and_paths(work, labels)
    parts = {photo.path: photo.part for photo in found.photos}
    made_from = {
        "features": features.digest,
        "labels": labels.digest,
        "groups": digest_of(sorted(found.groups.items())),
        "parts": digest_of(sorted(parts.items())),
        "seed": session.seed,
        "version": VERSION,
    }
    said = found.annotations
    if said is not None:
        made_from["annotations"] = digest_of(sorted(said.by_path.items()))
    if seen.get("judged") == made_from and _whole(out):
        return None
    names = tuple(labels.attributes["class_names"])
    groups = None
    if found.groups:
        own = [found.groups.get(path) for path in paths.tolist()]
        groups = np.array([f"={group}" if group else f"#{row}" for row, group in enumerate(own)])
    judgement = judge(
        features.array("features"),
        labels.array("noisy_labels"),
        names,
        ids,
        paths,
        groups,
        numpy_stream(session.seed, "clean"),
        session.progress("judge", "hundredths"),
        None if said is None else said.votes(paths.tolist(), names),
        duplicates.NEARLY_EQUAL if (work / "images.zarr").exists() else duplicates.EQUAL,
    )
    rows = listed(judgement, () if said is None else [said.by_path[path] for path in paths.tolist()])
    label_list.write(out, rows)
    if said is not None and judgement.annotators is not None:
        annotators.write(out, said.annotators, judgement.annotators, rows)
    elif annotators.FORM.foreign(out / annotators.FILE) is None:
        files.discard(out / annotators.FILE)  # of an earlier manifest
    total, estimate = len(rows), judgement.number_wrong
    share = _noise(estimate.value, estimate.low, estimate.high, total)
    by_part: dict[str, list[str]] = {}
    for sample, path in zip(rows.ids.tolist(), rows.paths.tolist(), strict=True):
        if parts.get(path):
            by_part.setdefault(parts[path], []).append(sample)
    about = results.as_about(rows, out, found.root, names, noise=share, splits=by_part or None)
    with files.publish(out / results.ABOUT, ABOUT) as partial:
        partial.write_text(about, encoding="utf-8")
    seen["judged"] = made_from
    write_seen(work, seen)
    return judgement


def _ids_and_paths(
    work: Path, labels: store.Artifact
) -> tuple[Shaped[np.ndarray, " n"], Shaped[np.ndarray, " n"]]:
    """The ids of the samples, and the paths of their photos, "" for vectors, which have none."""
    if (work / "images.zarr").exists():
        ids = store.read(work / "images.zarr", IMAGES).array("train_id")
        return ids, store.read(work / "paths.zarr", PATHS).array("train_path")
    ids = labels.array("train_id")
    return ids, np.full(len(ids), "", np.dtypes.StringDType())


def _noise(value: float, low: float, high: float, total: int) -> results.Noise:
    """Numbers of wrong labels as shares of all labels."""
    return results.Noise(value / total, low / total, high / total)


def _whole(out: Path) -> bool:
    try:
        results.read(out)
    except NoisyctlError:
        return False
    return True


# --- [5] report


def _report_is_due(found: Found, out: Path, seen: Mapping[str, Any]) -> bool:
    """Whether no report lies there, or one of another list."""
    return seen.get("report") != _shown(found, out) or not (out / results.REPORT).is_file()


def _shown(found: Found, out: Path) -> str:
    """Changes with the list that a report shows, and with its title."""
    return digest_of([(out / results.ABOUT).read_text(encoding="utf-8"), _title(found)])


def _title(found: Found) -> str:
    return found.root.resolve().name


# --- what was seen


def read_seen(work: Path) -> dict[str, Any]:
    """What the artifacts in the work folder were made from; nothing where that cannot be read."""
    try:
        held = json.loads((work / SEEN).read_text(encoding="utf-8"))
        return dict(held["clean"]) if isinstance(held["clean"], dict) else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def write_seen(work: Path, seen: Mapping[str, Any]) -> None:
    with files.publish(work / SEEN, STATE) as partial:
        partial.write_text(json.dumps({"clean": dict(seen)}, sort_keys=True), encoding="utf-8")


def digest_of(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, ensure_ascii=True).encode()).hexdigest()


def _count(quarantine: Path) -> int:
    """The files that were set aside."""
    if not quarantine.is_file():
        return 0
    with quarantine.open(newline="", encoding="utf-8") as file:
        return max(sum(1 for _ in csv.reader(file)) - 1, 0)


# --- what a person reads


def found_lines(found: Found) -> list[str]:
    """What was found, before any photo is opened."""
    counts: dict[str, int] = {}
    for photo in found.photos:
        counts[photo.label] = counts.get(photo.label, 0) + 1
    some = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    shown = ", ".join(f"{name} {number}" for name, number in some[:12])
    more = f" and {len(some) - 12} more" if len(some) > 12 else ""
    lines = [f"{len(found.photos)} photos in {len(counts)} classes ({found.layout})", f"  {shown}{more}"]
    if found.aside:
        path, reason = found.aside[0]
        lines.append(f"  {len(found.aside)} other files are left aside, such as {path}: {reason}")
    return lines


def summary(cleaned: Cleaned) -> list[str]:
    """The result in about ten lines."""
    out = cleaned.out
    lines = headline(cleaned)
    lines.append(f"List: {out / results.LABELS}")
    lines.append(f"Report: {out / results.REPORT}  (open it in a browser, decide, and save decisions.csv)")
    if (out / results.MODEL / "trace.zarr").exists():
        lines.append(f"Model: noisyctl predict --run {out / results.MODEL} --root NEW_PHOTOS")
    lines.append(f"Then: noisyctl apply decisions.csv --result {out} --out {out}ed")
    return lines


def headline(cleaned: Cleaned) -> list[str]:
    """How many labels look wrong, of which classes, and what the list says of them."""
    result, out = cleaned.result, cleaned.out
    rows, noise, total = result.rows, result.noise, len(result.rows)
    what = "photos" if result.has_photos else "samples"
    lines = []
    if not cleaned.done:
        lines.append("Nothing has changed since the last time, and nothing was done.")
    if noise is not None:
        low, high = round(noise.low * total), round(noise.high * total)
        lines.append(
            f"About {round(noise.wrong * total)} of {total} labels look wrong, {noise.wrong:.1%} "
            f"({noise.level:.0%} interval: {low} to {high} {what}): an estimate of the total"
        )
    lines += _by_verdict(rows, estimated=noise is not None)
    if cleaned.unreadable:
        lines.append(f"{cleaned.unreadable} files could not be used: {out / results.WORK / 'quarantine.csv'}")
    lines += _by_class(rows)
    lines += annotators.lines(out)
    copies = [row for row in rows if row.duplicate_of]
    if copies:
        by_id = result.by_id
        other = sum(by_id[row.duplicate_of].given != row.given for row in copies if row.duplicate_of in by_id)
        lines.append(f"Copies: {len(copies)} {what} repeat another one, {other} of them with another label")
    return lines


def _by_verdict(rows: tuple[results.Listed, ...], *, estimated: bool) -> list[str]:
    """How many labels the list names, and why these are not as many as the estimate of the total says."""
    counts = Counter(row.verdict for row in rows)
    wrong = [f"{name} {counts[name]}" for name in (results.RELABEL, results.DROP) if counts[name]]
    said = (
        [f"{counts[results.RELABEL] + counts[results.DROP]} likely wrong ({', '.join(wrong)})"]
        if wrong
        else []
    )
    others = ((results.LOOK, "doubtful"), (results.DUPLICATE, "copies"), (results.KEEP, "seem right"))
    said += [f"{counts[name]} {meaning} ({name})" for name, meaning in others if counts[name]]
    lines = [f"Named one by one, by verdict: {', '.join(said)}"]
    if estimated:
        lines.append(
            "The estimate adds up how probable it is of every label that it is wrong: doubtful ones count in part, so the "
            "two numbers differ"
        )
    return lines


def _by_class(rows: tuple[results.Listed, ...]) -> list[str]:
    """Which classes look worst, and which are taken for each other."""
    wrong: dict[str, float] = {}
    size: dict[str, int] = {}
    pairs: dict[tuple[str, str], int] = {}
    for row in rows:
        wrong[row.given] = wrong.get(row.given, 0) + 1 - row.clean_probability
        size[row.given] = size.get(row.given, 0) + 1
        if row.verdict == results.RELABEL:
            pairs[row.given, row.suggested] = pairs.get((row.given, row.suggested), 0) + 1
    worst = sorted(wrong, key=lambda name: (-wrong[name], name))[:5]
    lines = ["Most of them: " + ", ".join(f"{name} {wrong[name]:.0f} of {size[name]}" for name in worst)]
    often = sorted(pairs, key=lambda pair: (-pairs[pair], pair))[:5]
    if often:
        lines.append("Most confused: " + ", ".join(f"{a} should be {b} ({pairs[a, b]})" for a, b in often))
    return lines
