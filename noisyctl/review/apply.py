"""Apply decisions to a copy of the labels, and take it back. The photos and their folder are never written to.

What apply writes, a folder of its own:

    manifest.csv    path,label[,split] of every photo that is kept; for `prepare-data --manifest`, with --root the photos
    verified.csv    path,label of the photos whose label a person confirmed or gave; for `prepare-data --verified-manifest`
    decisions.csv   the decisions that were applied
    conflicts.csv   those on which reviewers differ; nothing is done to these photos
    left_out.csv    photos that are gone or were replaced since the list was made, and why they are not in the manifest
    changes.csv     photos that were added or moved since the list was made; they are in the manifest as they lie now
    apply.json      counts, and the agreement of the reviewers
    photos/         on demand: links or copies, in folders by class
"""

import csv
import io
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from noisyctl.artifacts import csv_files, files
from noisyctl.errors import DataError, OutputError
from noisyctl.review import changes
from noisyctl.review import decisions as decided
from noisyctl.review.changes import Changes
from noisyctl.review.cleaned import CLEANED
from noisyctl.review.decisions import Merged
from noisyctl.review.photos import As, LeftOut, arrange, folder_name, require_root, why_not
from noisyctl.review.result import DROP, Listed, Result

MANIFEST, VERIFIED, DECISIONS = "manifest.csv", "verified.csv", "decisions.csv"
CONFLICTS, LEFT_OUT, CHANGES = "conflicts.csv", "left_out.csv", "changes.csv"
ABOUT, PHOTOS = "apply.json", "photos"
UNCHANGED = Changes()
CONFLICT_COLUMNS = ("id", "path", "given", "decision", "label", "file", "row")


class StrictError(DataError):
    """Conflicts, or photos that are gone, where none may be."""

    exit_code = 3


@dataclass(frozen=True)
class Labeled:
    """Photos with the labels that they have after the decisions."""

    labels: dict[str, str]
    dropped: int
    left_out: list[LeftOut]
    changes: Changes = UNCHANGED

    def photos(self, result: Result) -> list[Listed]:
        """The photos that are kept, by the path that they have now."""
        rows = [self.changes.moved.get(row.id, row) for row in result.rows]
        kept = [row for row in (*rows, *self.changes.added) if row.id in self.labels]
        return sorted(kept, key=lambda row: row.path)


def labeled(result: Result, merged: Merged, changed: Changes = UNCHANGED) -> Labeled:
    """The label of each photo that is kept. Photos that are gone, or that were replaced after a person saw them, are not.

    What was `changed` since the list was made keeps the label that it has now, unless a person decided on it.
    """
    labels: dict[str, str] = {}
    left_out = []
    dropped = 0
    for row in result.rows:
        decision = merged.agreed.get(row.id)
        if (moved := changed.moved.get(row.id)) is not None:
            wanted = moved.given if decision is None else decision.outcome
            if moved.given != row.given and wanted != moved.given:
                left_out.append(LeftOut(row.path, _contradiction(moved, wanted)))
            elif wanted is None:
                dropped += 1
            else:
                labels[row.id] = wanted
        elif decision is not None and decision.decision == DROP:
            dropped += 1
        elif reason := why_not(row, result.root, content=decision is not None):
            left_out.append(LeftOut(row.path, reason))
        else:
            labels[row.id] = row.given if decision is None else decision.label
    labels |= {photo.id: photo.given for photo in changed.added}
    return Labeled(labels, dropped, left_out, changed)


def _contradiction(moved: Listed, wanted: str | None) -> str:
    decided = "dropped" if wanted is None else f"decided to be {wanted!r}"
    return f"it was moved to {moved.path} since the list was made, but {decided}; move it back, or run clean again"


