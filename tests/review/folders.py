"""A result of clean for tests: drawn photos, a list of them, and the folder in which both are found."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from noisyctl.artifacts import label_list
from noisyctl.artifacts.label_list import LabelList
from noisyctl.review import result
from noisyctl.review.result import Listed, Neighbor, Noise

CLASSES = ("dress", "hat", "shirt")
COLORS = {"dress": (150, 60, 90), "hat": (60, 110, 150), "shirt": (90, 140, 70)}
OPINIONS = ("knn", "lda", "kernel_ridge")


def photo(path: Path, color: Sequence[int], seed: int) -> str:
    """Draw a photo that no other seed draws; its id, as of folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((48, 36, 3), color, np.uint8)
    pixels[:8, :8] = np.random.default_rng(seed).integers(0, 256, (8, 8, 3))
    Image.fromarray(pixels).save(path, "PNG")
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def rows(root: Path, number: int, classes: Sequence[str] = CLASSES, *, pictures: bool = True) -> list[Listed]:
    """A list of drawn photos, every fourth of which carries the next class's label; the first two wrong ones are copies."""
    rng = np.random.default_rng(5)
    found = []
    for k in range(number):
        true, given = classes[k % len(classes)], classes[(k + (k % 4 == 0)) % len(classes)]
        path = f"{given.replace('/', '_')}/photo {k:05}.png"
        color = COLORS.get(true, (120, 120, 120))
        id_ = photo(root / path, color, k) if pictures else f"{k:016x}"
        wrong = true != given
        p = float(rng.uniform(0, 0.45) if wrong else rng.uniform(0.55, 1))
        found.append((id_, path, given, true, p, "relabel" if wrong else "keep"))
    found.sort(key=lambda row: row[4])
    ids = [row[0] for row in found]
    return [
        Listed(
            id=id_,
            path=path,
            given=given,
            suggested=true,
            clean_probability=round(p, 6),
            verdict=verdict,
            rank=rank,
            opinions={name: round((p + 0.2 * v) % 1, 6) for v, name in enumerate(OPINIONS)},
            neighbors=tuple(
                Neighbor(ids[(rank + j) % number], found[(rank + j) % number][2]) for j in range(5)
            ),
            duplicate_of=ids[0] if rank == 2 else "",
        )
        for rank, (id_, path, given, true, p, verdict) in enumerate(found, start=1)
    ]


def as_list(listed: Sequence[Listed]) -> LabelList:
    def texts(values: Iterable[str]) -> np.ndarray:
        return np.array(list(values), np.dtypes.StringDType())

    return LabelList(
        ids=texts(row.id for row in listed),
        paths=texts(row.path for row in listed),
        given=texts(row.given for row in listed),
        suggested=texts(row.suggested for row in listed),
        clean_probability=np.array([row.clean_probability for row in listed]),
        verdict=texts(row.verdict for row in listed),
        rank=np.array([row.rank for row in listed]),
        opinions={name: np.array([row.opinions[name] for row in listed]) for name in listed[0].opinions},
        neighbors=tuple(tuple((near.id, near.label) for near in row.neighbors) for row in listed),
        duplicate_of=texts(row.duplicate_of for row in listed),
        group=texts(row.group for row in listed),
    )


def write(
    out: Path,
    root: Path,
    listed: Sequence[Listed],
    classes: Sequence[str] = CLASSES,
    noise: Noise | None = Noise(0.25, 0.2, 0.31),
    *,
    splits: Mapping[str, Sequence[str]] | None = None,
) -> Path:
    """Write the result's folder as clean does."""
    out.mkdir(parents=True, exist_ok=True)
    labels = as_list(listed)
    label_list.write(out, labels)
    about = result.as_about(labels, out, root, classes, noise=noise, splits=splits)
    (out / result.ABOUT).write_text(about, encoding="utf-8")
    return out


def make(folder: Path, number: int = 24, *, pictures: bool = True) -> result.Result:
    """A result of so many photos in `folder`/out, with the photos in `folder`/photos."""
    root = folder / "photos"
    root.mkdir(parents=True, exist_ok=True)
    return result.read(write(folder / "out", root, rows(root, number, pictures=pictures)))


def tree(folder: Path) -> Mapping[str, str]:
    """Every file, link and folder below `folder`, with its content."""
    return {
        p.relative_to(folder).as_posix(): str(p.readlink())
        if p.is_symlink()
        else ("folder" if p.is_dir() else hashlib.sha256(p.read_bytes()).hexdigest())
        for p in sorted(folder.rglob("*"))
    }
