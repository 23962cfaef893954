"""A robust model on the photos' features: what `clean` leaves beside the list, so that `predict` can label new photos.

It is trained on the labels as they are, by a method that withstands wrong ones, on the features of the list:
seconds for a thousand photos. After `apply`, `clean` on the cleaned manifest makes the same model on the corrected labels.
"""

from pathlib import Path

from noisyctl import methods
from noisyctl.artifacts import store
from noisyctl.artifacts.kinds import FEATURES, LABELS, TRACE
from noisyctl.errors import NoisyctlError
from noisyctl.runs.needed import Sources
from noisyctl.runs.reading import read_run
from noisyctl.runs.train_method import train
from noisyctl.runs.warmup import warm_up
from noisyctl.session import Session
from noisyctl.training import warmup

METHOD = (
    "smp"  # of eight methods the best on 341 photos with planted noise: benchmarks/results/photo_models.md
)
WARMUP_EPOCHS, EPOCHS = 10, 30
LARGEST_BATCH, FEWEST_STEPS = 128, 8  # photos in a batch, and batches in an epoch where there are few photos


def is_due(work: Path, out: Path, seed: int) -> bool:
    """Whether no model lies at `out` that was trained on these very features and labels with this seed."""
    features, labels = store.read(work / "features.zarr", FEATURES), store.read(work / "labels.zarr", LABELS)
    return not _is_of(out, features.digest, labels.digest, seed)


def write(work: Path, out: Path, session: Session) -> None:
    """Train the model on features and labels of the folder `work` and write it to the folder `out`."""
    features, labels = store.read(work / "features.zarr", FEATURES), store.read(work / "labels.zarr", LABELS)
    number = len(labels.array("noisy_labels"))
    batch_size = max(2, min(LARGEST_BATCH, number // FEWEST_STEPS))
    begin = warmup.Params(backbone="linear", networks=1, epochs=WARMUP_EPOCHS, batch_size=batch_size)
    places = work / "images.zarr", work / "labels.zarr"
    warm_up(*places, work / "warmup", begin, session, features_path=features.path)
    sources = Sources(labels.path, work / "images.zarr", work / "warmup", features=features.path)
    train(METHOD, sources, out, methods.load(METHOD).Params(epochs=EPOCHS, batch_size=batch_size), session)


def _is_of(out: Path, features: str, labels: str, seed: int) -> bool:
    """Whether a whole run lies at `out` that was trained on these features and labels."""
    try:
        read_run(out, "noisyctl clean")
        trace = store.read(out / "trace.zarr", TRACE)
    except NoisyctlError:
        return False
    return (
        trace.inputs.get("features") == features
        and trace.inputs.get("labels") == labels
        and trace.attributes["params"].get("seed") == seed
        and trace.attributes.get("method") == METHOD
    )
