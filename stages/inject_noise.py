"""Make noisy labels from clean ones: the only bridge from truth to training."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from noisyctl.artifacts import store
from noisyctl.artifacts.files import Writes
from noisyctl.artifacts.kinds import IMAGES, LABELS, NOISE, TRUTH, VERIFIED
from noisyctl.cli.stage import Option, Stage, modules_in
from noisyctl.errors import ArtifactError, DataError, ParamsError
from noisyctl.layout import Layout
from noisyctl.session import Session

ROWS = 8192  # images that the logistic regression labels at a time
REGULARIZATION = 0.01  # its C: pixels are many and strongly correlated


@dataclass(frozen=True)
class Inputs:
    """`images` are read only by a noise that needs them; `verified_per_class` None writes no verified.zarr."""

    kind: str
    truth: Path
    out: Path
    images: Path | None = None
    verified_per_class: int | None = None

    def beside(self, name: str) -> Path:
        """labels.zarr has NAME.zarr beside it, any other L.zarr has L.NAME.zarr."""
        plain = self.out.name == "labels.zarr"
        return self.out.with_name(f"{name}.zarr" if plain else f"{self.out.stem}.{name}.zarr")


def run(inputs: Inputs, params: Any, session: Session = Session()) -> dict[str, Any]:
    """Write labels and, beside them, the facts about their noise, and the verified labels that were asked for."""
    from noisyctl import noise
    from noisyctl.seeds import numpy_stream

    truth = store.read(inputs.truth, TRUTH)
    if "clean_labels" not in truth:
        raise ArtifactError(
            f"{inputs.truth} has no clean training labels, so no noise can be added; "
            "train on the given labels with --noise given"
        )
    clean, names = truth.array("clean_labels"), truth.attributes["class_names"]
    model = noise.load(inputs.kind)
    num_noisy = noise.num_noisy_classes(model, len(names), params)
    needed = _needed(model.NEEDS, inputs, truth, params, session)
    rng = numpy_stream(session.seed, "inject-noise", inputs.kind)
    noisy = model.corrupt(clean, len(names), params, rng, **needed)
    wrong, matrix = noise.measure(clean, noisy, len(names), num_noisy)
    about = {"inputs": {"images": truth.inputs["images"]}, "attributes": {"class_names": names[:num_noisy]}}
    verified = _verified(inputs, clean, names[:num_noisy], session)
    digest = store.write(inputs.out, LABELS, {"noisy_labels": noisy}, **about)
    if verified:
        store.write(inputs.beside("verified"), VERIFIED, verified, **about)
    recorded, files = _recorded(params)
    facts = {
        "noise": inputs.kind,
        "nominal_rate": recorded.get("rate"),
        "measured_rate": float(wrong.mean()),
        "seed": session.seed,
    }
    store.write(
        inputs.beside("noise"),
        NOISE,
        {"transition_matrix": matrix, "is_mislabeled": wrong},
        params={"kind": inputs.kind, **recorded},
        inputs={"truth": truth.digest, "labels": digest, **files},
        attributes=facts | {"convention": {k: v for k, v in recorded.items() if k not in ("rate", "file")}},
    )
    return facts | {"labels": str(inputs.out)}


def _recorded(params: Any) -> tuple[dict[str, Any], dict[str, str]]:
    """The params as artifacts carry them, and the digest of the file they name: its bytes count, not its place."""
    recorded = params.model_dump()
    if "file" not in recorded:
        return recorded, {}
    path = Path(recorded["file"])
    return recorded | {"file": path.name}, {"file": hashlib.sha256(path.read_bytes()).hexdigest()}


def _verified(
    inputs: Inputs, clean: np.ndarray, names: list[str], session: Session
) -> dict[str, np.ndarray] | None:
    """Some samples of each class with their clean labels. Classes without a label, such as open-set ones, give none."""
    from noisyctl import noise
    from noisyctl.seeds import numpy_stream

    number = inputs.verified_per_class
    if number is None:
        return None
    counts = np.bincount(clean, minlength=len(names))[: len(names)]
    if counts.min() < number:
        raise DataError(
            f"{inputs.truth}: class {names[counts.argmin()]!r} has {counts.min()} training samples, fewer than "
            f"--verified-per-class {number}; give at most {counts.min()}"
        )
    known = np.flatnonzero(clean < len(names))
    picked = noise.pick_per_class(
        clean[known], lambda size: number, numpy_stream(session.seed, "inject-noise", "verified")
    )
    return {"index": known[picked], "verified_labels": clean[known[picked]]}


def _needed(
    needs: tuple[str, ...], inputs: Inputs, truth: store.Artifact, params: Any, session: Session
) -> Mapping[str, Any]:
    """What a noise model takes beside the labels."""
    if not needs:
        return {}
    if inputs.images is None:
        raise ArtifactError(f"noise {inputs.kind!r} needs the images; give --images images.zarr")
    images = store.read(inputs.images, IMAGES)
    store.require_input(truth, "images", images.digest, inputs.images)
    makers = {
        "sample_ids": lambda: images.array("train_id"),
        "sample_paths": lambda: _paths(images),
        "images": lambda: images.array("train"),
        "probabilities": lambda: _probabilities(images, truth, params, session, inputs.out),
    }
    return {name: makers[name]() for name in needs}


def _paths(images: store.Artifact) -> np.ndarray | None:
    """Where the training images lie; None where they come from no files of their own."""
    from noisyctl.runs import training

    place = images.path.with_name("paths.zarr")
    return training.read_paths(place, images).array("train_path") if place.exists() else None


def _probabilities(
    images: store.Artifact, truth: store.Artifact, params: Any, session: Session, out: Path
) -> np.ndarray:
    """P(class | image) [n c] by a classifier that learned the clean labels of a share of each class."""
    from noisyctl import noise
    from noisyctl.seeds import numpy_stream

    clean, num_classes = truth.array("clean_labels"), len(truth.attributes["class_names"])
    learned = noise.pick_per_class(
        clean,
        lambda size: max(1, round(params.clean_share * size)),
        numpy_stream(session.seed, "inject-noise", "learned"),
    )
    if params.classifier == "logistic":
        probabilities = _logistic(images.array("train"), clean, learned, num_classes)
    else:
        probabilities = _network(images, truth, learned, params, session, out)
    _check_learned(probabilities.argmax(axis=1)[~learned], clean[~learned], params)
    return probabilities


def _logistic(pixels: np.ndarray, clean: np.ndarray, learned: np.ndarray, num_classes: int) -> np.ndarray:
    """Multinomial logistic regression on standardized pixels."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    def flat(index: Any) -> np.ndarray:
        block = pixels[index]
        return block.reshape(len(block), -1).astype(np.float32) / 255

    model = make_pipeline(StandardScaler(), LogisticRegression(C=REGULARIZATION, max_iter=1000))
    model.fit(flat(learned), clean[learned])
    probabilities = np.zeros((len(pixels), num_classes))
    for start in range(0, len(pixels), ROWS):
        rows = slice(start, start + ROWS)
        probabilities[rows, model.classes_] = model.predict_proba(flat(rows))
    return probabilities


