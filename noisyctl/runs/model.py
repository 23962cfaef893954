"""A run's model as one PyTorch module: `noisyctl.load_model(RUN)`.

Everything between a decoded image and the probability of each class is inside: the encoder of a run on vectors, the
normalization, the networks, and how a method makes one answer of two networks.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from noisyctl import methods
from noisyctl.errors import DataError
from noisyctl.images import content_of, decode, reason_of
from noisyctl.nn.inference import state_of
from noisyctl.runs.headers import Preprocessing
from noisyctl.runs.predict import MADE_BY, Intake, intake_of, read_model
from noisyctl.runs.reading import read_run
from noisyctl.runs.samples import VECTORS, views_of
from noisyctl.session import Session
from noisyctl.training import warmup


class Model(nn.Module):
    """Images uint8 [b h w ch], or vectors [b d] of a run on vectors of one's own, to probabilities [b c], as `predict`.

    `class_names` [c] name the classes. Images are squares of `image_size` pixels a side with `channels` channels, as `read`
    makes them of files; of a run on vectors of one's own both are None.
    """

    def __init__(
        self, networks: dict[str, Any], method: str, how: Preprocessing, intake: Intake | None
    ) -> None:
        super().__init__()
        self.networks = nn.ModuleDict(networks)
        self.class_names, self.method = list(how.class_names), method
        self.image_size = None if intake is None else intake.size
        self.channels = None if intake is None else intake.channels
        self.encoder: nn.Module | None = intake.encoder[0] if intake and intake.encoder else None
        embed: Callable[[Tensor], Tensor] = lambda vectors: vectors.float()  # noqa: E731
        if intake is not None:
            embed = intake.encoder[1] if intake.encoder else intake.seen
        self._embed, self._views = embed, views_of(how.views, how.mean, how.std)
        self._predict = (warmup if method == "warmup" else methods.load(method)).predict

    def forward(self, images: Tensor) -> Tensor:
        """The probability of each class."""
        state = state_of(self._predict, dict(self.networks.items()))
        logits: Tensor = self._predict(state, self._views.plain(self._embed(images)))
        return logits.float().softmax(dim=1)

    def read(self, paths: Sequence[str | Path]) -> Tensor:
        """Image files as such images: turned by their EXIF tag and scaled. Raises DataError for one that cannot be read."""
        if self.image_size is None:
            raise DataError("this model labels vectors; call it with rows of features")
        mode = "L" if self.channels == 1 else "RGB"
        squares = []
        for path in map(Path, paths):
            try:
                with content_of(path) as content:
                    squares.append(decode(content, self.image_size, mode)[0])
            except Exception as error:
                raise DataError(f"{path} cannot be used: {reason_of(error)}") from error
        pixels = np.stack(squares)
        return torch.from_numpy(pixels if pixels.ndim == 4 else pixels[..., None])


def load_model(run: str | Path, *, weights: str | Path | None = None) -> Model:
    """The model of a run or a warm-up in the folder `run`, in eval mode, on the CPU.

    `weights` is the file of the encoder's weights, where the run is on vectors whose encoder's weights came from one. Raises
    ArtifactError where there is no such run, or where its method trains no network.
    """
    run, cpu = Path(run), torch.device("cpu")
    networks, header = read_run(run, MADE_BY)
    how, intake = header.preprocessing, None
    if not networks or how is None or how.views != VECTORS or how.encoder is not None:
        networks, header, how = read_model(run)
        session = Session(device="cpu", precision="float32")
        intake = intake_of(run, how, cpu, session, None if weights is None else Path(weights))
    return Model(networks, header.method, how, intake).eval()
