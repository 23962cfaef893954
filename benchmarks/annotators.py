r"""How right one label is that is made of several people's, beside each of them alone: CIFAR-10N's three annotations.

    python benchmarks/annotators.py --labels cifar-n-labels.npz --out benchmarks/results/annotators
    python benchmarks/annotators.py --labels cifar-n-labels.npz --pixels cifar10-jpeg.npz --samples 20000 \
        --out benchmarks/results/annotators_list

The three labels of an image are those of three of several hundred workers; which of them gave which is not published, so
that an "annotator" here is a column and a mixture of people. Without --pixels votes alone are compared, on all 50,000
images. With --pixels the list of wrong consensus labels is judged too, on the first images, with the features of
`noisyctl embed` (160 pixels, kept in --cache): once by the consensus alone, and once with the votes as evidence.
"""

import argparse
import time
from pathlib import Path

import numpy as np
from list_quality import calibration_error, cifar_pixels, embedded
from sklearn.metrics import average_precision_score, roc_auc_score

from noisyctl.opinions import judge
from noisyctl.parts import consensus
from noisyctl.parts.consensus import Votes

COLUMNS = ("random1", "random2", "random3")


def votes_of(labels: list[np.ndarray]) -> Votes:
    n, a = len(labels[0]), len(labels)
    sample, annotator = np.tile(np.arange(n), a), np.repeat(np.arange(a), n)
    return Votes(sample, annotator, np.concatenate(labels), n, a, 10)


def by_votes(labels: list[np.ndarray], true: np.ndarray, aggregate: np.ndarray) -> list[str]:
    """Accuracies, and what is said of each annotator."""
    votes = votes_of(labels)
    by_majority, tied = consensus.majority(votes)
    start = time.process_time()
    fit = consensus.dawid_skene(votes)
    seconds = time.process_time() - start
    told = consensus.quality(votes, fit.posterior)
    pair = consensus.dawid_skene(votes_of(labels[:2]))
    lines = [
        f"{len(true)} images, {tied.sum()} of them ({tied.mean():.1%}) with three different labels; EM took {seconds:.1f} "
        "CPU s.",
        "",
        "| labels | right | right where all three differ |",
        "|---|---|---|",
    ]
    named = dict(zip(COLUMNS, labels, strict=True))
    named |= {"aggre, as published (majority, ties drawn)": aggregate, "majority": by_majority}
    named |= {"Dawid-Skene of random1 and random2": pair.labels, "Dawid-Skene": fit.labels}
    for name, own in named.items():
        lines.append(f"| {name} | {(own == true).mean():.4f} | {(own == true)[tied].mean():.3f} |")
    lines += ["", "| annotator | right | estimated by the votes alone | 95 % interval |", "|---|---|---|---|"]
    for a, own in enumerate(labels):
        interval = f"{told.low[a]:.3f} to {told.high[a]:.3f}"
        lines.append(f"| {COLUMNS[a]} | {(own == true).mean():.4f} | {told.right[a]:.4f} | {interval} |")
    return lines


def simulated_intervals(seeds: int = 40) -> list[str]:
    """How often the 95 % intervals hold the truth where people err independently: 12 of them, 713 samples, 3 labels each."""
    held, misfit = {}, consensus.MISFIT
    for share in (misfit, 0.0):
        consensus.MISFIT, held[share] = share, 0
        for seed in range(seeds):
            rng = np.random.default_rng(seed)
            true, accuracy = rng.integers(0, 10, 713), rng.uniform(0.5, 0.95, 12)
            who = np.stack([rng.choice(12, 3, replace=False) for _ in true])
            wrong = (true[:, None] + rng.integers(1, 10, who.shape)) % 10
            said = np.where(rng.random(who.shape) < accuracy[who], true[:, None], wrong)
            votes = Votes(np.repeat(np.arange(713), 3), who.ravel(), said.ravel(), 713, 12, 10)
            told = consensus.quality(votes, consensus.dawid_skene(votes).posterior)
            held[share] += int(((told.low <= accuracy) & (accuracy <= told.high)).sum())
    consensus.MISFIT = misfit
    return [
        "",
        f"Simulated people who err independently: {held[misfit]} of {12 * seeds} intervals hold the true accuracy, "
        f"{held[0.0]} without the allowance for the model.",
    ]


def with_features(labels: list[np.ndarray], true: np.ndarray, features: np.ndarray) -> list[str]:
    """The list of wrong labels by the consensus alone, and with the votes; and the labels that come out of it."""
    votes, n = votes_of(labels), len(true)
    ids = np.array([f"{i:016x}" for i in range(n)], np.dtypes.StringDType())
    lines = [
        f"The first {n} images, with features.",
        "",
        "| consensus | evidence | right before | right after the suggestions below 0.5 | AP | AUC | calibration error"
        " | estimated / true number wrong |",
        "|---|---|---|---|---|---|---|---|",
    ]
    told = None
    rules = {"majority": consensus.majority(votes)[0], "Dawid-Skene": consensus.dawid_skene(votes).labels}
    for rule, given in rules.items():
        for people in (None, votes):
            rng = np.random.default_rng(1)
            found = judge(features, given, tuple("0123456789"), ids, ids, None, rng, people=people)
            wrong, clean = given != true, found.clean_probability
            after = np.where(clean < 0.5, found.runner_up, given)
            cells = [rule, "features" if people is None else "features and votes", f"{(~wrong).mean():.4f}"]
            cells += [f"{(after == true).mean():.4f}", f"{average_precision_score(wrong, -found.rank):.3f}"]
            cells += [f"{roc_auc_score(wrong, -found.rank):.3f}", f"{calibration_error(clean, ~wrong):.3f}"]
            cells += [f"{found.number_wrong.value / wrong.sum():.2f}"]
            lines.append("| " + " | ".join(cells) + " |")
            told = found.annotators or told
    lines += ["", "| annotator | right | estimated with features | 95 % interval |", "|---|---|---|---|"]
    assert told is not None
    for a, own in enumerate(labels):
        interval = f"{told.low[a]:.3f} to {told.high[a]:.3f}"
        lines.append(f"| {COLUMNS[a]} | {(own == true).mean():.4f} | {told.right[a]:.4f} | {interval} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--labels", type=Path, required=True)
    parser.add_argument("--pixels", type=Path)
    parser.add_argument("--samples", type=int, default=20_000)
    parser.add_argument("--cache", type=Path, default=Path("/tmp/list_quality"))
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    stored = np.load(options.labels)
    number = None if options.pixels is None else options.samples
    true, aggregate = (stored[f"c10_{name}"][:number].astype(np.int64) for name in ("clean", "aggre"))
    labels = [stored[f"c10_{name}"][:number].astype(np.int64) for name in COLUMNS]
    lines = [*by_votes(labels, true, aggregate), *simulated_intervals()]
    if options.pixels is not None:
        pixels = cifar_pixels(options.pixels, options.samples)
        features = embedded(pixels, options.cache / "cifar10-160.npy", 160)
        lines += ["", *with_features(labels, true, features)]
    options.out.with_suffix(".md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
