"""Zarr v3 groups that are whole or absent, and whose every byte is checked on reading.

A group's attributes are `kind`, `schema_version`, `params`, `inputs` (name to digest), `arrays` (name to sha256 of its
decoded bytes), what the kind adds, and `digest`: the sha256 of all the others. So one array can be verified without
reading its neighbors, and the digest stands for every value. No time, host or path goes in: the same work gives the same
bytes, and whatever depends on it need not run again.
"""

import contextlib
import hashlib
import json
import math
import re
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from noisyctl.artifacts.files import exists, publish
from noisyctl.errors import ArtifactError

ROWS = 8192  # samples a chunk
STORED = re.compile(r"zarr\.json|(?P<array>[a-z0-9_]+)/(zarr\.json|c(/\d+)*)")  # files of an artifact


@dataclass(frozen=True)
class Array:
    """One array of a kind: numpy dtype, dimension names, meaning. `<split>` and `<name>` stand for any word.

    `also` is a second form with other dimensions.
    """

    dtype: str
    dims: tuple[str, ...]
    meaning: str
    optional: bool = False
    also: tuple[str, ...] | None = None

    def dims_of(self, ndim: int) -> tuple[str, ...] | None:
        """The dimension names of an array with so many axes; None where it has no such form."""
        return next((dims for dims in (self.dims, self.also) if dims is not None and len(dims) == ndim), None)


@dataclass(frozen=True)
class Kind:
    """What an artifact of this kind holds, and which command makes it."""

    name: str
    version: int
    purpose: str
    arrays: Mapping[str, Array]
    attributes: Mapping[str, str] = field(default_factory=dict)
    made_by: str = ""

    def find(self, array: str) -> tuple[Array, str] | None:
        """The declaration that an array's name falls under, and the word that stands for its first `<...>`."""
        for name, spec in self.arrays.items():
            if found := re.fullmatch(re.sub("<[a-z]+>", "([a-z0-9_]+)", name), array):
                return spec, next(iter(found.groups()), "")
        return None


@dataclass(frozen=True)
class Form:
    """How to recognize an artifact of a kind, also a damaged one: what may be replaced by another of that kind."""

    kind: Kind

    def foreign(self, path: Path) -> str | None:
        """Why what stands at `path` is no artifact of this kind, or holds more than one; None where it is one."""
        if not path.is_dir():
            return f"is a file, not {self.kind.name} that noisyctl wrote"
        with contextlib.suppress(OSError, ValueError, AttributeError):
            found = json.loads((path / "zarr.json").read_text())["attributes"].get("kind")
            if found != self.kind.name:
                return f"is {found or 'a Zarr group of another program'}, not {self.kind.name}"
        held = [p.relative_to(path).as_posix() for p in path.rglob("*") if not p.is_dir()]
        if "zarr.json" not in held:
            return f"is a folder, not {self.kind.name} that noisyctl wrote"
        for name in sorted(held):
            array = STORED.fullmatch(name)
            if array is None or (array["array"] and self.kind.find(array["array"]) is None):
                return f"holds {name}, which noisyctl did not write"
        return None


