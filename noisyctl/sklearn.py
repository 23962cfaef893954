"""A scikit-learn estimator: a classifier of vectors that is trained by a method which withstands wrong labels.

    from noisyctl.sklearn import RobustClassifier

    model = RobustClassifier("elr", epochs=30).fit(X, y)
    model.predict(X_new)

`fit` is what `noisyctl train-method NAME --input features` is, with the warm-up, the neighbors and the clusters that the
method needs before it: the same functions write the same artifacts, in a folder that is removed afterwards.
"""

import numbers
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.preprocessing import StandardScaler
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from noisyctl import config, methods, profiles
from noisyctl.artifacts import store
from noisyctl.artifacts.kinds import FEATURES, LABELS
from noisyctl.errors import NoisyctlError, ParamsError
from noisyctl.nn import inference
from noisyctl.papers.budgets import Budget
from noisyctl.params import MethodParams
from noisyctl.pretraining import scan
from noisyctl.runs.cluster_scan import cluster
from noisyctl.runs.mine_knn import Params as Neighbors
from noisyctl.runs.mine_knn import mine
from noisyctl.runs.needed import Sources
from noisyctl.runs.reading import read_run
from noisyctl.runs.samples import views_of
from noisyctl.runs.train_method import train
from noisyctl.runs.warmup import Starts, warm_up
from noisyctl.session import Session
from noisyctl.training import warmup

SMALLEST_BATCH, LARGEST_BATCH = 16, 128  # samples in a batch
FEWEST_STEPS = 8  # batches in an epoch, unless they would be smaller than that