def apply(
    files_of_decisions: Sequence[Path],
    result: Result,
    out: Path,
    *,
    how: As | None = None,
    strict: bool = False,
) -> dict[str, Any]:
    """Write the cleaned labels to the folder `out` and return the counts.

    Raises DataError for decisions that do not fit the list, StrictError with `strict` where reviewers differ or photos
    are gone, and OutputError where `out` would touch the photos, the result or something that apply did not write.
    """
    require_root(result)
    check_place(out, result, files_of_decisions)
    merged = read_all(files_of_decisions, result)
    after = labeled(result, merged, changes.since(result))
    if strict:
        _require_settled(merged, after)
    about = _about(result, merged, after, len(files_of_decisions))
    with files.publish(out, CLEANED) as partial:
        partial.mkdir()
        _write(partial, result, merged, after, how, about)
        CLEANED.seal(partial)
    return about


def read_all(paths: Sequence[Path], result: Result) -> Merged:
    """The decisions of several files, merged. Raises DataError where a file does not fit, or all are empty."""
    read = {str(path): decided.read(path, result) for path in paths}
    if not any(read.values()):
        raise DataError(
            f"{', '.join(map(str, paths))}: no decision yet; decide in the report, then download them"
        )
    return decided.merge(read)


def check_place(out: Path, result: Result, inputs: Sequence[Path]) -> None:
    """Refuse a place that is, holds or lies in the photos or the result. Raises OutputError."""
    forms = files.Writes({out: CLEANED})
    files.check([forms], [result.root, result.folder, *inputs], ours=lambda path: False)


def _require_settled(merged: Merged, after: Labeled) -> None:
    if merged.conflicts:
        said = next(iter(merged.conflicts.values()))
        raise StrictError(
            f"the reviewers differ on {len(merged.conflicts)} photos, such as {said[0].photo.path}; settle them in one of "
            "the files, or leave out --strict: then conflicts.csv lists them and their labels stay as they are"
        )
    if after.left_out:
        first = after.left_out[0]
        raise StrictError(
            f"{len(after.left_out)} photos are not those of the list, such as {first.path}: {first.reason}; bring them "
            "back, run `noisyctl clean` again, or leave out --strict: then left_out.csv lists them"
        )


def _about(result: Result, merged: Merged, after: Labeled, reviewers: int) -> dict[str, Any]:
    """Counts for people and for apply.json: the same for the same decisions, without a time or an absolute path."""
    applied = [
        decision
        for id_, decision in merged.agreed.items()
        if id_ in after.labels or decision.decision == DROP
    ]
    counts = Counter(decision.decision for decision in applied)
    tested = [one for one in applied if one.photo.split == "test" and one.outcome != one.photo.given]
    return {
        "result": result.digest,
        "photos": len(after.labels),
        "kept": counts["keep"],
        "relabeled": counts["relabel"],
        "dropped": counts["drop"],
        "conflicts": len(merged.conflicts),
        "left_out": len(after.left_out),
        "added": len(after.changes.added),
        "moved": len(after.changes.moved),
        "changed_in_test": len(tested),
        "reviewers": reviewers,
        "agreement": [
            {
                "files": [Path(name).name for name in pair.files],
                "both": pair.both,
                "same": pair.same,
                "kappa": pair.kappa,
            }
            for pair in merged.pairs
        ],
    }


def _write(
    folder: Path, result: Result, merged: Merged, after: Labeled, how: As | None, about: Mapping[str, Any]
) -> None:
    kept = after.photos(result)
    _write_plain(folder / MANIFEST, manifest(kept, after.labels, result.has_splits))
    confirmed = [
        (row.path, after.labels[row.id]) for row in kept if row.id in merged.agreed and row.split == "train"
    ]
    _write_plain(folder / VERIFIED, [("path", "label"), *confirmed])
    applied = [one for id_, one in merged.agreed.items() if id_ in after.labels or one.decision == DROP]
    (folder / DECISIONS).write_text(decided.as_csv(applied, result.digest), encoding="utf-8", newline="")
    conflicts = [(*one.cells, one.file, one.row) for said in merged.conflicts.values() for one in said]
    text = csv_files.as_file_text([CONFLICT_COLUMNS, *conflicts])
    (folder / CONFLICTS).write_text(text, encoding="utf-8", newline="")
    gone = [(photo.path, photo.reason) for photo in after.left_out]
    (folder / LEFT_OUT).write_text(
        csv_files.as_file_text([("path", "reason"), *gone]), encoding="utf-8", newline=""
    )
    text = csv_files.as_file_text([changes.COLUMNS, *after.changes.rows(result)])
    (folder / CHANGES).write_text(text, encoding="utf-8", newline="")
    if how is not None:
        arrange(by_class(kept, after.labels, result.has_splits), result.root, folder / PHOTOS, how)
    text = json.dumps(about, indent=1, sort_keys=True, ensure_ascii=False)
    (folder / ABOUT).write_text(text + "\n", encoding="utf-8")