def _network(
    images: store.Artifact,
    truth: store.Artifact,
    learned: np.ndarray,
    params: Any,
    session: Session,
    out: Path,
) -> np.ndarray:
    """A network of the warm-up, trained as it: cross-entropy, weak views, constant learning rate.

    In float32 whatever the precision asked for: labels are data, and shall not hang on a processor's units.
    """
    import torch

    from noisyctl.nn.inference import evaluating, outputs
    from noisyctl.nn.networks import build
    from noisyctl.runs import training
    from noisyctl.seeds import stream
    from noisyctl.task import Task
    from noisyctl.training import warmup
    from noisyctl.training.loop import fit
    from noisyctl.training.scratch import hold

    device = session.start()
    every, _ = training.make_task(images, device, num_classes=len(truth.attributes["class_names"]))
    index = torch.as_tensor(np.flatnonzero(learned)).to(device)
    y = torch.as_tensor(truth.array("clean_labels")).to(device)[index]
    assert every.images is not None and every.views is not None
    task = Task(every.images[index], every.views, every.num_classes, device, labels=y)
    profile = warmup.Params(backbone=params.classifier, width=params.width, networks=1, epochs=params.epochs)
    spec = training.spec(profile, images, every.num_classes, "linear")
    network = build(spec, stream(session.seed, "inject-noise", "init")).to(device)
    recorded = params.model_dump() | {"seed": session.seed, "threads": torch.get_num_threads()}
    made_from = {"images": images.digest, "truth": truth.digest}
    facts = {"params": recorded, "inputs": made_from, **session.numerics(device, "float32")}
    with hold(session.scratch, "inject-noise", facts, out) as scratch:
        fitted = fit(
            warmup,
            [network],
            task,
            profile,
            name="inject-noise",
            epochs=params.epochs,
            seed=session.seed,
            scratch=scratch,
            report=session.report("classifier"),
        )
    with evaluating(network):
        logits = outputs(lambda x: warmup.predict(fitted.state, x), every.images, every.views.plain)
    return logits.double().softmax(dim=1).cpu().numpy()


