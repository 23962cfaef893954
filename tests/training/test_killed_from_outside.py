"""kill -9 from outside, at whatever moment it comes: the second run ends with the bytes of one that was never killed."""

import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pipeline


def test_a_run_that_is_killed_from_outside(home: Path, tmp_path: Path) -> None:
    method, epochs = "cross_entropy", 40
    expected = pipeline.train(home, method, tmp_path / "whole", epochs=epochs)
    script = f"""
        import sys; sys.path.insert(0, {str(Path(pipeline.__file__).parent)!r})
        import torch; torch.set_num_threads(1)
        from pathlib import Path
        import pipeline
        pipeline.train(Path({str(home)!r}), {method!r}, Path({str(tmp_path / "killed")!r}), epochs={epochs})
    """
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)])
    while (
        not list(home.glob(f"scratch/scratch/train-method-{method}-*/rows/*-3.npy"))
        and process.poll() is None
    ):
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "the run ended before it could be killed"
    assert not (tmp_path / "killed" / "trace.zarr").exists()
    assert pipeline.train(home, method, tmp_path / "killed", epochs=epochs) == expected
