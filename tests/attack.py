"""Attacks on every command that writes: `python tests/attack.py` (or `make attack`) runs them and prints what came of them.

One process imports everything and forks each trial. A trial makes a small folder, runs a command under a fault, looks at
what is there, and runs the command again without one. What must hold in every trial:

- After a kill every artifact is the old or the new one, byte for byte, and the same command then gives exactly the bytes of
  one that was never disturbed. The same after a full disk, a second process, an input that vanished.
- Whatever a fault makes a command say is one line that begins with `error: `. A traceback is a failure.
- A flipped byte is refused in such a line, or is of no value: the output has the same bytes as without it. Another output
  is a silent error.
- Files that noisyctl did not write, beside and below the output, and all inputs stay as they were.
"""

import argparse
import contextlib
import importlib
import itertools
import json
import os
import random
import resource
import select
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE), str(HERE / "stages")]

import faults  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402

LIMIT = 300.0  # seconds that a trial may take
PAGE = 4096  # a file system in memory gives space by pages
FOREIGN = {"notes.txt": b"mine\n", ".labels.zarr.partial-abc": b"mine too\n"}
LEFT_OUT = (  # of a sample: second forms of commands, and what takes longest
    "clean",
    "clean (other labels)",
    "train-method dividemix",
    "export --model onnx",
    "inject-noise (semantic)",
    "warmup (images in files)",
)
COMMON = ("--device", "cpu", "--threads", "1", "--json")
NETWORK = ("--backbone", "small_cnn", "--width", "4", "--batch-size", "32")


@dataclass(frozen=True)
class Stage:
    """A command and where its output lies: `words` make the output, `older` another one that it replaces.

    `places` are the artifacts that it writes, below `out`; `shared` says that `out` is a folder that may hold other files.
    `inputs` are the artifacts that it reads, below the folder of the small pipeline. `bare` are inputs that carry no digest,
    such as a manifest: they are deleted, but no bit of them is changed. `trains` is set where unfinished work lies in the
    scratch folder. `inner` are folders in `out` whose files are outputs of their own, and `notes` files that tell when and
    of what they were made, and are not compared. `removes` says that the command takes away what `older` wrote.
    """

    name: str
    words: tuple[str, ...]
    older: tuple[str, ...]
    out: str
    inputs: tuple[str, ...] = ()
    shared: bool = False
    trains: bool = False
    bare: tuple[str, ...] = ()
    inner: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    removes: bool = False

    @property
    def modes(self) -> tuple[str, ...]:
        """What lies at `out` before: the older output, or nothing."""
        return ("replace",) if self.removes else ("replace", "new")

    def artifacts(self, out: Path) -> dict[str, dict[str, bytes]]:
        """What is published below `out`, by name; hidden files, foreign ones and notes are not."""
        found, folders = {}, [out] if out.is_dir() else []
        for folder in folders:
            for path in folder.iterdir():
                name = path.relative_to(out).as_posix()
                if path.name.startswith(".") or path.name in FOREIGN or name in self.notes:
                    continue
                if name in self.inner:
                    folders.append(path)
                else:
                    found[name] = bytes_of(path)
        return found


