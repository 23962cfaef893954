"""The stages of a DVC pipeline: which are stale, and how one is recorded. Only this file knows DVC's API."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import json
import logging
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from noisyctl.errors import ArtifactError, NoisyctlError, ParamsError
from noisyctl.sweep.guarded import GuardedCommand


class StageError(NoisyctlError):
    """DVC refuses a stage, such as one whose dependency does not exist or whose output was not made."""


@dataclass(frozen=True, eq=False)
class Stage:
    """One stage of a pipeline. Everything but its name is to be asked for while the graph is locked."""

    inner: Any
    root: Path

    @property
    def name(self) -> str:
        """The stage as DVC addresses it from this folder: `train@a`, `plans/scanmix/dvc.yaml:train@a`."""
        return str(self.inner.addressing)

    @property
    def is_stale(self) -> bool:
        """Whether dvc.lock does not hold the stage as it is now."""
        return bool(self.inner.changed())

    @property
    def has_outputs(self) -> bool:
        """Whether all that the stage makes is there."""
        return all(out.exists for out in self.inner.outs)

    @property
    def key(self) -> str:
        """A digest that changes with the stage's command, params and dependencies. What DVC knows of it stays as it is."""
        facts = [self.inner.cmd, self.inner.wdir]
        for dep in map(copy.copy, self.inner.deps):
            dep.save()
            facts.append([dep.def_path, dep.hash_info.name, dep.hash_info.value])
        return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()

    def command(self, folder: Path) -> GuardedCommand:
        """The command of the stage as DVC would run it. Its log and marks are files in `folder`."""
        lines = self.inner.cmd if isinstance(self.inner.cmd, list) else [self.inner.cmd]
        inside = os.path.relpath(self.inner.path, self.root)
        name = re.sub(r"[^\w.@+=-]", "-", f"{inside}-{self.inner.name}".removeprefix("dvc.yaml-"))
        here = str(Path(sys.executable).parent)
        return GuardedCommand(
            shell=" && ".join(f"(\n{line}\n)" for line in lines) if len(lines) > 1 else lines[0],
            folder=self.inner.wdir,
            log=str(folder / f"{name}.log"),
            mark=str(folder / f"{name}.done"),
            note=str(folder / f"{name}.job"),
            key=self.key,
            environment={
                "DVC_ROOT": str(self.root),
                "DVC_STAGE": self.name,
                "PATH": f"{here}{os.pathsep}{os.environ.get('PATH', '')}",
            },
        )

    def remove_outputs(self) -> None:
        """Remove what the stage makes, as DVC does before it runs a stage."""
        self.inner.remove_outs(ignore_remove=False, force=False)

    def restore(self) -> bool:
        """Check the outputs out of DVC's run-cache, if they were made from the same things before."""
        from dvc.stage.cache import RunCacheNotFoundError

        try:
            with contextlib.chdir(self.root):  # DVC takes the working folder for a part of the project
                self.inner.repo.stage_cache.restore(self.inner)
        except RunCacheNotFoundError:
            return False
        return True

    def record(self) -> None:
        """Write the stage to dvc.lock and its outputs to the cache, as `dvc commit -f` does."""
        with contextlib.chdir(self.root):
            self.inner.save()
            self.inner.commit()
        self.inner.dvcfile.dump_stages([self.inner], update_pipeline=False)


Upstream = dict[Stage, set[Stage]]


class Graph:
    """The DVC project that a target lies in. Raises NoisyctlError where there is none."""

    def __init__(self, target: str = "") -> None:
        from dvc.exceptions import NotDvcRepoError
        from dvc.repo import Repo

        logging.getLogger("dvc").setLevel(logging.WARNING)  # it tells of every lock file on stdout
        try:
            self.repo = Repo(_project_of(target), _wait_for_lock=True)
        except NotDvcRepoError as error:
            raise NoisyctlError(
                "no DVC repository here; go to its folder, or make one with `dvc init`"
            ) from error

    @property
    def root(self) -> Path:
        return Path(self.repo.root_dir)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Nobody else writes dvc.lock meanwhile. Raises StageError where DVC refuses what is done inside."""
        from dvc.exceptions import DvcException

        try:
            with self.repo.lock:
                yield
        except DvcException as error:
            raise StageError(str(error)) from error

    def upstream(self, target: str) -> Upstream:
        """The target's stages and all that they depend on, each with what it depends on directly, in an order to run them.

        Raises NoisyctlError or ParamsError for a target that does not exist, and ArtifactError for a damaged dvc.lock.
        """
        import networkx
        from dvc.exceptions import DvcException
        from dvc.stage.exceptions import StageNotFound

        if Path(target or ".").is_dir():
            target = str(Path(target or ".", "dvc.yaml"))
            if not Path(target).exists():
                raise NoisyctlError(f"{target} does not exist; name a dvc.yaml, its folder, or a stage")
        if "/" in target and not Path(target.split(":")[0]).exists():
            raise NoisyctlError(f"{target} does not exist; name a dvc.yaml, its folder, or a stage")
        try:
            wanted = self.repo.stage.collect(target, with_deps=True)
            graph = self.repo.index.graph
            place = {stage: i for i, stage in enumerate(self.repo.index.stages)}
        except StageNotFound as error:
            raise ParamsError(f"{error}; `dvc stage list` names the stages") from error
        except DvcException as error:
            raise _explained(error) from error
        order = networkx.lexicographical_topological_sort(
            graph.subgraph(wanted).reverse(), key=place.__getitem__
        )
        found = {inner: Stage(inner, self.root) for inner in order if inner.cmd and not inner.frozen}
        return {
            stage: {found[one] for one in graph.successors(inner) if one in found}
            for inner, stage in found.items()
        }


def _project_of(target: str) -> str | None:
    """The nearest folder with a .dvc around the file or folder that a target names; None for the one around this folder."""
    path = Path(target.split(":")[0])
    if not target or not path.exists():
        return None
    parents = [path.absolute(), *path.absolute().parents]
    return next((str(folder) for folder in parents if (folder / ".dvc").is_dir()), None)


def _explained(error: Exception) -> NoisyctlError:
    text = " ".join(str(error).split())
    lock = re.search(r"[^\s'\"]*dvc\.lock", text)
    if lock:
        return ArtifactError(f"{text}; run `git checkout {lock[0]}`, then the same command again")
    return ParamsError(text)
