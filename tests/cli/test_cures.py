"""A cure is the exact command for what the user had chosen."""

from pathlib import Path

import pytest

from noisyctl.cli.cures import Chosen, complete

PHOTOS = {"dataset": "photos", "seed": "3"}


@pytest.mark.parametrize(
    ("text", "chosen", "expected"),
    [
        ("run `noisyctl warmup` first", Chosen({}), "run `noisyctl warmup` first"),
        ("`noisyctl warmup`", Chosen(PHOTOS), "`noisyctl warmup --dataset photos --seed 3`"),
        (
            "`noisyctl warmup --profile own`, then `noisyctl mine-knn`",
            Chosen(PHOTOS | {"noise": "sym40"}, noise="sym40"),
            "`noisyctl warmup --profile own --dataset photos --noise sym40 --seed 3`, "
            "then `noisyctl mine-knn --dataset photos --seed 3`",
        ),
        (
            "`noisyctl inject-noise`",
            Chosen({"noise": "sym40"}, noise="sym40"),
            "`noisyctl inject-noise --noise sym40`",
        ),
        (
            "`noisyctl inject-noise`",
            Chosen({"dataset": "photos"}),
            "`noisyctl prepare-data --dataset photos`",
        ),
        ("`noisyctl pretrain-simclr`", Chosen({}, pretrain="moco"), "`noisyctl pretrain-moco`"),
        (
            "`noisyctl prepare-data`",
            Chosen({"dataset": "photos"}, kind="folder", home=Path("data/photos")),
            "`noisyctl prepare-data --dataset folder --root FOLDER --out data/photos`",
        ),
        (
            "`noisyctl mine-knn`",
            Chosen({"params_file": "p q.yaml"}, {"neighbors": Path("n.zarr"), "labels": Path("l.zarr")}),
            "`noisyctl mine-knn --out n.zarr --params-file 'p q.yaml'`",
        ),
        (
            "`noisyctl warmup`",
            Chosen({}, {"images": Path("i.zarr"), "labels": Path("l.zarr"), "warmup": Path("w")}),
            "`noisyctl warmup --images i.zarr --labels l.zarr --out w`",
        ),
        (
            "`noisyctl cluster-scan`",
            Chosen({}, {"clusters": Path("c/clusters.safetensors"), "images": Path("i.zarr")}),
            "`noisyctl cluster-scan --images i.zarr --out c`",
        ),
        (
            "`noisyctl train-method elr --seed 1`",
            Chosen(PHOTOS),
            "`noisyctl train-method elr --seed 1 --dataset photos`",
        ),
        (
            "`noisyctl pretrain-simclr --out a && noisyctl mine-knn --out b`",
            Chosen(PHOTOS),
            "`noisyctl pretrain-simclr --out a && noisyctl mine-knn --out b`",
        ),
        ("see `noisyctl doctor`, or `dvc init`", Chosen(PHOTOS), "see `noisyctl doctor`, or `dvc init`"),
    ],
)
def test_commands_are_completed_by_what_was_chosen(text: str, chosen: Chosen, expected: str) -> None:
    assert complete(text, chosen) == expected


def test_noise_is_added_where_there_are_clean_labels(tmp_path: Path) -> None:
    (tmp_path / "truth.zarr/clean_labels").mkdir(parents=True)
    assert (
        complete("`noisyctl inject-noise`", Chosen({}, home=tmp_path))
        == "`noisyctl inject-noise --noise NAME`"
    )