def stages(at: Path) -> list[Stage]:
    """Every command that writes, on a small pipeline that lies at `at`."""
    images, labels = ("--images", f"{at}/images.zarr"), ("--labels", f"{at}/labels.zarr")
    encoder = ("--encoder", f"{at}/simclr/encoder.safetensors")
    neighbors = ("--neighbors", f"{at}/neighbors.zarr")
    two, one = ("--epochs", "2"), ("--epochs", "1")
    photos = ("prepare-data", "--dataset", "folder", "--image-size", "8", "--root", f"{at}/photos")
    checked = ("--truth-manifest", f"{at}/right.csv", "--verified-manifest", f"{at}/checked.csv")
    noise = ("inject-noise", "--truth", f"{at}/truth.zarr", "--kind")
    network = ("--classifier", "small_cnn", "--width", "8", "--epochs", "10")
    pretrain = (*images, *NETWORK, "--embedding-size", "8")
    warm = ("warmup", *images, *labels, *NETWORK)
    on_files = (
        "warmup",
        "--images",
        f"{at}/kept/images.zarr",
        "--labels",
        f"{at}/kept/labels.zarr",
        *NETWORK,
    )
    train = (*images, *labels, "--warmup", f"{at}/warmup", "--batch-size", "32")
    vote = ("train-method", "knn_vote", *images, *labels, *neighbors)
    judge = ("evaluate", "--truth", f"{at}/truth.zarr", "--noise-facts", f"{at}/noise.zarr")
    judge = (*judge, "--images", f"{at}/images.zarr", "--run")
    label = ("predict", "--root", f"{at}/photos", "--run")
    return [
        Stage("prepare-data", photos, (*photos, *checked, "--keep", "files"), "out", shared=True),
        Stage(
            "inject-noise",
            (*noise, "symmetric", "--rate", "0.4", "--exclude-true-class", "--verified-per-class", "2"),
            (*noise, "pairflip", "--rate", "0.2"),
            "out/labels.zarr",
            ("truth.zarr",),
        ),
        Stage(
            "inject-noise (semantic)",
            (*noise, "semantic", *images, "--rate", "0.3", "--clean-share", "0.5", *network),
            (*noise, "pairflip", "--rate", "0.2"),
            "out/labels.zarr",
            ("truth.zarr", "images.zarr"),
            trains=True,
        ),
        Stage(
            "pretrain-simclr",
            ("pretrain-simclr", *pretrain, *two),
            ("pretrain-simclr", *pretrain, *one),
            "out",
            ("images.zarr",),
            shared=True,
            trains=True,
        ),
        Stage(
            "pretrain-moco",
            ("pretrain-moco", *pretrain, *two, "--queue-size", "64"),
            ("pretrain-moco", *pretrain, *one, "--queue-size", "64"),
            "out",
            ("images.zarr",),
            shared=True,
            trains=True,
        ),
        Stage(
            "embed",
            ("embed", *images, "--image-size", "32"),
            ("embed", *images, "--image-size", "40"),
            "out/features.zarr",
            ("images.zarr",),
            trains=True,
        ),
        Stage(
            "mine-knn",
            ("mine-knn", "--features", f"{at}/simclr/features.zarr", "--k", "5"),
            ("mine-knn", "--features", f"{at}/simclr/features.zarr", "--k", "4"),
            "out/neighbors.zarr",
            ("simclr/features.zarr",),
            trains=True,
        ),
        Stage(
            "cluster-scan",
            ("cluster-scan", *images, *encoder, *neighbors, "--batch-size", "32", *two),
            ("cluster-scan", *images, *encoder, *neighbors, "--batch-size", "32", *one),
            "out",
            ("images.zarr", "simclr/encoder.safetensors", "neighbors.zarr"),
            shared=True,
            trains=True,
        ),
        Stage(
            "warmup",
            (*warm, *two),
            (*warm, *one),
            "out",
            ("images.zarr", "labels.zarr"),
            shared=True,
            trains=True,
        ),
        Stage(
            "warmup (images in files)",
            (*on_files, *two, "--networks", "1"),
            (*on_files, *one),
            "out",
            ("kept/images.zarr", "kept/labels.zarr", "photos"),
            shared=True,
            trains=True,
        ),
        Stage(
            "train-method cross_entropy",
            ("train-method", "cross_entropy", *train, *two),
            ("train-method", "cross_entropy", *train, *one),
            "out",
            ("images.zarr", "labels.zarr", "warmup"),
            shared=True,
            trains=True,
        ),
        Stage(
            "train-method dividemix",
            ("train-method", "dividemix", *train, *two),
            ("train-method", "dividemix", *train, *one),
            "out",
            ("images.zarr", "labels.zarr", "warmup"),
            shared=True,
            trains=True,
        ),
        Stage(
            "train-method knn_vote",
            vote,
            (*vote, "--seed", "1"),
            "out",
            ("images.zarr", "labels.zarr", "neighbors.zarr"),
            shared=True,
            trains=True,
        ),
        Stage(
            "evaluate",
            (*judge, f"{at}/runs/vote"),
            (*judge, f"{at}/runs/ce"),
            "out/results",
            ("truth.zarr", "noise.zarr", "images.zarr", "runs/vote"),
        ),
        Stage(
            "table",
            ("table", "--metrics", f"{at}/results/metrics.json"),
            ("table", "--metrics", f"{at}/other/metrics.json"),
            "out/table.md",
            ("results/metrics.json",),
        ),
        Stage(
            "predict",
            (*label, f"{at}/runs/ce"),
            (*label, f"{at}/warmup"),
            "out/p.csv",
            ("runs/ce",),
            trains=True,
        ),
        Stage(
            "plan",
            ("plan", "--params-file", f"{at}/params.yaml"),
            ("plan", "--params-file", f"{at}/params.yaml", "--seed", "1"),
            "out/cells.yaml",
        ),
        *of_review(at),
    ]


