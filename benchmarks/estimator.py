"""`RobustClassifier` beside LogisticRegression and cleanlab's CleanLearning, on vectors with planted wrong labels.

    python benchmarks/estimator.py --seeds 3 --out benchmarks/results/estimator.json
    python benchmarks/estimator.py --embeddings FOLDER --noise 0.4 --seeds 3 --out more.json
    python benchmarks/estimator.py --publish benchmarks/results/estimator.md --out benchmarks/results/estimator.json

Data: three of scikit-learn's own sets (digits, wine, breast cancer; half of the samples are for the test), and on demand the
features.zarr and truth.zarr of a data set with test images, in FOLDER/ENCODER and FOLDER. A share of the training labels
is replaced by another class, drawn at random. Every classifier sees standardized features and has its own defaults; the
test labels are right. What is measured is the accuracy on the test samples and the seconds of `fit`.
"""

import argparse
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from sklearn import datasets
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from tabulate import tabulate

from noisyctl.sklearn import RobustClassifier

OWN = {
    "digits": datasets.load_digits,
    "wine": datasets.load_wine,
    "breast cancer": datasets.load_breast_cancer,
}
METHODS = ("elr", "smp", "dividemix", "two_stage", "jo_src", "mixnn", "scanmix", "cross_entropy")


def of_embeddings(folder: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Features and clean labels of the training and the test images of a prepared data set that was embedded."""
    import zarr

    features = zarr.open(folder / "efficientnet_lite0/features.zarr", mode="r")
    truth = zarr.open(folder / "truth.zarr", mode="r")
    names = ("features", "test_features")
    X, test = (np.asarray(features[name]) for name in names)
    return X, test, np.asarray(truth["clean_labels"]), np.asarray(truth["test_labels"])


def split(name: str, folder: Path | None, seed: int) -> tuple[np.ndarray, ...]:
    """Training and test vectors, and their labels."""
    if folder is not None:
        return of_embeddings(folder)
    X, y = OWN[name](return_X_y=True)
    return tuple(train_test_split(X, y, test_size=0.5, random_state=seed, stratify=y))


def with_wrong_labels(y: np.ndarray, share: float, seed: int) -> np.ndarray:
    """A copy of which a share, drawn at random, has another class, each one as likely."""
    rng = np.random.default_rng(seed)
    wrong = rng.permutation(len(y))[: round(share * len(y))]
    noisy, classes = y.copy(), len(np.unique(y))
    noisy[wrong] = (noisy[wrong] + rng.integers(1, classes, len(wrong))) % classes
    return noisy


def classifiers(methods: list[str], seed: int) -> dict[str, Any]:
    """What is compared, by name."""
    plain = lambda: make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))  # noqa: E731
    found: dict[str, Any] = {"LogisticRegression": plain()}
    try:
        from cleanlab.classification import CleanLearning

        found["CleanLearning"] = CleanLearning(plain(), seed=seed)
    except ModuleNotFoundError:
        print('without cleanlab, which `pip install "noisyctl[compare]"` brings', file=sys.stderr)
    return found | {f"RobustClassifier {name}": RobustClassifier(name, random_state=seed) for name in methods}


def measure(data: str, folder: Path | None, share: float, seed: int, methods: list[str], known: Any) -> None:
    """Fit and score every classifier that is not known yet, and write down what came out."""
    X, test, y, truth = split(data, folder, seed)
    noisy = with_wrong_labels(y, share, seed)
    for name, model in classifiers(methods, seed).items():
        key = f"{data}/{share}/{name}/{seed}"
        if key in known:
            continue
        begun = time.perf_counter()
        model.fit(X, noisy)
        seconds = time.perf_counter() - begun
        known[key] = {"accuracy": float(model.score(test, truth)), "seconds": round(seconds, 2)}
        print(key, known[key], file=sys.stderr, flush=True)


def summed_up(known: dict[str, Any]) -> str:
    """A table for each data set and noise: classifiers by accuracy."""
    lines = [
        "# RobustClassifier beside other classifiers",
        "",
        "Made by `python benchmarks/estimator.py`. Test accuracy.",
    ]
    for place in dict.fromkeys(tuple(key.split("/")[:2]) for key in known):
        rows = []
        for name in dict.fromkeys(key.split("/")[2] for key in known):
            runs = [v for k, v in known.items() if k.startswith("/".join([*place, name]) + "/")]
            if not runs:
                continue
            told = [100 * run["accuracy"] for run in runs]
            spread = f" ± {statistics.stdev(told):.2f}" if len(told) > 1 else ""
            took = statistics.fmean(run["seconds"] for run in runs)
            rows.append(
                (
                    statistics.fmean(told),
                    [name, f"{statistics.fmean(told):.2f}{spread}", len(runs), f"{took:.1f}"],
                )
            )
        table = [row for _, row in sorted(rows, key=lambda row: -row[0])]
        head = ["classifier", "accuracy", "seeds", "seconds of fit"]
        lines += [
            "",
            f"## {place[0]}, {float(place[1]):.0%} wrong labels",
            "",
            tabulate(table, head, "github"),
        ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--embeddings", type=Path, help="folder of a prepared data set that was embedded")
    parser.add_argument("--noise", type=float, default=0.4, help="share of wrong training labels [0.4]")
    parser.add_argument("--seeds", type=int, default=1, help="seeds 0, 1, ... [1]")
    parser.add_argument("--method", action="append", help="only these methods, repeatable")
    parser.add_argument(
        "--out", type=Path, default=Path("estimator.json"), help="file with what was measured"
    )
    parser.add_argument(
        "--publish", type=Path, help="write the tables of `--out` to this file, and run nothing"
    )
    given = parser.parse_args()
    known: dict[str, Any] = json.loads(given.out.read_text()) if given.out.exists() else {}
    if given.publish:
        given.publish.write_text(summed_up(known))
        return
    for data in OWN if given.embeddings is None else [given.embeddings.name]:
        for seed in range(given.seeds):
            measure(data, given.embeddings, given.noise, seed, given.method or list(METHODS), known)
            given.out.write_text(json.dumps(known, indent=1) + "\n")


if __name__ == "__main__":
    main()
