"""Find the wrong labels in a folder of photos: one command from the photos to a list and a report. Or among vectors."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from noisyctl.cli.stage import Option, Stage
from noisyctl.cli.types import Share
from noisyctl.errors import DataError, ParamsError
from noisyctl.session import Session

DEFAULT = "efficientnet_lite0"


@dataclass(frozen=True)
class Inputs:
    photos: Path | None = None
    out: Path | None = None
    manifest: Path | None = None
    groups: Path | None = None
    encoder: str = DEFAULT
    consensus: str = "dawid_skene"
    model: bool = True
    features: Path | None = None
    labels: Path | None = None
    ids: Path | None = None
    fail_above: float | None = None


FAILED = 3  # the exit code where more labels are wrong than --fail-above allows


def run(inputs: Inputs, params: Any = None, session: Session = Session()) -> dict[str, Any]:
    """Write labels.csv, labels.parquet, result.json, report.html and model/, and leave out what is up to date."""
    if inputs.photos is None:
        return _of_vectors(inputs, session)
    from noisyctl.review import clean, estimate

    if not inputs.photos.is_dir():
        raise DataError(
            f"there is no folder {inputs.photos}; give the folder of the photos: `noisyctl clean FOLDER`"
        )
    rule = clean.require_rule(inputs.consensus)
    found = clean.find_photos(inputs.photos, inputs.manifest, inputs.groups, rule)
    out, tell = inputs.out or clean.default_out(inputs.photos), _teller(session)
    for line in clean.found_lines(found):
        tell(line)
    clean.require_place(out, found.root)
    if not session.quiet:
        changed = clean.since_last(found, out)
        choices: dict[str, Any] = {"seed": session.seed, "with_model": inputs.model}
        due = clean.due(found, out, inputs.encoder, **choices, changed=changed)
        if changed is not None and (line := changed.line(due)):
            tell(line)
        tell(estimate.line(*estimate.seconds_of(found, due, inputs.encoder, session)))
    cleaned = clean.clean(found, out, session, inputs.encoder, tell, with_model=inputs.model)
    estimate.keep(len(cleaned.result.rows), cleaned.seconds, inputs.encoder, session)
    return _told(cleaned, "photos", clean.summary(cleaned), inputs.fail_above)


def _of_vectors(inputs: Inputs, session: Session) -> dict[str, Any]:
    """The same for vectors that lie ready, which have no photos and no report."""
    from noisyctl.review import estimate, vectors

    assert inputs.features is not None and inputs.labels is not None
    given, tell = vectors.Vectors(inputs.features, inputs.labels, inputs.ids), _teller(session)
    out = inputs.out or vectors.default_out(given)
    vectors.require_place(out, given)
    seconds = vectors.seconds_of(given, with_model=inputs.model)
    tell(estimate.line(seconds, "a first time, without a measurement"))
    cleaned = vectors.clean_vectors(given, out, session, tell, with_model=inputs.model)
    return _told(cleaned, "samples", vectors.summary(cleaned), inputs.fail_above)


def _teller(session: Session) -> Callable[[str], None]:
    def tell(text: str) -> None:
        if not session.quiet:
            print(text, file=sys.stderr)

    return tell


def _told(cleaned: Any, what: str, lines: list[str], limit: float | None) -> dict[str, Any]:
    """The result for programs and people; it asks for an exit code where the noise is certainly above the limit."""
    rows, noise = cleaned.result.rows, cleaned.result.noise
    told: dict[str, Any] = {
        what: len(rows),
        "look_wrong": None if noise is None else round(noise.wrong * len(rows)),
        "noise": None if noise is None else {"wrong": noise.wrong, "low": noise.low, "high": noise.high},
        "done": list(cleaned.done),
        "out": str(cleaned.out),
    }
    if limit is not None and noise is not None and noise.low > limit:
        told["exit_code"] = FAILED
        lines = [
            *lines,
            f"FAILED: at least {noise.low:.1%} of the labels look wrong; --fail-above is {limit:.1%}",
        ]
    return told | {"text": "\n".join(lines)}


def _inputs(given: Any, layout: Any, extra: Any) -> Inputs:
    """Raises ParamsError where it is not clear what to clean."""
    photos, features, labels = given["photos"], given["features"], given["labels"]
    of_photos = [f"--{name}" for name in ("manifest", "groups", "consensus") if given[name]]
    if photos is None and (features is None or labels is None):
        raise ParamsError(
            "give the folder of the photos, `noisyctl clean FOLDER`, or vectors: --features X.npy --labels y.npy"
        )
    if photos is not None and (features or labels or given["ids"]):
        raise ParamsError("give the folder of the photos or vectors (--features, --labels, --ids), not both")
    if photos is None and of_photos:
        raise ParamsError(f"{', '.join(of_photos)} is for photos; leave it out with --features")
    return Inputs(
        photos,
        given["out"],
        given["manifest"],
        given["groups"],
        given["encoder"],
        given["consensus"] or "dawid_skene",
        not given["no_model"],
        features,
        labels,
        given["ids"],
        given["fail_above"],
    )


STAGE = Stage(
    name="clean",
    summary="Find the wrong labels in a folder of photos, and write a report to review them in.",
    example="noisyctl clean photos",
    run=run,
    inputs=_inputs,
    options=(
        Option(
            "photos", "folder with a folder for each class; or leave it out and give vectors", argument=True
        ),
        Option("features", ".npy file of vectors instead of photos, one row per sample"),
        Option("labels", "with --features: .npy, .txt or .csv file with one label per row"),
        Option("ids", "with --features: .txt or .csv file with one name per row [the numbers of the rows]"),
        Option(
            "manifest",
            "table of the photos instead of folders: columns path, label [, split] [, group]; of several people: path, "
            "annotator, label, or path, label_ANNA, label_BEN",
        ),
        Option(
            "consensus",
            "how several people's labels become one [dawid_skene]",
            metavar="dawid_skene|majority",
        ),
        Option(
            "groups", "table of photos that belong together, as those of one product: columns path, group"
        ),
        Option(
            "encoder",
            f"{DEFAULT}, or timm:NAME; by its features every opinion, such as a vote of similar photos, judges a label",
            lambda layout: DEFAULT,
            metavar="name",
        ),
        Option(
            "fail_above",
            f"exit with {FAILED} where the lower end of the interval of wrong labels is above this share [never]",
            type=Share(),
        ),
        Option("no_model", "train no model that labels new photos", flag=True),
        Option("out", "folder to write [NAME-clean]"),
    ),
    text=lambda result: result["text"],
)