@dataclass(frozen=True)
class Artifact:
    """An opened artifact. Arrays are read, and verified, when asked for."""

    path: Path
    kind: Kind
    attributes: Mapping[str, Any]
    group: Any

    @property
    def digest(self) -> str:
        return str(self.attributes["digest"])

    @property
    def inputs(self) -> Mapping[str, str]:
        return dict(self.attributes["inputs"])

    def __contains__(self, name: str) -> bool:
        return name in self.attributes["arrays"]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(sorted(self.attributes["arrays"]))

    def array(self, name: str) -> np.ndarray:
        """The whole array. Raises ArtifactError where it is absent or a byte of it differs from what was written."""
        if name not in self:
            raise ArtifactError(
                f"{self.path} has no array {name!r} (it has {', '.join(self.names)}); {self.remake}"
            )
        try:
            values = np.asarray(self.group[name][...])
        except Exception as error:  # zarr and its codecs raise many types on damaged bytes
            raise self._damaged(name, str(error).split("\n")[0]) from error
        if values.dtype.kind in "OU":
            values = values.astype(np.dtypes.StringDType())
        if array_digest(values) != self.attributes["arrays"][name]:
            raise self._damaged(name, "its values are not those that were written")
        return values

    def lazy(self, name: str) -> Any:
        """The zarr array, to be read in blocks; its chunks carry crc32c sums."""
        if name not in self:
            raise ArtifactError(
                f"{self.path} has no array {name!r} (it has {', '.join(self.names)}); {self.remake}"
            )
        return self.group[name]

    def checked_rows(self, name: str) -> Any:
        """The zarr array, to be read in blocks, once its bytes are known to be those that were written.

        Raises ArtifactError as `array` does, which holds the whole array for it.
        """
        rows = self.lazy(name)
        digest = _numbers_digest(rows)
        for start in range(0, rows.shape[0], rows.chunks[0]):
            try:
                digest.update(rows[start : start + rows.chunks[0]].tobytes())
            except Exception as error:  # zarr and its codecs raise many types on damaged bytes
                raise self._damaged(name, _first_line(error)) from error
        if digest.hexdigest() != self.attributes["arrays"][name]:
            raise self._damaged(name, "its values are not those that were written")
        return rows

    def _damaged(self, name: str, why: str) -> ArtifactError:
        return ArtifactError(f"{self.path}: array {name!r} is damaged ({why}); {self.remake}")

    @property
    def remake(self) -> str:
        return f"remake it with `{self.kind.made_by}`"


def write(
    path: Path,
    kind: Kind,
    arrays: Mapping[str, np.ndarray],
    *,
    params: Mapping[str, Any] | None = None,
    inputs: Mapping[str, str] | None = None,
    attributes: Mapping[str, Any] | None = None,
) -> str:
    """Publish an artifact whole and return its digest."""
    import zarr

    arrays = {
        name: np.ascontiguousarray(_conform(kind, name, values)) for name, values in sorted(arrays.items())
    }
    header: dict[str, Any] = dict(attributes or {}) | {
        "kind": kind.name,
        "schema_version": kind.version,
        "params": dict(params or {}),
        "inputs": dict(inputs or {}),
        "arrays": {name: array_digest(values) for name, values in arrays.items()},
    }
    header = json.loads(canonical(header))
    header["digest"] = header_digest(header)
    with publish(path, Form(kind)) as partial, _quiet_zarr():
        group = zarr.open_group(partial, mode="w", zarr_format=3)
        for name, values in arrays.items():
            _write_array(group, name, values, kind)
        group.attrs.update(header)
        zarr.consolidate_metadata(group.store)
    return str(header["digest"])


def _write_array(group: Any, name: str, values: np.ndarray, kind: Kind) -> None:
    from zarr.codecs import BloscCodec, Crc32cCodec

    found = kind.find(name)
    assert found is not None
    spec, split = found
    dims = [dim.replace("<split>", split) for dim in spec.dims_of(values.ndim) or ()]
    chunks = tuple(
        min(size, ROWS) if dim.endswith("sample") else max(size, 1)
        for dim, size in zip(dims, values.shape, strict=True)
    )
    text = values.dtype.kind == "T"
    array = group.create_array(
        name,
        shape=values.shape,
        dtype=str if text else values.dtype,
        chunks=tuple(max(chunk, 1) for chunk in chunks),
        compressors=[
            BloscCodec(cname="zstd", clevel=5, shuffle="noshuffle" if text else "bitshuffle"),
            Crc32cCodec(),
        ],
        dimension_names=dims,
    )
    if values.size:
        array[...] = values.astype(object) if text else values


def _conform(kind: Kind, name: str, values: np.ndarray) -> np.ndarray:
    found = kind.find(name)
    assert found is not None, f"{kind.name} declares no array {name}"
    spec, values = found[0], np.asarray(values)
    if spec.dtype == "str":
        return values.astype(np.dtypes.StringDType())
    assert spec.dims_of(values.ndim), f"{kind.name}.{name}: {values.shape} for {spec.dims}"
    return values.astype(spec.dtype, copy=False)