def of_review(at: Path) -> list[Stage]:
    """The commands around the list of `clean`, on the few photos of the small pipeline."""
    result, other = ("--result", f"{at}/photos-clean"), ("--result", f"{at}/other-clean")
    listed = ("photos-clean/labels.csv", "photos-clean/result.json")
    apply = ("apply", f"{at}/decisions.csv", *result)
    photos, notes = ("clean", f"{at}/photos", "--manifest"), ("work/seen.json",)
    decided = ("--decisions", f"{at}/decisions.csv")
    export = ("export", *result, "--to", "huggingface")
    cleaning = {
        "bare": ("right.csv",),
        "shared": True,
        "inner": ("work", "work/warmup", "model"),
        "notes": notes,
    }
    return [
        Stage("clean", (*photos, f"{at}/right.csv"), (*photos, f"{at}/fewer.csv"), "out", **cleaning),
        Stage(
            "clean (other labels)",
            (*photos, f"{at}/right.csv"),
            (*photos, f"{at}/other.csv"),
            "out",
            **cleaning,
        ),
        Stage(
            "report",
            ("report", *result),
            ("report", *other),
            "out/report.html",
            listed,
        ),
        Stage(
            "apply",
            (*apply, "--as", "copies"),
            apply,
            "out/cleaned",
            listed,
            bare=("decisions.csv",),
        ),
        Stage("revert", ("revert", "out/cleaned"), apply, "out/cleaned", removes=True),
        Stage(
            "audit",
            ("audit", *result, "--n", "8"),
            ("audit", *other, "--n", "6"),
            "out/audit",
            listed,
        ),
        Stage(
            "export",
            (*export, *decided, "--as", "copies"),
            export,
            "out/for-training",
            listed,
            bare=("decisions.csv",),
        ),
        Stage(
            "export --model onnx",
            ("export", "--model", "onnx", "--run", f"{at}/runs/ce"),
            ("export", "--model", "onnx", "--run", f"{at}/warmup"),
            "out/model.onnx",
            ("runs/ce",),
        ),
    ]


def make_pipeline(at: Path) -> None:
    """A few digits through every stage, and a few photos."""
    import pipeline
    from PIL import Image

    from noisyctl.datasets import folder
    from stages import prepare_data

    pipeline.SIZE = 96
    pipeline.prepare(at)
    for name, method in (("ce", "cross_entropy"), ("vote", "knn_vote")):
        pipeline.train(at, method, at / "runs" / name, epochs=1)
    pipeline.judge(at, at / "runs", at / "results")
    pipeline.judge(at, at / "runs/vote", at / "other")
    rng, rows = np.random.default_rng(0), []
    for i in range(32):
        name = f"{'ab'[i % 2]}/{i:02}.png"
        (at / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (8, 8, 3), np.uint8)).save(at / "photos" / name)
        rows.append(f"{name},{'ab'[i % 2]}")
    (at / "right.csv").write_text("\n".join(["path,label", *rows]) + "\n")
    (at / "checked.csv").write_text("\n".join(["path,label", *rows[:4]]) + "\n")
    kept = folder.Params(root=str(at / "photos"), image_size=8, keep="files")
    prepare_data.run(prepare_data.Inputs("folder", at / "kept"), kept)
    clean_photos(at, rows)
    (at / "photos/a/broken.png").write_bytes(b"no image")
    shutil.copy(HERE.parent / "params.yaml", at)
    shutil.rmtree(at / "all")


def clean_photos(at: Path, rows: Sequence[str]) -> None:
    """Two results of clean, on these rows of a manifest and on others, and a person's decisions on the first."""
    from noisyctl.review import decisions, result
    from noisyctl.session import Session
    from stages import clean

    other = [*(f"{row[:-1]}{'ab'[i % 3 == 0]}" for i, row in enumerate(rows[:12])), *rows[12:]]
    for name, lines in (("fewer", rows[:-1]), ("other", other)):
        (at / f"{name}.csv").write_text("\n".join(["path,label", *lines]) + "\n")
    quiet = Session(device="cpu", precision="float32", threads=1, quiet=True, scratch=at / "scratch")
    for name, manifest in (("photos", "right"), ("other", "other")):
        wanted = clean.Inputs(at / "photos", at / f"{name}-clean", at / f"{manifest}.csv", model=False)
        clean.run(wanted, session=quiet)
    listed = result.read(at / "photos-clean")
    kept, moved, dropped = listed.rows[:3]
    taken = (
        decisions.Decision(kept, "keep", kept.given, "", 0),
        decisions.Decision(moved, "relabel", "ab"[moved.given == "a"], "", 0),
        decisions.Decision(dropped, "drop", "", "", 0),
    )
    (at / "decisions.csv").write_text(decisions.as_csv(taken, listed.digest))