def manifest(photos: Sequence[Listed], labels: Mapping[str, str], splits: bool) -> list[tuple[str, ...]]:
    """Rows of a manifest that prepare-data takes."""
    head = ("path", "label", "split") if splits else ("path", "label")
    return [head, *((row.path, labels[row.id], row.split)[: len(head)] for row in photos)]


def by_class(photos: Sequence[Listed], labels: Mapping[str, str], splits: bool) -> list[tuple[Listed, str]]:
    """Each photo with the folder of its class, below that of its part where there are parts."""
    return [
        (row, f"{row.split}/{folder_name(labels[row.id])}" if splits else folder_name(labels[row.id]))
        for row in photos
    ]


def _write_plain(path: Path, rows: Sequence[Sequence[str]]) -> None:
    """Files that prepare-data reads are written to the letter: it takes no text of theirs for a quoted one."""
    out = io.StringIO(newline="")
    csv.writer(out).writerows(rows)
    path.write_text(out.getvalue(), encoding="utf-8", newline="")


def revert(cleaned: Path) -> None:
    """Remove what apply wrote, and what a revert that was killed has left of it.

    Raises OutputError where it is not as apply left it; then nothing is removed.
    """
    files.recover(cleaned)
    if files.remove_remains(cleaned) and not cleaned.exists():
        return
    cure = "nothing was removed. Move away what is yours, or remove the folder by hand"
    if cleaned.is_symlink():
        raise OutputError(f"{cleaned} is a link; give the folder that it leads to, {cleaned.resolve()}")
    if not cleaned.is_dir():
        raise OutputError(f"{cleaned} is no folder; give the one that `noisyctl apply` wrote")
    if not (cleaned / files.MANIFEST).is_file():
        raise OutputError(f"{cleaned} is a folder that `noisyctl apply` did not write; {cure}")
    reason = CLEANED.foreign(cleaned)
    if reason is not None:
        raise OutputError(f"{cleaned} {reason}; {cure}")
    missing = CLEANED.missing(cleaned)
    if missing:
        raise OutputError(f"{cleaned} lacks {missing[0]}, which apply wrote; {cure}")
    files.discard(cleaned)


def lines(about: Mapping[str, Any], out: Path) -> list[str]:
    """What apply did, for people."""
    said = [
        f"{about['photos']} photos in {out / MANIFEST}: {about['relabeled']} labels changed, {about['kept']} confirmed, "
        f"{about['dropped']} photos dropped"
    ]
    for pair in about["agreement"]:
        if pair["both"]:
            kappa = "" if pair["kappa"] is None else f", Cohen's kappa {pair['kappa']:.2f}"
            said.append(
                f"{' and '.join(pair['files'])} agree on {pair['same']} of {pair['both']} photos{kappa}"
            )
    if about["conflicts"]:
        said.append(
            f"{about['conflicts']} photos on which the reviewers differ keep their labels; they are in {out / CONFLICTS}"
        )
    if about["left_out"]:
        said.append(f"{about['left_out']} photos are gone or were replaced; they are in {out / LEFT_OUT}")
    if about["added"]:
        said.append(
            f"{about['added']} photos were added since the list was made: they keep the label of their folder, and nobody "
            "has judged it; `noisyctl clean` looks at them"
        )
    if about["moved"]:
        said.append(
            f"{about['moved']} photos were moved since the list was made, and found again by their content; "
            f"{out / CHANGES} has both"
        )
    if about["changed_in_test"]:
        said.append(
            f"{about['changed_in_test']} of the changes are in the test part: state this wherever you compare accuracies "
            "from before and after"
        )
    said.append(f"the photos were not touched; `noisyctl revert {out}` takes this back")
    return said
