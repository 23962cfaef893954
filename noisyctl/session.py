"""Who computes: device, precision, CPU threads, seed, scratch folder, and where progress is shown."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from noisyctl.errors import NoisyctlError, ParamsError

MEMORY_FORMAT = "channels_last"  # of networks, as artifacts and facts name it


@runtime_checkable
class Shows(Protocol):
    """Shows a person how work goes on: the command line on stderr, a test or a program of your own nowhere."""

    def epochs(self, what: str) -> Callable[[int, int, Mapping[str, float]], None]:
        """A function to be called with a finished epoch (from 0), the number of epochs, and the epoch's scalars."""

    def steps(self, what: str, unit: str, kept: bool = False) -> Callable[[int, int], None]:
        """A function to be called with how many of how many units are done. Finished blocks of them may be `kept`."""

    def say(self, text: str) -> None:
        """Show one line."""


@dataclass(frozen=True)
class Silent:
    """Shows nothing."""

    def epochs(self, what: str) -> Callable[[int, int, Mapping[str, float]], None]:
        return lambda epoch, total, scalars: None

    def steps(self, what: str, unit: str, kept: bool = False) -> Callable[[int, int], None]:
        return lambda done, total: None

    def say(self, text: str) -> None:
        pass


@dataclass(frozen=True)
class Session:
    """Who computes, and who is shown how it goes on. `quiet`: a command prints one line of JSON and no more.

    `compile`: on or off, whether a training compiles its networks. `test_every`: after how many epochs a training predicts
    the test images; 0: after the last one alone. `resumes`: whether a training that is stopped goes on when it is called
    again; without that nothing of it is kept in the scratch folder. `cluster` names workers that make blocks of label-free
    work: `local:N`, the address of a Dask scheduler, or a file that names a cluster; "" for none. `track` names the library
    that logs epochs, if any: the command line has `shows` do it.
    """

    device: str = "auto"
    precision: str = "auto"
    compile: str = "off"
    threads: int = 0
    seed: int = 0
    quiet: bool = False
    test_every: int = 1
    resumes: bool = True
    cluster: str = ""
    track: str = ""
    scratch: Path = field(default_factory=lambda: Path(os.environ.get("NOISYCTL_SCRATCH", ".noisyctl")))
    shows: Shows = Silent()

    def start(self) -> Any:
        """Set the threads and give the torch device. Raises NoisyctlError where the device is not there."""
        import torch

        if self.threads:
            torch.set_num_threads(self.threads)
        if self.device not in ("auto", "cpu", "cuda"):
            raise ParamsError(f"--device is {self.device!r}; one of: auto, cpu, cuda")
        if self.device == "cuda" and not torch.cuda.is_available():
            raise NoisyctlError(
                "--device cuda: torch sees no GPU here; choose --device cpu, or see `noisyctl doctor`"
            )
        return torch.device("cuda" if self.device != "cpu" and torch.cuda.is_available() else "cpu")

    def precision_on(self, device: Any) -> Any:
        """What networks compute in there; `auto` is bfloat16 where the device has its units, else float32."""
        from noisyctl.precision import resolve

        return resolve(self.precision, device)[0]

    def compile_on(self, device: Any) -> Any:
        """Whether a training compiles its networks there: on, or off.

        Where that was asked for and nothing can be compiled it is off, which is announced with the reason.
        """
        from noisyctl.compiling import resolve

        found, why = resolve(self.compile, device)
        if found != self.compile:
            self.say(f"compile {found}: {why}")
        return found

    def numerics(self, device: Any, precision: str | None = None) -> dict[str, Any]:
        """What the bytes of a run depend on beside params and inputs: facts of an unfinished run, so that none is mixed.

        `precision` is that of work that leaves the user no choice. Where the choice is `auto` it is announced, with its
        reason.
        """
        from noisyctl.precision import resolve

        resolved, why = resolve(precision or self.precision, device)
        if precision is None and self.precision != "float32":
            self.say(f"precision {resolved}: {why}")
        return {
            "device": str(device),
            "precision": resolved,
            "layout": MEMORY_FORMAT,
            "units": _units(device),
        }

    def hardware(self, device: Any, compiled: bool = False) -> str:
        """The same in words, for what is published: units, precision, layout, whether compiled, threads."""
        import torch

        about = f"{_units(device)}, {self.precision_on(device)}, {MEMORY_FORMAT}"
        about += ", compiled" if compiled else ""
        return about if device.type == "cuda" else f"CPU {about}, {torch.get_num_threads()} threads"

    def report(self, what: str) -> Callable[[int, int, Mapping[str, float]], None]:
        """For the epochs of a run: shows each of them."""
        return self.shows.epochs(what)

    def progress(self, what: str, unit: str, kept: bool = False) -> Callable[[int, int], None]:
        """For the parts of other work, `done` of `total`: shows them now and then. `kept`: finished blocks are kept."""
        return self.shows.steps(what, unit, kept)

    def say(self, text: str) -> None:
        """Show one line to the person at the terminal, if there is one."""
        self.shows.say(text)


def _units(device: Any) -> str:
    """A GPU's name, or a processor's instructions and its units for bfloat16, which torch's name does not tell."""
    import torch

    from noisyctl.precision import cpu_units

    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    return " ".join((torch.backends.cpu.get_cpu_capability(), *cpu_units()))
