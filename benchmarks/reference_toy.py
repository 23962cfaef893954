"""The reference toy: digits, symmetric noise 0.6 without the true class, every method, mean and deviation over seeds.

    python benchmarks/reference_toy.py --seeds 3 --out benchmarks/results

Cross-entropy must fit at least 95 % of the given labels, or the comparison says nothing about memorization.
"""

import argparse
import os
from pathlib import Path

from stages import evaluate, table
from stages.common import Session
from stages.options import command
from stages.train_method import stage as method_stage


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--methods", nargs="*", default=["cross_entropy", "mixnn"])
    options = parser.parse_args()
    from noisyctl.methods import modules
    from stages import inject_noise, prepare_data, warmup

    out = options.out.resolve()
    common = ["--params-file", "benchmarks/reference_toy.yaml"]

    def call(stage: object, *words: str) -> None:
        command(stage)([*common, *words], standalone_mode=False)  # type: ignore[arg-type]

    call(prepare_data.STAGE)
    for seed in range(options.seeds):
        call(inject_noise.STAGE, "--seed", str(seed))
        call(warmup.STAGE, "--seed", str(seed))
        for name in options.methods:
            call(method_stage(name, modules()[name], ""), "--seed", str(seed))
    home = Path("data/digits")
    runs = tuple(home / "runs" / m / f"sym60-s{s}" for m in options.methods for s in range(options.seeds))
    noise = tuple(home / "noise" / f"sym60-s{s}" / "noise.zarr" for s in range(options.seeds))
    evaluate.run(evaluate.Inputs(runs, home / "reference_toy", home / "truth.zarr", noise))
    out.mkdir(parents=True, exist_ok=True)
    table.run(
        table.Inputs((home / "reference_toy" / "metrics.json",), out / "reference_toy.md"), None, Session()
    )
    (out / "reference_toy.json").write_text((home / "reference_toy" / "metrics.json").read_text())


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
