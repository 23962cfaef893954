"""Images that do not fit in memory, decoded from their files ahead of use: `images[index]`, as of a tensor.

The bytes equal those that `folder` keeps as pixels: the same decoder reads them, in threads (PIL lets them run side by
side). What comes out depends neither on the number of threads nor on what was announced; only the time does.
"""

import os
import zlib
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int, UInt8, UInt32
from torch import Tensor

from noisyctl.datasets._images import Unusable, content_of, decode, reason_of
from noisyctl.errors import DataError


class FileImages:
    """The images of one split, in the order of `paths`, which are relative to `root`.

    At most `memory` bytes of decoded images are kept: those asked for last, so that a second view of a batch costs no
    decoding, and up to half of it images announced by `prefetch`. With `checksums`, the CRC-32 of each file, a file that
    has changed is refused. Call `close`, or use it in a `with`, so that no thread decodes in vain at the end.
    """

    def __init__(
        self,
        root: Path,
        paths: Sequence[str],
        image_size: int,
        channels: int,
        device: torch.device,
        *,
        checksums: UInt32[np.ndarray, " n"] | None = None,
        workers: int = 0,
        memory: int = 2**30,
    ) -> None:
        self.shape = (len(paths), image_size, image_size, channels)
        self.device = device
        self._root, self._paths, self._checksums = root, paths, checksums
        self._kept: OrderedDict[int, Future[UInt8[np.ndarray, "size size ch"]]] = OrderedDict()
        self._capacity = max(2, memory // (image_size * image_size * channels))
        self._coming: list[int] = []
        self._waiting: set[int] = set()
        self._pool = ThreadPoolExecutor(workers or os.cpu_count() or 1, "decode")

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Int[Tensor, " b"]) -> UInt8[Tensor, "b size size ch"]:
        """The images at these positions, on the device. Raises DataError naming a file that cannot be read."""
        rows = index.tolist()
        futures = [self._decoded(row) for row in rows]
        self._waiting.difference_update(rows)
        self._look_ahead()
        images = torch.empty((len(rows), *self.shape[1:]), dtype=torch.uint8, pin_memory=self._is_cuda)
        array = images.numpy()
        for place, future in enumerate(futures):
            array[place] = future.result()
        self._forget()
        return images.to(self.device, non_blocking=True)

    def prefetch(self, batches: Sequence[Int[Tensor, " _"]]) -> None:
        """Announce the coming batches, in their order: they are decoded while the ones before are in use."""
        self._coming = torch.cat(list(batches)).flip(0).tolist() if batches else []
        self._waiting.clear()
        self._look_ahead()
        self._forget()

    def split(self, size: int) -> Iterator[UInt8[Tensor, "b size size ch"]]:
        """All images in order, in batches."""
        batches = torch.arange(len(self)).split(size)
        self.prefetch(batches)
        for index in batches:
            yield self[index]

    def close(self) -> None:
        """Stop the threads; what they have not begun is dropped."""
        self._pool.shutdown(cancel_futures=True)

    def __enter__(self) -> "FileImages":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def _is_cuda(self) -> bool:
        return self.device.type == "cuda"

    def _decoded(self, row: int) -> "Future[UInt8[np.ndarray, 'size size ch']]":
        """The image, perhaps still to be decoded, as the one used last."""
        future = self._kept.pop(row, None) or self._pool.submit(self._decode, row)
        self._kept[row] = future
        return future

    def _look_ahead(self) -> None:
        while self._coming and len(self._waiting) < self._capacity // 2:
            row = self._coming.pop()
            self._waiting.add(row)
            self._decoded(row)

    def _forget(self) -> None:
        while len(self._kept) > self._capacity:
            self._kept.popitem(last=False)[1].cancel()

    def _decode(self, row: int) -> UInt8[np.ndarray, "size size ch"]:
        _, image_size, _, channels = self.shape
        path = self._root / self._paths[row]
        try:
            with content_of(path) as content:
                if self._checksums is not None and zlib.crc32(content) != self._checksums[row]:
                    raise Unusable("the file has changed since prepare-data read it")
                square, _ = decode(content, image_size, "L" if channels == 1 else "RGB")
        except Exception as error:  # on damaged files PIL raises nearly any type
            cure = "restore the file, or run `noisyctl prepare-data` again"
            raise DataError(f"{path}: {reason_of(error)}; {cure}") from error
        return square.reshape(image_size, image_size, channels)