def read(path: Path, kind: Kind) -> Artifact:
    """Open an artifact and check kind, version, digest, names, types and sizes.

    Raises ArtifactError that says which artifact is wrong, how, and which command remakes it.
    """
    import zarr

    remake = f"make it with `{kind.made_by}`"
    if not exists(path):
        raise ArtifactError(f"{path} does not exist; {remake}")
    try:
        with _quiet_zarr():
            group = zarr.open_group(path, mode="r", zarr_format=3, use_consolidated=True)
            header = dict(group.attrs)
        consolidated = json.loads((path / "zarr.json").read_text())["consolidated_metadata"]["metadata"]
    except Exception as error:  # a damaged zarr.json raises json, key and type errors
        raise ArtifactError(f"{path} is not a readable artifact ({_first_line(error)}); {remake}") from error
    found = header.get("kind")
    if found != kind.name:
        raise ArtifactError(f"{path} is {found or 'no noisyctl artifact'}, not {kind.name}; {remake}")
    if header.get("schema_version") != kind.version:
        raise ArtifactError(
            f"{path} has schema version {header.get('schema_version')}, this noisyctl reads {kind.version}; {remake}"
        )
    if header.get("digest") != header_digest(header):
        raise ArtifactError(f"{path}: its attributes are not those that were written; {remake}")
    artifact = Artifact(path, kind, header, group)
    _check_arrays(artifact, consolidated)
    return artifact


def _check_arrays(artifact: Artifact, consolidated: Mapping[str, Any]) -> None:
    sizes: dict[str, tuple[int, str]] = {}
    for name in artifact.names:
        found = artifact.kind.find(name)
        try:
            if json.loads((artifact.path / name / "zarr.json").read_text()) != consolidated[name]:
                raise ValueError("its zarr.json is not the one that was written")
            array = artifact.group[name]
            shape, dims = array.shape, list(array.metadata.dimension_names or ())
        except Exception as error:
            raise artifact._damaged(name, _first_line(error)) from error
        if found is None or found[0].dims_of(len(shape)) is None:
            raise artifact._damaged(
                name, f"shape {shape} does not fit {found[0].dims if found else 'this kind'}"
            )
        for dim, size in zip(dims, shape, strict=True):
            known, other = sizes.setdefault(dim, (size, name))
            if known != size:
                raise artifact._damaged(name, f"{size} along {dim}, {other} has {known}")
    for name, spec in artifact.kind.arrays.items():
        if not spec.optional and name not in artifact:
            raise ArtifactError(f"{artifact.path} lacks the array {name!r}; {artifact.remake}")


def require_input(artifact: Artifact, name: str, digest: str, other: Path) -> None:
    """Refuse an artifact that was made from something else than `other`."""
    made_from = artifact.inputs.get(name)
    if made_from != digest:
        raise ArtifactError(
            f"{artifact.path} was not made from {other} (another data set, another size or an older version); "
            f"{artifact.remake}"
        )


def require_digest(artifact: Artifact, digest: str) -> None:
    """Refuse an artifact that is no longer the one that a command began with, or is another one on this machine."""
    if artifact.digest != digest:
        raise ArtifactError(f"{artifact.path} is not the one that the command began with; run it again")


def array_digest(values: np.ndarray) -> str:
    """sha256 over dtype, shape and C-ordered bytes; of text, over its JSON."""
    if values.dtype.kind == "T":
        return hashlib.sha256(f"str{list(values.shape)}{json.dumps(values.tolist())}".encode()).hexdigest()
    digest = _numbers_digest(values)
    digest.update(np.ascontiguousarray(values).reshape(-1).view(np.uint8).data if values.size else b"")
    return digest.hexdigest()


def _numbers_digest(values: Any) -> Any:
    """The start of an array's digest: dtype and shape."""
    return hashlib.sha256(f"{values.dtype.str}{list(values.shape)}".encode())


def header_digest(header: Mapping[str, Any]) -> str:
    return hashlib.sha256(canonical({k: v for k, v in header.items() if k != "digest"}).encode()).hexdigest()


def canonical(value: Any) -> str:
    """Sorted JSON without NaN: the one text that a value has."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, default=_plain)


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} cannot stand in an attribute")


def finite_or_none(value: float) -> float | None:
    """A number for an attribute or a metrics file: what is not finite has no JSON."""
    return float(value) if math.isfinite(value) else None


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).split("\n")[0]


@contextlib.contextmanager
def _quiet_zarr() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", message=".*(not part in the Zarr format 3|does not have a Zarr V3 spec).*"
        )
        yield
