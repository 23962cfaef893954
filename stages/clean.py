"""Find the wrong labels in a folder of photos: one command from the photos to a list and a report."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from noisyctl.cli.stage import Option, Stage
from noisyctl.errors import DataError
from noisyctl.session import Session

DEFAULT = "efficientnet_lite0"


@dataclass(frozen=True)
class Inputs:
    photos: Path
    out: Path | None = None
    manifest: Path | None = None
    groups: Path | None = None
    encoder: str = DEFAULT
    consensus: str = "dawid_skene"
    model: bool = True


def run(inputs: Inputs, params: Any = None, session: Session = Session()) -> dict[str, Any]:
    """Write labels.csv, labels.parquet, result.json, report.html and model/, and leave out what is up to date."""
    from noisyctl.review import clean, estimate

    if not inputs.photos.is_dir():
        raise DataError(
            f"there is no folder {inputs.photos}; give the folder of the photos: `noisyctl clean FOLDER`"
        )
    rule = clean.require_rule(inputs.consensus)
    found = clean.find_photos(inputs.photos, inputs.manifest, inputs.groups, rule)
    out = inputs.out or clean.default_out(inputs.photos)

    def tell(text: str) -> None:
        if not session.quiet:
            print(text, file=sys.stderr)

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
    noise = cleaned.result.noise
    return {
        "photos": len(cleaned.result.rows),
        "look_wrong": None if noise is None else round(noise.wrong * len(cleaned.result.rows)),
        "done": list(cleaned.done),
        "out": str(out),
        "text": "\n".join(clean.summary(cleaned)),
    }


STAGE = Stage(
    name="clean",
    summary="Find the wrong labels in a folder of photos, and write a report to review them in.",
    example="noisyctl clean photos",
    run=run,
    inputs=lambda given, layout, extra: Inputs(
        given["photos"],
        given["out"],
        given["manifest"],
        given["groups"],
        given["encoder"],
        given["consensus"] or "dawid_skene",
        not given["no_model"],
    ),
    options=(
        Option("photos", "folder with a folder for each class", required=True, argument=True),
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
        Option("no_model", "train no model that labels new photos", flag=True),
        Option("out", "folder to write [NAME-clean]"),
    ),
    text=lambda result: result["text"],
)