class RobustClassifier(ClassifierMixin, BaseEstimator):
    """A network on vectors, trained on labels of which some are wrong.

    Parameters
    ----------
    method : str, default="elr"
        A method by its name in `noisyctl methods`; it must train a network.
    backbone : "linear" or "mlp", default="mlp"
        What the network is: a linear layer, or one hidden layer before it.
    warmup_epochs, epochs : int, default=10 and 30
        Epochs of plain training on all labels, and of the method after them. Where the method's own schedule is longer,
        its other parameters that count epochs shrink with it.
    batch_size : int or None, default=None
        None: an eighth of the samples, but at least 16 and at most 128.
    k : int, default=20
        Neighbors of each sample, for methods that look at them; at most one less than there are samples.
    params : dict or None, default=None
        Further parameters of the method, as `noisyctl train-method NAME --help` lists them.
    random_state : int, RandomState or None, default=0
        The seed. The same seed, data and number of threads give the same model on a CPU.
    device : "cpu", "cuda" or "auto", default="cpu"
    threads : int, default=0
        Threads on a CPU; 0: as many as PyTorch uses.

    Attributes
    ----------
    classes_ : array of the labels, sorted
    n_features_in_ : int
    method_params_ : dict of all parameters that the method had
    """

    def __init__(
        self,
        method: Any = "elr",  # as scikit-learn wants it, nothing is looked at before fit
        *,
        backbone: Any = "mlp",
        warmup_epochs: Any = 10,
        epochs: Any = 30,
        batch_size: Any = None,
        k: Any = 20,
        params: Any = None,
        random_state: Any = 0,
        device: Any = "cpu",
        threads: Any = 0,
    ) -> None:
        self.method = method
        self.backbone = backbone
        self.warmup_epochs = warmup_epochs
        self.epochs = epochs
        self.batch_size = batch_size
        self.k = k
        self.params = params
        self.random_state = random_state
        self.device = device
        self.threads = threads

    def fit(self, X: Any, y: Any) -> "RobustClassifier":
        """Train on vectors X [n d] and their labels y [n], whole numbers or texts.

        Raises ValueError where they are not finite, where lengths differ, where there are fewer than two classes or samples
        of a class, and where a parameter is not such as the method takes.
        """
        X, y = validate_data(self, X, y, dtype=np.float32, ensure_min_samples=4)
        check_classification_targets(y)
        self.classes_, positions = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"all labels are of one class, {self.classes_[0]!r}; give at least two classes")
        seed = self.random_state
        if not isinstance(seed, numbers.Integral):
            seed = check_random_state(seed).randint(2**31 - 1)
        with tempfile.TemporaryDirectory(prefix="noisyctl-") as folder:
            place = Path(folder)
            session = Session(
                self.device,
                "float32",
                threads=self.threads,
                seed=int(seed),
                resumes=False,
                scratch=place / "scratch",
            )
            try:
                networks, self.preprocessing_ = self._trained(X, positions, place, session)
            except NoisyctlError as error:
                raise ValueError(str(error)) from error
        self.networks_ = {name: network.cpu().double() for name, network in networks.items()}
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        """The probability of every class [n c], for vectors X [n d]."""
        check_is_fitted(self, "networks_")
        X = validate_data(self, X, dtype=np.float32, reset=False)
        predict, how = methods.load(self.method).predict, self.preprocessing_
        state = inference.state_of(predict, self.networks_)
        views = views_of(how.views, how.mean, how.std)
        with inference.evaluating(*self.networks_.values()):
            logits = inference.outputs(lambda x: predict(state, x.double()), torch.tensor(X), views.plain)
        found: np.ndarray = logits.softmax(dim=1).numpy()
        return found

    def predict(self, X: Any) -> np.ndarray:
        """The likeliest class of each vector of X [n d]."""
        check_is_fitted(self, "networks_")
        found: np.ndarray = self.classes_[self.predict_proba(X).argmax(axis=1)]
        return found

    def _trained(self, X: np.ndarray, labels: np.ndarray, place: Path, session: Session) -> tuple[Any, Any]:
        """The networks, by name, and how vectors come to them, of a run in the folder `place`."""
        needs = methods.load(self.method).NEEDS
        if not needs.networks:
            raise ParamsError(f"{self.method} trains no network, so it predicts nothing for new samples")
        features, given = place / "features.zarr", place / "labels.zarr"
        ids = np.array([str(row) for row in range(len(X))], np.dtypes.StringDType())
        near = (
            StandardScaler().fit_transform(X).astype(np.float32)
        )  # so that no column alone decides who is near
        arrays = {"features": X, "embeddings": near}
        digest = store.write(features, FEATURES, arrays, params={"dataset": "features"})
        names = [str(name) for name in range(len(self.classes_))]
        noisy = {"noisy_labels": labels.astype(np.int64).reshape(-1), "train_id": ids}
        store.write(given, LABELS, noisy, inputs={"images": digest}, attributes={"class_names": names})
        params = self._params(len(X))
        needs = needs.under(params.model_dump())
        images, neighbors = place / "images.zarr", place / "neighbors.zarr"
        clusters = place / "clusters.safetensors"
        if needs.neighbors or needs.clusters:
            mine(features, neighbors, Neighbors(k=min(self.k, len(X) - 1)), session)
        size = params.model_dump()["batch_size"]
        network: dict[str, Any] = {"backbone": self.backbone}
        if needs.clusters:
            searched = scan.Params(
                **network, num_clusters=len(self.classes_), epochs=self.warmup_epochs, batch_size=size
            )
            cluster(images, place / "encoder", neighbors, place, searched, session, features_path=features)
        profile = profiles.PROFILES["clustered" if needs.clusters else "default"]
        begin = warmup.Params(
            **(network | profile),
            networks=needs.networks,
            epochs=self.warmup_epochs,
            batch_size=size,
        )
        starts = Starts(clusters=clusters)
        warm_up(images, given, place / "warmup", begin, session, starts, features_path=features)
        sources = Sources(given, images, place / "warmup", neighbors, clusters, features=features)
        train(self.method, sources, place / "run", params, session)
        self.method_params_ = params.model_dump()
        networks, header = read_run(place / "run", "fit")
        return networks, header.preprocessing

    def _params(self, number: int) -> MethodParams:
        """The method's parameters for so many samples. Raises ParamsError for one that it does not have."""
        spec = methods.spec_of(self.method)
        given = dict(self.params or {})
        shortened = Budget("", max_epochs=self.epochs).shorten({}, spec)
        size = self.batch_size or min(LARGEST_BATCH, max(SMALLEST_BATCH, number // FEWEST_STEPS))
        values = {**shortened, "epochs": self.epochs, "batch_size": size}
        layers = [config.Layer(values, "fit"), config.Layer(given, "params")]
        found: MethodParams = config.resolve(methods.load(self.method).Params, layers, self.method)[0]
        return found
