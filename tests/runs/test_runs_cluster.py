"""--cluster with real worker processes: the same bytes for any number of them, and one clear line where one cannot go on."""

import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pipeline import command, tree

from noisyctl import images as _images
from noisyctl.artifacts import store
from noisyctl.artifacts.kinds import FEATURES
from noisyctl.datasets import folder
from noisyctl.errors import NoisyctlError, ParamsError
from noisyctl.parts import neighbors
from noisyctl.runs import cluster as clusters
from noisyctl.runs import embedding, on_worker
from noisyctl.runs.blocks import Blocks
from noisyctl.runs.workers import Work
from noisyctl.session import Session, Silent
from noisyctl.training.scratch import Scratch
from stages import embed, mine_knn, predict, prepare_data

distributed = pytest.importorskip("distributed")
timm = pytest.importorskip("timm")
ROOT = Path(mine_knn.__file__).parent.parent
ROWS = 300


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos in two classes, one of them broken, the weights of a small encoder, and 300 vectors."""
    from safetensors.torch import save_file

    here, rng = tmp_path_factory.mktemp("cluster"), np.random.default_rng(0)
    for number in range(18):
        path = here / "photos" / "ab"[number % 2] / f"{number:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (20, 24, 3), dtype=np.uint8)).save(path)
    (here / "photos/a/04.png").write_bytes(b"broken")
    torch.manual_seed(0)
    save_file(timm.create_model("test_resnet", pretrained=False).state_dict(), here / "weights.safetensors")
    vectors = rng.standard_normal((ROWS, 4)).astype(np.float32)
    store.write(here / "f.zarr", FEATURES, {"features": vectors}, inputs={"images": "x"})
    return here


def session(scratch: Path, cluster: str = "", **more: Any) -> Session:
    about = {"device": "cpu", "precision": "float32", "threads": 1, "quiet": True}
    return Session(**about, cluster=cluster, scratch=scratch, **more)


def mine(place: Path, out: Path, s: Session, k: int = 3) -> None:
    mine_knn.run(mine_knn.Inputs(place / "f.zarr", out), mine_knn.Params(k=k, engine="torch"), s)


def smaller() -> None:
    """Parts of a few samples in this process, which tells workers what to make."""
    _images.MOST_IN_PART, embedding.BLOCK, neighbors.BLOCK, predict_batch().BATCH = 5, 4, 64, 7


def predict_batch() -> Any:
    from noisyctl.nn import inference

    return inference


def every_stage(place: Path, run: Path, out: Path, cluster: str) -> None:
    """What each command with --cluster writes, below `out`."""
    s = session(out / "scratch", cluster)
    pixels = folder.Params(root=str(place / "photos"), image_size=16)
    prepare_data.run(prepare_data.Inputs("folder", out / "own"), pixels, s)
    kept = folder.Params(root=str(place / "photos"), image_size=16, keep="files")
    prepare_data.run(prepare_data.Inputs("folder", out / "files"), kept, s)
    for name in ("own", "files"):
        params = embedding.Params(weights=str(place / "weights.safetensors"), image_size=32)
        inputs = embed.Inputs("timm:test_resnet", out / name / "images.zarr", out / name / "e/features.zarr")
        embed.run(inputs, params, s)
    mine(place, out / "n.zarr", s)
    predict.run(predict.Inputs(run, place / "photos", out / "p.csv"), None, s)


@pytest.fixture(scope="module")
def plain(place: Path, home: Path) -> dict[str, bytes]:
    """The same without a cluster, in a process of its own, which imports nothing of Dask."""
    script = f"""
        import sys
        from pathlib import Path
        sys.path[:0] = {[str(Path(__file__).parent), str(ROOT / "tests/stages"), str(ROOT)]!r}
        sys.modules["distributed"] = sys  # for importorskip of the tests
        import test_runs_cluster as tests
        del sys.modules["distributed"]
        tests.smaller()
        tests.every_stage(Path({str(place)!r}), Path({str(home / "warmup")!r}), Path({str(place / "plain")!r}), "")
        print(*(m for m in sys.modules if m.partition(".")[0] in ("dask", "distributed", "noisyctl.runs.cluster")))
    """
    words = [sys.executable, "-c", textwrap.dedent(script)]
    done = subprocess.run(
        words, capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "\n", "Dask was imported without --cluster"
    return written(place / "plain")


def written(out: Path) -> dict[str, bytes]:
    return {name: data for name, data in tree(out).items() if not name.startswith("scratch/")}


@pytest.fixture(scope="module")
def dask() -> Iterator[Any]:
    """One worker, of which a test may ask for more. They are forked from a process that has imported everything."""
    import dask as library
    from distributed.utils import get_mp_context

    about = {"distributed.worker.multiprocessing-method": "forkserver"}
    with pytest.MonkeyPatch.context() as patch, library.config.set(about):
        get_mp_context().set_forkserver_preload(
            ["distributed", "timm", "noisyctl.runs.embedding", "noisyctl.runs.predict"]
        )
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("PYTHONPATH", str(ROOT))
        with distributed.LocalCluster(
            1, threads_per_worker=1, dashboard_address="127.0.0.1:0", silence_logs=60
        ) as found:
            yield found


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_images, "MOST_IN_PART", 5)
    monkeypatch.setattr(embedding, "BLOCK", 4)
    monkeypatch.setattr(neighbors, "BLOCK", 64)
    monkeypatch.setattr(predict_batch(), "BATCH", 7)


@pytest.mark.parametrize("number", [1, 2])
def test_every_stage_writes_the_same_bytes(
    number: int, place: Path, home: Path, plain: dict[str, bytes], dask: Any, tmp_path: Path
) -> None:
    scaled(dask, number)
    every_stage(place, home / "warmup", tmp_path, dask.scheduler_address)
    found = written(tmp_path)
    assert {
        "n.zarr/zarr.json",
        "own/images.zarr/zarr.json",
        "files/e/features.zarr/zarr.json",
        "p.csv",
    } < set(found)
    assert found == plain
    assert not list((tmp_path / "scratch").rglob("*.safetensors"))


def scaled(dask: Any, number: int) -> None:
    dask.scale(number)
    with distributed.Client(dask, set_as_default=False) as client:
        client.wait_for_workers(number, timeout=60)


class Acts(Silent):
    """A screen that does something when it has been told so many times that some is done."""

    def __init__(self, act: Callable[[], Any], times: int = 1) -> None:
        self.act, self.times, self.told = act, times, list[int]()

    def steps(self, what: str, unit: str, kept: bool = False) -> Callable[[int, int], None]:
        def report(done: int, total: int) -> None:
            self.told.append(done)
            if len(self.told) == self.times:
                self.act()

        return report


def test_a_worker_that_is_killed_loses_its_blocks_only(
    place: Path, plain: dict[str, bytes], dask: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(neighbors, "BLOCK", 8)
    scaled(dask, 4)
    screen = Acts(lambda: [os.kill(nanny.pid, signal.SIGKILL) for nanny in list(dask.workers.values())[:2]])
    mine(place, tmp_path / "n.zarr", session(tmp_path / "scratch", dask.scheduler_address, shows=screen))
    assert written(tmp_path) == {name: data for name, data in plain.items() if name.startswith("n.zarr/")}
    assert screen.told[-1] == ROWS and sorted(screen.told) == screen.told


def finish(work: Work, s: Session) -> None:
    with clusters.connected(s, "mine-knn") as found:
        list(found.finished(work, Blocks(Scratch(s.scratch, ""), "x"), [range(3)], lambda done, total: None))


def test_a_block_that_kills_its_worker_again_and_again(dask: Any, tmp_path: Path) -> None:
    dask.scheduler.allowed_failures = 0
    try:
        with pytest.raises(
            NoisyctlError, match=r"mine-knn: block 0 of 1 ended its worker 1 times, as too little memory"
        ):
            finish(Work(os._exit, (1,), ()), session(tmp_path, dask.scheduler_address))
    finally:
        dask.scheduler.allowed_failures = 3


def test_a_worker_that_does_not_see_the_files(place: Path, dask: Any, tmp_path: Path) -> None:
    """The folder is named by an open file of this process, which the worker does not have."""
    handle = os.open(place, os.O_RDONLY)
    try:
        here, s = Path(f"/proc/self/fd/{handle}"), session(tmp_path / "scratch", dask.scheduler_address)
        with pytest.raises(
            NoisyctlError, match=r"the worker on \S+ \(process \d+\) does not see /proc.*f\.zarr as this"
        ):
            mine(here, tmp_path / "n.zarr", s)
        params = folder.Params(root=str(here / "photos"), image_size=16)
        with pytest.raises(
            NoisyctlError, match=r"does not see /proc\S+/photos as this command does; start workers where"
        ):
            prepare_data.run(prepare_data.Inputs("folder", tmp_path / "own"), params, s)
    finally:
        os.close(handle)


def test_a_worker_that_sees_other_files_below_the_same_folder(place: Path, dask: Any, tmp_path: Path) -> None:
    from noisyctl.runs.file_parts import SomeFiles
    from noisyctl.runs.kept_images import open_reader

    (part,) = [SomeFiles.of(place / "photos", ["a/00.png", "a/04.png"])]
    assert part.difference() == ""
    told = SomeFiles(part.root, part.paths, "of another time")
    wanted = _images.Wanted(place / "photos", 16, gray=False, pixels=True)
    with (
        clusters.connected(session(tmp_path, dask.scheduler_address), "prepare-data-folder") as found,
        pytest.raises(NoisyctlError, match=r"does not see \S+photos/a/00\.png as this command does"),
    ):
        blocks = Blocks(Scratch(tmp_path, ""), "x")
        list(found.finished(Work(open_reader, (wanted, 1), ()), blocks, [told], lambda done, total: None))


def test_a_worker_of_another_version_is_refused(
    place: Path, dask: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine_ = on_worker.versions("mine-knn")
    monkeypatch.setattr(on_worker, "versions", lambda stage: mine_ | {"noisyctl": "9.9", "code": "12345678"})
    said = rf"has noisyctl {mine_['noisyctl']}, code {mine_['code']}, this command noisyctl 9\.9, code 12345678; install"
    with pytest.raises(NoisyctlError, match=said):
        mine(place, tmp_path / "n.zarr", session(tmp_path / "scratch", dask.scheduler_address))


def test_a_worker_that_came_later_is_asked_for_its_version_too(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = on_worker.Here("the first one", on_worker.versions("mine-knn") | {"torch": "1.0"}, {})
    with pytest.raises(
        NoisyctlError, match=r"has torch \S+, this command torch 1\.0; install the same there"
    ):
        on_worker.made(expected, "mine-knn", b"", b"", b"")


def test_workers_of_two_kinds_do_not_share_what_depends_on_the_processor() -> None:
    import pickle

    asked = pickle.dumps(session(Path()))
    here = on_worker.met("mine-knn", asked)
    other = here._replace(numerics=here.numerics | {"units": "of old"})
    work = Work(os.getcwd, (), (), on_processor=True)
    with pytest.raises(
        NoisyctlError, match=r"computes with units .*, the worker on \S+ .* with of old: their results"
    ):
        on_worker.made(other, "mine-knn", asked, pickle.dumps(work), b"")


def test_nobody_listens(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clusters, "WAIT", 1.0)
    start = time.monotonic()
    with pytest.raises(
        NoisyctlError, match=r"--cluster tcp://127.0.0.1:9: no Dask scheduler answers there within 1 s; start"
    ):
        mine(place, tmp_path / "n.zarr", session(tmp_path / "scratch", "tcp://127.0.0.1:9"))
    assert time.monotonic() - start < 10


@pytest.fixture
def scheduler(tmp_path: Path) -> Iterator[tuple[str, Any]]:
    """A scheduler by itself, as `dask scheduler` starts it: its address and its process."""
    words = [
        sys.executable,
        "-m",
        "distributed.cli.dask_scheduler",
        "--port",
        "0",
        "--no-dashboard",
        "--host",
        "127.0.0.1",
    ]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True, cwd=tmp_path)
    assert process.stderr is not None
    line = next(line for line in process.stderr if "Scheduler at:" in line)
    yield line.split()[-1], process
    process.kill()
    process.communicate()


def test_a_scheduler_without_workers_that_then_goes_away(
    scheduler: tuple[str, Any],
    place: Path,
    plain: dict[str, bytes],
    dask: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The same command, run again with another scheduler, goes on from the blocks that are there."""
    address, process = scheduler
    monkeypatch.setattr(neighbors, "BLOCK", 8)
    with monkeypatch.context() as patch:
        patch.setattr(clusters, "WAIT", 1.0)
        with pytest.raises(
            NoisyctlError, match=r"scheduler tcp\S+ has no worker after 1 s; start some with `dask worker`"
        ):
            mine(place, tmp_path / "n.zarr", session(tmp_path / "scratch", address))
    words = [
        sys.executable,
        "-m",
        "distributed.cli.dask_worker",
        address,
        "--nthreads",
        "2",
        "--no-dashboard",
        "--no-nanny",
    ]
    worker = subprocess.Popen(
        words, stderr=subprocess.DEVNULL, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    try:
        s = session(tmp_path / "scratch", address, shows=Acts(process.kill, times=3))
        with pytest.raises(
            NoisyctlError, match=r"the scheduler tcp\S+ does not answer any more; start it again, and run"
        ):
            mine(place, tmp_path / "n.zarr", s)
    finally:
        worker.kill()
        worker.wait()
    kept = list((tmp_path / "scratch").rglob("queries-*.safetensors"))
    assert kept and not (tmp_path / "n.zarr").exists()
    screen = Acts(lambda: None)
    mine(place, tmp_path / "n.zarr", session(tmp_path / "scratch", dask.scheduler_address, shows=screen))
    assert len(kept) >= 3 and screen.told[0] == sum(
        min(8, ROWS - 8 * int(path.stem.split("-")[1])) for path in kept
    )
    assert written(tmp_path)["n.zarr/zarr.json"] == plain["n.zarr/zarr.json"]


def test_the_commands_of_the_readme(
    place: Path, dask: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first is killed: its workers end with it. The second goes on, and the third makes all with workers of a file."""
    text = (ROOT / "README.md").read_text().split("## When one machine is not enough")[1].split("\n## ")[0]
    local, tcp, file = (
        words.split() for words in re.findall(r"^    noisyctl (mine-knn \S+ \S+)", text, re.M)
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NOISYCTL_SCRATCH", str(tmp_path / "scratch"))
    shutil.copytree(place / "f.zarr", "data/digits/simclr/features.zarr")
    here = ["--pretrain", "simclr", "--device", "cpu", "--threads", "1", "--k", "3"]
    words = [sys.executable, "-c", "from noisyctl.cli.main import main; main()", *local, *here]
    process = subprocess.Popen(
        words, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    assert process.stderr is not None
    assert process.stderr.readline() == "mine-knn on 2 local workers\n"
    started = descendants(process.pid)
    assert len(started) >= 2
    process.kill()
    process.communicate()
    end = time.monotonic() + 30
    while alive(started):
        assert time.monotonic() < end, "a worker outlives the command"
        time.sleep(0.1)
    assert tcp == ["mine-knn", "--cluster", "tcp://scheduler:8786"]
    assert command("mine-knn", "--cluster", dask.scheduler_address, *here) == 0
    mined = Path("data/digits/simclr/neighbors.zarr").rename("first.zarr")
    Path(file[-1]).write_text("cluster: LocalCluster\nworkers: 1\narguments: {processes: false}\n")
    assert command(*file, *here) == 0
    assert tree(Path("data/digits/simclr/neighbors.zarr")) == tree(mined)


def test_the_file_of_the_documentation_names_a_cluster(tmp_path: Path) -> None:
    jobs = pytest.importorskip("dask_jobqueue")
    (text,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs/scale.md").read_text(), re.S)
    (tmp_path / "slurm.yaml").write_text(text)
    name, number, arguments = clusters.read_file(tmp_path / "slurm.yaml")
    assert (name, number) == ("SLURMCluster", 4)
    assert arguments.keys() < clusters._arguments_of(jobs.SLURMCluster)
    assert "--nthreads 8" in jobs.SLURMCluster(n_workers=0, **arguments).job_script()


def descendants(pid: int) -> list[int]:
    threads = Path(f"/proc/{pid}/task").iterdir()
    found = [int(c) for thread in threads for c in (thread / "children").read_text().split()]
    return found + [pid for child in found for pid in descendants(child)]


def alive(pids: list[int]) -> list[int]:
    def runs(pid: int) -> bool:
        try:
            return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
        except OSError:
            return False

    return [pid for pid in pids if runs(pid)]


@pytest.mark.parametrize(
    "text, said",
    [
        ("cluster: SLURMClustr", r"cluster is 'SLURMClustr'; did you mean 'SLURMCluster'\?"),
        ("workers: 4", r"cluster is None; one of: LocalCluster, HTCondorCluster"),
        ("cluster: LocalCluster\nworkers: 0", r"workers is 0; give a whole number from 1 on"),
        (
            "cluster: LocalCluster\nnodes: 3",
            r"'nodes' is not a key here; one of: cluster, workers, arguments",
        ),
        ("cluster: LocalCluster\narguments: [1]", r"arguments is \[1\]; give each with its name"),
        (
            "cluster: LocalCluster\narguments: {memory_limits: 1GB}",
            r"arguments\.memory_limits is no argument of ",
        ),
        (
            "cluster: LocalCluster\narguments: {n_workers: 3}",
            r"arguments\.n_workers: write `workers: 3` instead",
        ),
        ("cluster: LocalCluster\narguments: {processes: [}", r"c\.yaml is no YAML: "),
        ("- LocalCluster", r"c\.yaml is no mapping; write `cluster: SLURMCluster`, `workers: 4`"),
        ("cluster: KubeCluster", r"KubeCluster needs dask-kubernetes: pip install dask-kubernetes"),
    ],
)
def test_a_file_that_names_no_cluster(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(NoisyctlError, match=said):
        clusters.from_file(tmp_path / "c.yaml")


def test_the_arguments_of_a_cluster_of_jobs_are_known(tmp_path: Path) -> None:
    pytest.importorskip("dask_jobqueue")
    (tmp_path / "c.yaml").write_text("cluster: SLURMCluster\narguments: {cores: 4, memory: 8GB, quene: gpu}")
    with pytest.raises(
        ParamsError, match=r"arguments\.quene is no argument of SLURMCluster; did you mean 'queue'\?"
    ):
        clusters.from_file(tmp_path / "c.yaml")
    (tmp_path / "c.yaml").write_text("cluster: SLURMCluster\narguments: {queue: gpu}")
    with pytest.raises(
        ParamsError, match=r"c\.yaml: SLURMCluster refuses its arguments: You must specify how much cores"
    ):
        clusters.from_file(tmp_path / "c.yaml")


@pytest.mark.parametrize(
    "cluster, said",
    [
        ("local:0", r"--cluster is 'local:0'; give a number of workers, such as local:2"),
        ("local", r"--cluster is 'local'; give a number of workers"),
        (
            "scheduler:8786",
            r"--cluster is 'scheduler:8786'; give local:N, tcp://HOST:PORT, or the name of a \.yaml",
        ),
        ("nowhere.yaml", r"--cluster nowhere\.yaml: No such file or directory"),
        ("tcp://", r"--cluster tcp://: no Dask scheduler answers there"),
    ],
)
def test_a_slip_in_the_option(
    cluster: str, said: str, tmp_path: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clusters, "WAIT", 1.0)
    with pytest.raises(NoisyctlError, match=said):
        mine(place, tmp_path / "n.zarr", session(tmp_path / "scratch", cluster))


def test_a_graph_is_built_in_one_process(place: Path, tmp_path: Path) -> None:
    with pytest.raises(
        ParamsError, match="--cluster: hnsw builds one graph in one process; choose an exact engine"
    ):
        inputs = mine_knn.Inputs(place / "f.zarr", tmp_path / "n.zarr")
        mine_knn.run(inputs, mine_knn.Params(engine="hnsw"), session(tmp_path / "scratch", "local:2"))


def test_without_dask_the_command_to_install_it_is_told(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(NoisyctlError, match=r"--cluster needs Dask: pip install 'noisyctl\[cluster\]'"):
        mine(place, tmp_path / "n.zarr", session(tmp_path / "scratch", "local:2"))