def _check_learned(predicted: np.ndarray, clean: np.ndarray, params: Any) -> None:
    """Raise DataError where predictions on the other images are not clearly better than the largest class."""
    chance = np.bincount(clean).max() / len(clean)
    accuracy = (predicted == clean).mean()
    if accuracy <= chance + 3 * np.sqrt(chance * (1 - chance) / len(clean)):
        raise DataError(
            f"the classifier {params.classifier!r} learned nothing: trained on {params.clean_share:.0%} of the images it is "
            f"right on {accuracy:.1%} of the others, chance is {chance:.1%}; "
            "raise clean_share or epochs, or choose another classifier"
        )


def _inputs(given: Mapping[str, Any], layout: Layout, extra: Mapping[str, Any]) -> Inputs:
    from noisyctl import noise

    images = given["images"] if noise.load(extra["kind"]).NEEDS else None
    number = given["verified_per_class"]
    if number is not None and not (str(number).isdecimal() and int(str(number)) > 0):
        raise ParamsError(f"--verified-per-class is {str(number)!r}; give a whole number from 1 on")
    verified = None if number is None else int(str(number))
    return Inputs(extra["kind"], given["truth"], given["out"], images, verified)


def _writes(out: Path) -> Writes:
    """The labels, and beside them the facts about their noise and the verified labels."""
    at = Inputs("", Path(), out)
    kinds = {out: LABELS, at.beside("noise"): NOISE, at.beside("verified"): VERIFIED}
    return Writes({path: store.Form(kind) for path, kind in kinds.items()})


STAGE = Stage(
    name="inject-noise",
    summary="Make noisy labels from clean ones.",
    example="noisyctl inject-noise --kind symmetric --rate 0.4 --exclude-true-class --seed 0 --out L.zarr",
    run=run,
    inputs=_inputs,
    options=(
        Option("kind", "noise model; without it, the block --noise of params.yaml", metavar="name"),
        Option("truth", "truth.zarr", lambda layout: layout.home / "truth.zarr"),
        Option("images", "images.zarr, where the noise needs it", lambda layout: layout.home / "images.zarr"),
        Option("out", "labels to write", lambda layout: layout.labels, writes=_writes),
        Option(
            "verified_per_class",
            "also write verified.zarr: so many samples a class with clean labels",
            metavar="int",
        ),
    ),
    fields=modules_in("noisyctl.noise"),
)
