"""Images that do not fit in memory: they are decoded from their files ahead of use. `images[index]` works as for a tensor.

An image has the same bytes as where the data set `folder` keeps pixels, since the same decoder reads the file. The decoder
runs in several threads, which PIL allows. The number of threads and what was announced change how long it takes, and never
what comes out.

Several orders of batches may be announced at once, such as those of a labeled and an unlabeled side. Each order is decoded
ahead in its own share of the memory. The positions of announced batches are kept here as numbers: to read them back from the
GPU would mean to wait until it has finished all its work.
"""

import contextlib
import os
import zlib
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int, UInt8, UInt32
from torch import Tensor

from noisyctl.errors import DataError
from noisyctl.images import Unusable, content_of, decode, reason_of


@dataclass
class _Order:
    """An announced order of positions."""

    coming: list[int]  # positions not yet given to the decoder, in reverse: the next one stands last
    waiting: set[int]  # positions given to the decoder and not yet asked for
    rows: dict[tuple[int, int, int], list[int]]  # the positions of each batch, by the batch's place in memory
    batches: list[Tensor]  # kept, so that no other tensor takes the same place


class FileImages:
    """The images of one split, in the order of `paths`, which are relative to `root`.

    At most `memory` bytes of decoded images are kept. Some are the images that were asked for last, so that a second view of
    a batch need not be decoded again. The others were announced by `prefetch` and not asked for yet: they may take half of
    the memory, which the orders share equally. When a further order begins, the earlier ones may for a while hold more than
    their new share; for this there is a further quarter of the memory. `checksums` are the CRC-32 of each file; with them, a
    file that has changed is refused. Call `close`, or use the object in a `with`, to stop the threads.
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
        self._kept: OrderedDict[int, Future[UInt8[np.ndarray, "size size ch"]]] = (
            OrderedDict()
        )  # images that were asked for
        self._ahead: dict[
            int, Future[UInt8[np.ndarray, "size size ch"]]
        ] = {}  # images that will be asked for
        self._capacity = max(2, memory // (image_size * image_size * channels))
        self._orders: list[_Order] = []
        self._joined: tuple[Tensor, list[int]] | None = None
        self._pool = ThreadPoolExecutor(workers or os.cpu_count() or 1, "decode")

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Int[Tensor, " b"]) -> UInt8[Tensor, "b size size ch"]:
        """The images at these positions, on the device. Raises DataError, which names the file, if one cannot be read."""
        rows = self._rows_of(index)
        futures = [self._decoded(row) for row in rows]
        for order in self._orders:
            order.waiting.difference_update(rows)
        self._look_ahead()
        images = torch.empty((len(rows), *self.shape[1:]), dtype=torch.uint8, pin_memory=self._is_cuda)
        array = images.numpy()
        for place, future in enumerate(futures):
            array[place] = future.result()
        self._forget()
        return images.to(self.device, non_blocking=True)

    @contextlib.contextmanager
    def prefetch(self, batches: Sequence[Int[Tensor, " _"]]) -> Iterator[None]:
        """Announce coming batches, in their order.

        Inside the block they are decoded while earlier batches are in use.
        """
        rows: list[int] = torch.cat(list(batches)).tolist() if batches else []
        parts = iter(rows)
        known = {_place(batch): [next(parts) for _ in range(len(batch))] for batch in batches}
        order = _Order(rows[::-1], set(), known, list(batches))
        self._orders.append(order)
        self._look_ahead()
        self._forget()
        try:
            yield
        finally:
            self._orders = [other for other in self._orders if other is not order]
            self._drop(order.waiting)

    def join(self, parts: Sequence[Int[Tensor, " _"]]) -> Int[Tensor, " b"]:
        """Several announced batches as one tensor, of which the positions are then known as numbers as well."""
        joined = torch.cat(list(parts))
        self._joined = joined, [row for part in parts for row in self._rows_of(part)]
        return joined

    def split(self, size: int) -> Iterator[UInt8[Tensor, "b size size ch"]]:
        """All images in order, in batches."""
        batches = torch.arange(len(self)).split(size)
        with self.prefetch(batches):
            for index in batches:
                yield self[index]

    def close(self) -> None:
        """Stop the threads. What they have not begun is dropped."""
        self._pool.shutdown(cancel_futures=True)

    def __enter__(self) -> "FileImages":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def _is_cuda(self) -> bool:
        return self.device.type == "cuda"

    def _decoded(self, row: int) -> "Future[UInt8[np.ndarray, 'size size ch']]":
        """The image at a row, whose decoding may still be going on. It counts as used last from now on."""
        future = self._take(row)
        self._kept[row] = future
        return future

    def _take(self, row: int) -> "Future[UInt8[np.ndarray, 'size size ch']]":
        found = self._ahead.pop(row, None) or self._kept.pop(row, None)
        return found or self._pool.submit(self._decode, row)

    def _rows_of(self, index: Int[Tensor, " b"]) -> list[int]:
        """The positions as numbers: known from their announcement, or else read from the device."""
        if self._joined is not None and self._joined[0] is index:
            return self._joined[1]
        place = _place(index)
        known = next((order.rows[place] for order in self._orders if place in order.rows), None)
        return index.tolist() if known is None else known

    def _look_ahead(self) -> None:
        """Give the decoder the next images of each order, up to its share."""
        most = self._capacity - self._capacity // 4
        for order in self._orders:
            share = self._capacity // 2 // len(self._orders)
            while order.coming and len(order.waiting) < share and len(self._ahead) < most:
                row = order.coming.pop()
                order.waiting.add(row)
                self._ahead[row] = self._take(row)

    def _drop(self, rows: set[int]) -> None:
        """Give up what an order that has ended was waiting for, except what other orders wait for as well.

        Images whose decoding has not begun are forgotten; the others count as used.
        """
        for row in rows.difference(*(order.waiting for order in self._orders)):
            future = self._ahead.pop(row)
            if not future.cancel():
                self._kept[row] = future
        self._forget()

    def _forget(self) -> None:
        while self._kept and len(self._kept) + len(self._ahead) > self._capacity:
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


def _place(index: Int[Tensor, " b"]) -> tuple[int, int, int]:
    """Where a tensor lies in memory, its length, and how often it was written to.

    These are equal for a batch and for a view of it.
    """
    return index.data_ptr(), index.numel(), index._version