def in_child(act: Callable[[], object], cwd: Path) -> tuple[int, str]:
    """The exit code of a forked process and what it wrote to stderr; -1 where it took too long."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        code = 70
        try:
            os.close(read)
            os.dup2(write, 2)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)  # noqa: SIM115
            os.chdir(cwd)
            torch.set_num_threads(1)
            act()
            code = 0
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 0 if stop.code is None else 1
        except BaseException:
            os.write(2, traceback.format_exc().encode())
        finally:
            with contextlib.suppress(Exception):
                sys.stderr.flush()
            os._exit(code)
    os.close(write)
    said, end = b"", time.monotonic() + LIMIT
    while True:
        ready, _, _ = select.select([read], [], [], max(0, end - time.monotonic()))
        part = os.read(read, 65536) if ready else b""
        if not part:
            break
        said += part
    os.close(read)
    if not ready:
        os.kill(child, 9)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return (code if ready else -1), said.decode(errors="replace")


def command(stage: Stage, words: Sequence[str]) -> Callable[[], None]:
    """The command line in this process, without the catch at its top: what is unforeseen shows as a traceback."""
    from noisyctl.cli import main as cli
    from noisyctl.errors import NoisyctlError

    def call() -> None:
        os.environ["NOISYCTL_SCRATCH"] = "scratch"
        common = () if stage.name == "plan" else COMMON
        place = () if words[0] == "revert" else ("--out", stage.out)
        sys.argv = ["noisyctl", *words, *common, *place]
        try:
            cli.app()
        except NoisyctlError as error:
            print(*(f"error: {line}" for line in str(error).splitlines()), sep="\n", file=sys.stderr)
            sys.exit(error.exit_code)

    return call


def bytes_of(path: Path) -> dict[str, bytes]:
    """Everything at and below a path: contents of files, targets of links."""
    found = {}
    for p in [path, *sorted(path.rglob("*"))] if path.is_dir() and not path.is_symlink() else [path]:
        name = p.relative_to(path.parent).as_posix()
        if p.is_symlink():
            found[name] = b"-> " + os.fsencode(p.readlink())
        elif p.is_file():
            found[name] = p.read_bytes()
    return found


def _in_use(hidden: Path) -> bool:
    """Whether a process has the number that a hidden name ends with: the system gave it to another one meanwhile."""
    return Path("/proc", hidden.name.rpartition("-")[2]).exists()


def signature(path: Path) -> dict[str, tuple[int, int]]:
    """Size and time of every file below a path: tells quickly whether anything was written there."""
    found = {}
    for p in sorted(path.rglob("*")):
        about = p.lstat()
        found[str(p)] = (0, 0) if p.is_dir() else (about.st_size, about.st_mtime_ns)
    return found


@dataclass
class Tally:
    """What came of the trials, by stage and attack."""

    trials: Counter[tuple[str, str]] = field(default_factory=Counter)
    bad: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    refused: Counter[tuple[str, str]] = field(default_factory=Counter)

    def failures(self) -> int:
        return sum(self.bad.values())


KINDS = ("lost", "silent", "traceback", "other")  # of failures


class Bench:
    """The small pipeline, and for every stage the output of an undisturbed run and an older one."""

    def __init__(self, root: Path, rng: random.Random, tally: Tally) -> None:
        self.root, self.rng, self.tally = root, rng, tally
        self.at = root / "pipeline"
        self.trial = root / "trial"
        code, said = in_child(lambda: make_pipeline(self.at), root)
        assert code == 0, said
        self.inputs = signature(self.at)

    def begin(self, stage: Stage) -> None:
        """Run the stage undisturbed, and its older form; count its file operations."""
        self.stage = stage
        self.older, self.steps = self.root / "older", {}
        ends: list[dict[str, dict[str, bytes]]] = []
        shutil.rmtree(self.older, ignore_errors=True)
        self.fresh()
        self.make_older()
        self.trial.rename(self.older)
        for mode in stage.modes:
            self.fresh(mode)
            code, said = in_child(self._counted, self.trial)
            assert code == 0, (stage.name, said)
            self.steps[mode] = int((self.root / "count").read_text())
            ends.append(self.found())
        self.goal = ends[0]
        other = [name for name in ends[0].keys() | ends[-1].keys() if ends[0].get(name) != ends[-1].get(name)]
        assert not other, f"{stage.name}: what stood there changed the output: {other}"

    def found(self) -> dict[str, dict[str, bytes]]:
        """The outputs that lie there now."""
        return self.stage.artifacts(self.trial / "out")

    def _counted(self) -> None:
        fault = faults.Fault()
        faults.arm(self.trial, fault)
        try:
            command(self.stage, self.stage.words)()
        finally:
            (self.root / "count").write_text(str(fault.count))

    def make_older(self) -> None:
        """Run the older form, and import what it imports, once for all trials."""
        place = self.root / "imports"

        def act() -> None:
            before = set(sys.modules)
            try:
                command(self.stage, self.stage.older)()
            finally:
                place.write_text("\n".join(name for name in sys.modules if name not in before))

        code, said = in_child(act, self.trial)
        assert code == 0, (self.stage.name, said)
        for name in place.read_text().split():
            with contextlib.suppress(Exception):
                importlib.import_module(name)

    def fresh(self, mode: str = "new") -> None:
        """An empty folder for a trial, or one in which an older output lies, with a stranger's files."""
        shutil.rmtree(self.trial, ignore_errors=True)
        if mode == "new":
            self.trial.mkdir()
            if not self.stage.shared:
                (self.trial / "out").mkdir()
        else:
            shutil.copytree(self.older, self.trial, symlinks=True)
        self.strangers = [self.trial / name for name in FOREIGN]
        if mode != "new" or not self.stage.shared:
            self.strangers += [self.trial / "out" / name for name in FOREIGN]
        for path in self.strangers:
            path.write_bytes(FOREIGN[path.name])
        self.old = self.found()

    def fail(self, attack: str, kind: str, text: str) -> None:
        self.tally.bad[self.stage.name, attack, kind] += 1
        print(
            f"FAILED {self.stage.name}, {attack}: {kind}: {text.strip()[-2000:]}", file=sys.stderr, flush=True
        )

    def check_said(self, attack: str, code: int, said: str, about: str) -> bool:
        """Whether a command ended well or with one clear line."""
        if "Traceback (most recent call last)" in said or code == 70:
            self.fail(attack, "traceback", f"{about}: {said}")
        elif code not in (0, 1, 2):
            self.fail(attack, "other", f"{about}: exit {code}: {said}")
        elif code and len([line for line in said.splitlines() if line.startswith("error: ")]) != 1:
            self.fail(attack, "other", f"{about}: exit {code} without one clear line: {said}")
        else:
            return True
        return False

    def check_kept(self, attack: str, about: str) -> None:
        """Every artifact is the old or the new one; nothing of a stranger's is lost; inputs are as they were."""
        there, new = self.found(), self.goal
        for name in self.old.keys() | there.keys():
            found = there.get(name)
            if found is None and name in new:
                self.fail(attack, "lost", f"{about}: {name} is gone")
            elif found is not None and found not in (self.old.get(name), new.get(name)):
                self.fail(attack, "lost", f"{about}: {name} is neither the old nor the new one")
        for path in self.strangers:
            if not path.exists() or path.read_bytes() != FOREIGN[path.name]:
                self.fail(attack, "lost", f"{about}: {path.name} of a stranger")
        if signature(self.at) != self.inputs:
            self.fail(attack, "lost", f"{about}: an input was changed")
            self.inputs = signature(self.at)

    def check_again(self, attack: str, about: str) -> None:
        """The same command without a fault gives what an undisturbed one gives."""
        code, said = in_child(command(self.stage, self.stage.words), self.trial)
        if not self.check_said(attack, code, said, f"{about}, again"):
            return
        if code and not (self.stage.removes and self.found() == self.goal):
            self.fail(attack, "other", f"{about}: the second run was refused: {said}")
        elif self.found() != self.goal:
            self.fail(attack, "silent", f"{about}: the second run gave another output")
        self.check_kept(attack, f"{about}, again")
        hidden = [p for p in self.trial.rglob(".*-*") if p not in self.strangers and not _in_use(p)]
        hidden += list((self.trial / "scratch").glob("scratch/*"))
        if hidden:
            self.fail(attack, "other", f"{about}: left behind: {hidden}")

    def killed(self, number: int, exchange: bool = True) -> None:
        attack = "kill" if exchange else "kill, no exchange"
        for i in range(number):
            mode = self._mode(i) if exchange else "replace"
            at, phase = self._spread(i, number, mode)
            self.fresh(mode)
            about = f"{mode}, {phase} operation {at} of {self.steps[mode]}"

            def act(at: int = at, phase: str = phase) -> None:
                if not exchange:
                    faults.forbid_exchange()
                faults.arm(self.trial, faults.Fault("kill", at, phase))
                command(self.stage, self.stage.words)()

            code, said = in_child(act, self.trial)
            self.tally.trials[self.stage.name, attack] += 1
            if code not in (0, faults.DIED):
                self.check_said(attack, code, said, about)
            if exchange:
                self.check_kept(attack, about)
            self.check_again(attack, about)

    def _mode(self, i: int) -> str:
        return self.stage.modes[i % len(self.stage.modes)]

    def _spread(self, i: int, number: int, mode: str) -> tuple[int, str]:
        steps = self.steps[mode]
        at = min(int((i + self.rng.random()) * steps / number), steps - 1)
        return at, self.rng.choice(["before", "half", "after"])

    def full(self, number: int) -> None:
        """Operations fail from one on; files may not grow beyond a size; a small file system is full."""
        largest = max((len(b) for held in self.goal.values() for b in held.values()), default=1)
        for i in range(number):
            mode = self._mode(i)
            at, _ = self._spread(i, number, mode)
            self.fresh(mode)
            limit = self.rng.randrange(largest) if i % 3 == 2 else None
            about = f"{mode}, " + (
                f"files of {limit} bytes" if limit is not None else f"from operation {at} on"
            )

            def act(at: int = at, limit: int | None = limit) -> None:
                if limit is not None:
                    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
                else:
                    faults.arm(self.trial, faults.Fault("full", at))
                command(self.stage, self.stage.words)()

            self._refused_or_done("full disk", act, about)

    def full_file_system(self, number: int, mount: "Mount") -> None:
        for i in range(number):
            mode = self._mode(i)
            self.fresh(mode)
            sizes = [len(b) for held in self.goal.values() for b in held.values()]
            free = self.rng.randrange(sum(-(-size // PAGE) * PAGE for size in sizes) + PAGE)
            about = f"{mode}, {free} bytes are free"
            with mount.of(self.trial, free):
                self._refused_or_done("full tmpfs", command(self.stage, self.stage.words), about, mount)

    def _refused_or_done(
        self, attack: str, act: Callable[[], object], about: str, mount: "Mount | None" = None
    ) -> None:
        code, said = in_child(act, self.trial)
        self.tally.trials[self.stage.name, attack] += 1
        self.tally.refused[self.stage.name, attack] += code != 0
        self.check_said(attack, code, said, about)
        if code == 0 and self.found() != self.goal:
            self.fail(attack, "silent", f"{about}: exit 0 with another output")
        self.check_kept(attack, about)
        hidden = [p for p in (self.trial / "out").rglob(".*.partial-*") if p not in self.strangers]
        if hidden:
            self.fail(attack, "other", f"{about}: left behind: {hidden}")
        if mount is not None:
            mount.enlarge()
        self.check_again(attack, about)

    def flipped(self, number: int) -> None:
        """A bit of an input, of the output that is replaced, or of the unfinished run in the scratch folder."""
        self.flip_in("flip in an input", number, lambda: [self.at / name for name in self.stage.inputs])
        self.flip_in("flip in the old output", max(number // 3, 1), lambda: [self.trial / "out"])
        if self.stage.trains:
            unfinished = self._unfinished()
            if unfinished is not None:
                scratch = self.trial / "scratch"
                self.flip_in("flip in scratch", number, lambda: [scratch], unfinished)

    def _unfinished(self) -> Path | None:
        """The scratch folder of work that was killed late: its checkpoint and its rows are there, or its blocks."""
        kept = self.root / "unfinished"
        for part in (0.8, 0.7, 0.6, 0.5, 0.4):
            self.fresh()
            shutil.rmtree(kept, ignore_errors=True)

            def act(at: int = int(part * self.steps["new"])) -> None:
                faults.arm(self.trial, faults.Fault("kill", at))
                command(self.stage, self.stage.words)()

            in_child(act, self.trial)
            unfinished = ("checkpoint.safetensors", "blocks/*.safetensors")
            if any(list(self.trial.glob(f"scratch/scratch/*/{name}")) for name in unfinished):
                shutil.copytree(self.trial / "scratch", kept)
                return kept
        return None

    def flip_in(
        self, attack: str, number: int, where: Callable[[], list[Path]], unfinished: Path | None = None
    ) -> None:
        for _ in range(number):
            self.fresh("replace")
            if unfinished is not None:
                shutil.copytree(unfinished, self.trial / "scratch", dirs_exist_ok=True)
            found = [p for place in where() for p in ([place] if place.is_file() else place.rglob("*"))]
            found = [p for p in found if p.is_file() and not p.is_symlink() and p.stat().st_size]
            found = [p for p in found if p not in self.strangers and p.name != "broken.png"]
            notes = [self.trial / "out" / name for name in self.stage.notes]
            found = [p for p in found if p not in notes]
            if not found:
                return
            file = self.rng.choice(sorted(found))
            whole, times = file.read_bytes(), file.stat()
            place, bit = self.rng.randrange(len(whole)), self.rng.randrange(8)
            file.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << bit]) + whole[place + 1 :])
            about = f"{file.relative_to(self.root)}, bit {bit} of byte {place}"
            self.old = self.found()
            code, said = in_child(command(self.stage, self.stage.words), self.trial)
            if file.is_relative_to(self.at):
                file.write_bytes(whole)
                os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
            self.tally.trials[self.stage.name, attack] += 1
            self.tally.refused[self.stage.name, attack] += code != 0
            self.check_said(attack, code, said, about)
            if code == 0 and (self.stage.removes or self.found() != self.goal):
                self.fail(attack, "silent", f"{about}: exit 0 with another output")
            self.check_kept(attack, about)

    def two_at_once(self, number: int) -> None:
        attack = "two processes"
        for i in range(number):
            self.fresh(self._mode(i))
            note = self.root / "second"
            wait = self.rng.random() * 0.2

            def act(wait: float = wait, note: Path = note) -> None:
                second = os.fork()
                if second == 0:
                    time.sleep(wait)
                    code, said = in_child(command(self.stage, self.stage.words), self.trial)
                    note.write_text(json.dumps([code, said]))
                    os._exit(0)
                try:
                    command(self.stage, self.stage.words)()
                finally:
                    os.waitpid(second, 0)

            code, said = in_child(act, self.trial)
            other, also_said = json.loads(note.read_text())
            self.tally.trials[self.stage.name, attack] += 1
            self.tally.refused[self.stage.name, attack] += other != 0
            self.check_said(attack, code, said, "the first")
            self.check_said(attack, other, also_said, "the second")
            if code and other:
                self.fail(attack, "other", f"both were refused: {said} {also_said}")
            if self.found() != self.goal:
                self.fail(attack, "silent", "two processes gave another output")
            self.check_again(attack, f"the second {wait:.3f} s later")

    def vanished(self, number: int) -> None:
        """An input goes away while it is read."""
        attack = "input deleted"
        inputs = self.stage.inputs + self.stage.bare
        for i in range(number if inputs else 0):
            self.fresh(self._mode(i))
            gone, away = self.at / self.rng.choice(inputs), self.root / "away"
            at = self.rng.randrange(1, 12)

            def act(gone: Path = gone, at: int = at, away: Path = away) -> None:
                faults.vanish(gone, at, away)
                command(self.stage, self.stage.words)()

            code, said = in_child(act, self.trial)
            if away.exists():
                away.rename(gone)
            about = f"{gone.name} at its opening number {at}"
            self.tally.trials[self.stage.name, attack] += 1
            self.tally.refused[self.stage.name, attack] += code != 0
            self.check_said(attack, code, said, about)
            if code == 0 and self.found() != self.goal:
                self.fail(attack, "silent", f"{about}: exit 0 with another output")
            self.check_kept(attack, about)
            self.check_again(attack, about)

    def clock(self, number: int) -> None:
        """The clock goes back while the command runs, and what stands there is from the future."""
        attack = "clock set back"
        for i in range(number):
            self.fresh(self._mode(i))
            for path in self.trial.rglob("*"):
                os.utime(path, (2**31, 2**31), follow_symlinks=False)
            step = (1e-3, 3600.0, 86400.0)[i % 3]

            def act(step: float = step) -> None:
                faults.set_clock_back(step)
                command(self.stage, self.stage.words)()

            code, said = in_child(act, self.trial)
            self.tally.trials[self.stage.name, attack] += 1
            self.check_said(attack, code, said, "")
            if code or self.found() != self.goal:
                self.fail(attack, "silent", f"the clock changed the outcome: exit {code}: {said}")
            self.check_again(attack, f"back by {step} s")


class Mount:
    """A file system in memory of a given size, where this process may mount one."""

    def __init__(self, root: Path) -> None:
        self.why = ""
        probe = root / "probe"
        probe.mkdir()
        done = self._run("mount", "-t", "tmpfs", "-o", "size=65536", "tmpfs", str(probe))
        if done is not None:
            self.why = f"mounting is not allowed here ({done})"
        else:
            self._run("umount", str(probe))

    @staticmethod
    def _run(*words: str) -> str | None:
        try:
            subprocess.run(words, check=True, capture_output=True, text=True)
        except OSError as error:
            return str(error)
        except subprocess.CalledProcessError as error:
            return (error.stderr or str(error)).strip()
        return None

    @contextlib.contextmanager
    def of(self, folder: Path, free: int) -> Iterator[None]:
        """`folder` and what it holds on a file system with so many free bytes."""
        aside = folder.with_name("aside")
        folder.rename(aside)
        folder.mkdir()
        self.folder = folder
        failed = self._run("mount", "-t", "tmpfs", "-o", "size=256M", "tmpfs", str(folder))
        assert failed is None, failed
        try:
            shutil.copytree(aside, folder, symlinks=True, dirs_exist_ok=True)
            about = os.statvfs(folder)
            used = (about.f_blocks - about.f_bfree) * about.f_frsize
            self._remount(used + free // PAGE * PAGE)
            yield
        finally:
            self._run("umount", str(folder))
            shutil.rmtree(aside)

    def enlarge(self) -> None:
        """Make room."""
        self._remount(2**28)

    def _remount(self, size: int) -> None:
        failed = self._run("mount", "-o", f"remount,size={size}", str(self.folder))
        assert failed is None, failed


def attack(stage: Stage, bench: Bench, mount: Mount, effort: float, only: int | None) -> None:
    """All attacks on a stage, or the one of this number; `effort` 1 is the full number of trials of each."""

    def times(full: int) -> int:
        return max(round(full * effort), 1)

    bench.begin(stage)
    attacks = [
        lambda: bench.killed(times(36)),
        lambda: bench.killed(times(12), exchange=False),
        lambda: bench.full(times(24)),
        lambda: bench.flipped(times(24)),
        lambda: bench.two_at_once(times(6)),
        lambda: bench.vanished(times(12)),
        lambda: bench.clock(times(3)),
    ]
    if not mount.why:
        attacks.append(lambda: bench.full_file_system(times(6), mount))
    for act in attacks if only is None else [attacks[only % len(attacks)]]:
        act()


def table(tally: Tally) -> str:
    """The counts as Markdown: a row a stage, then one a kind of attack."""
    head = ["", "trials", "refused", "lost files", "silent errors", "tracebacks", "other"]
    lines = [f"| {' | '.join(head)} |", f"| --- |{' ---: |' * (len(head) - 1)}"]
    names = {
        0: list(dict.fromkeys(s for s, _ in tally.trials)),
        1: list(dict.fromkeys(a for _, a in tally.trials)),
    }
    for which in (0, 1):
        for name in names[which]:
            numbers = [
                sum(n for key, n in counted.items() if key[which] == name)
                for counted in (tally.trials, tally.refused)
            ]
            numbers += [
                sum(n for key, n in tally.bad.items() if key[which] == name and key[2] == k) for k in KINDS
            ]
            lines.append(f"| {name} | {' | '.join(map(str, numbers))} |")
    numbers = [sum(tally.trials.values()), sum(tally.refused.values())]
    numbers += [sum(n for key, n in tally.bad.items() if key[2] == kind) for kind in KINDS]
    lines.append(f"| **all** | {' | '.join(map(str, numbers))} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--effort", type=float, default=1.0, help="share of the full number of trials [1]")
    parser.add_argument("--rounds", type=int, default=6, help="the trials are spread over so many rounds [6]")
    parser.add_argument("--minutes", type=float, default=1e9, help="begin no further stage after so many")
    parser.add_argument(
        "--sample", action="store_true", help="one kind of attack a stage, another one for the next"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the moments and places that are drawn")
    parser.add_argument("--stage", action="append", help="only stages whose name begins so, repeatable")
    parser.add_argument("--out", type=Path, help="file for the table, as Markdown")
    asked = parser.parse_args()
    begun, tally, rng = time.monotonic(), Tally(), random.Random(asked.seed)
    with tempfile.TemporaryDirectory(prefix="attack-") as folder:
        root = Path(folder).resolve()
        mount = Mount(root)
        if mount.why:
            print(f"skipped: full tmpfs: {mount.why}", file=sys.stderr)
        bench = Bench(root, rng, tally)
        chosen = [s for s in stages(bench.at) if not asked.stage or s.name.startswith(tuple(asked.stage))]
        chosen = [s for s in chosen if not (asked.sample and s.name in LEFT_OUT)]
        for turn, (number, stage) in itertools.product(range(asked.rounds), enumerate(chosen)):
            if time.monotonic() - begun > 60 * asked.minutes:
                break
            before, since = sum(tally.trials.values()), time.monotonic()
            only = number + turn if asked.sample else None
            attack(stage, bench, mount, asked.effort / asked.rounds, only)
            print(
                f"round {turn + 1}, {stage.name}: {sum(tally.trials.values()) - before} trials in "
                f"{time.monotonic() - since:.0f} s, {tally.failures()} failures so far",
                file=sys.stderr,
                flush=True,
            )
            if asked.out:
                asked.out.write_text(table(tally))
    text = table(tally)
    print(text)
    print(f"{sum(tally.trials.values())} trials in {time.monotonic() - begun:.0f} s", file=sys.stderr)
    return 1 if tally.failures() else 0


if __name__ == "__main__":
    sys.exit(main())
