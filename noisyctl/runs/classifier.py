"""A classifier that learned a part of the clean labels: whose mistakes semantic noise follows."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from noisyctl import noise
from noisyctl.artifacts import store
from noisyctl.errors import DataError
from noisyctl.nn.inference import evaluating, outputs
from noisyctl.nn.networks import build
from noisyctl.runs.samples import Samples
from noisyctl.runs.tasks import make_task
from noisyctl.runs.train import Training, spec, train_and_publish
from noisyctl.seeds import numpy_stream, stream
from noisyctl.session import Session
from noisyctl.task import Task
from noisyctl.training import warmup

ROWS = 8192  # images that the logistic regression labels at a time
REGULARIZATION = 0.01  # its C: pixels are many and strongly correlated


def class_probabilities(
    images: store.Artifact, truth: store.Artifact, params: Any, session: Session, out: Path
) -> np.ndarray:
    """P(class | image) [n c] by a classifier that learned the clean labels of a share of each class."""
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
    device = session.start()
    samples = Samples.of_images(images)
    every, _ = make_task(samples, device, num_classes=len(truth.attributes["class_names"]))
    index = torch.as_tensor(np.flatnonzero(learned)).to(device)
    y = torch.as_tensor(truth.array("clean_labels")).to(device)[index]
    assert every.images is not None and every.views is not None
    plain = every.views.plain
    task = Task(every.images[index], every.views, every.num_classes, device, labels=y)
    profile = warmup.Params(backbone=params.classifier, width=params.width, networks=1, epochs=params.epochs)
    about = spec(profile, samples, every.num_classes, "linear")
    network = build(about, stream(session.seed, "inject-noise", "init")).to(device)
    training = Training(
        "inject-noise",
        warmup,
        [network],
        task,
        profile,
        inputs={"images": images.digest, "truth": truth.digest},
        recorded=params.model_dump(),
        precision="float32",
        shown_as="classifier",
    )
    fitted = train_and_publish(training, out, session, lambda fitted, origin: None)
    with evaluating(network):
        logits = outputs(lambda x: warmup.predict(fitted.state, x), every.images, plain)
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
