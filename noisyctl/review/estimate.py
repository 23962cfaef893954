"""How long `noisyctl clean` will take on this machine: as fast as it was the last time, or from a few photos.

A run of clean leaves how many seconds each step took per photo in the scratch folder, by encoder and hardware. Where there
is nothing yet, a few photos are decoded and as many images go through the encoder.
"""

import json
import math
import os
import time
from collections.abc import Mapping
from pathlib import Path

import torch

from noisyctl import embedding
from noisyctl.images import scan
from noisyctl.review.clean import SIDE, Found
from noisyctl.runs import record
from noisyctl.session import Session

FILE = Path(record.FOLDER, "clean-speed.json")  # in the scratch folder, which holds folders of ours alone
SAMPLE = 16  # photos that are opened
FEWEST = 50  # photos of a run whose times are kept: of fewer, most of the time is that of starting
JUDGE = 0.003  # seconds a photo: 713 took 3, 20,000 about 60 on one core (docs/results.md)
EXACT = 3e-8  # seconds a pair of photos, of the exact neighbors: 75 for 50,000
MODEL = 0.02  # seconds a photo: 713 took about 10
OTHER = 2.0  # seconds: libraries, weights


def seconds_of(found: Found, due: tuple[str, ...], encoder: str, session: Session) -> tuple[float, str]:
    """About how long the steps `due` will take, and where that is known from."""
    number = len(found.photos)
    if not due:
        return 0.0, ""
    judge = JUDGE * number + EXACT * number**2 if "judge" in due else 0.0
    model = MODEL * number if "model" in due else 0.0
    if (kept := _read(session).get(_key(encoder, session))) is not None and set(due) <= set(kept):
        return OTHER + number * sum(kept[step] for step in due), "as fast as the last time"
    if not {"prepare", "embed"} & set(due):
        return OTHER + judge + model, "without a measurement"
    each = measured(found, encoder if "embed" in due else None, session)
    total = OTHER + judge + model + number * sum(each[step] for step in due if step in each)
    return total, f"measured on {min(SAMPLE, number)} of the photos"


def without_photos(number: int, *, with_model: bool) -> float:
    """About how many seconds so many vectors take."""
    return OTHER + JUDGE * number + EXACT * number**2 + (MODEL * number if with_model else 0.0)


def measured(found: Found, encoder: str | None, session: Session) -> dict[str, float]:
    """Seconds a photo of the steps that open photos, from a few of them, spread over all; without an encoder no `embed`."""
    number = min(SAMPLE, len(found.photos))
    paths = [found.photos[i * len(found.photos) // number].path for i in range(number)]
    start = time.monotonic()
    scan(found.root, paths, SIDE, gray=False)
    decode = (time.monotonic() - start) / number
    if encoder is None:
        return {"prepare": decode, "report": decode}
    device = session.start()
    network = embedding.load(encoder)
    images = torch.zeros((number, network.resize, network.resize, 3), dtype=torch.uint8)
    autocast = torch.bfloat16 if session.precision_on(device) == "bfloat16" else None
    for _ in range(2):  # the first time is slower
        start = time.monotonic()
        list(embedding.features_of(network, images, device, autocast=autocast))
        forward = (time.monotonic() - start) / number
    return {"prepare": decode, "embed": decode + forward, "report": decode}


def keep(number: int, seconds: Mapping[str, float], encoder: str, session: Session) -> None:
    """Keep how fast the steps were for so many photos. A scratch folder that cannot be written is no reason to fail."""
    if number < FEWEST or not seconds:
        return
    held = _read(session)
    own = held.setdefault(_key(encoder, session), {})
    own |= {step: round(took / number, 6) for step, took in seconds.items()}
    path = session.scratch / FILE
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(json.dumps(held, sort_keys=True))
        partial.replace(path)
    except OSError:
        return


def line(seconds: float, source: str) -> str:
    """The estimate for people."""
    return f"This takes {in_words(seconds)} ({source})." if source else "Nothing seems to have changed."


def in_words(seconds: float) -> str:
    """`about 4 minutes`: no more digits than an estimate has."""
    if seconds < 45:
        return "less than a minute"
    if seconds < 90:
        return "about a minute"
    if seconds < 5400:
        return f"about {_round(seconds / 60)} minutes"
    return f"about {_round(seconds / 3600)} hours"


def _round(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0") if value < 3 else f"{math.ceil(value)}"


def _key(encoder: str, session: Session) -> str:
    return f"{encoder}, {session.hardware(session.start())}"


def _read(session: Session) -> dict[str, dict[str, float]]:
    try:
        held = json.loads((session.scratch / FILE).read_text())
        return {str(key): _numbers(each) for key, each in held.items()}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}


def _numbers(each: Mapping[str, object]) -> dict[str, float]:
    return {str(step): float(str(value)) for step, value in each.items()}
