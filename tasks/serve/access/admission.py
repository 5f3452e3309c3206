"""The number of requests that are answered at once, and of those that wait."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tasks.serve.errors import ApiError

LEAST_RETRY_SECONDS, MOST_RETRY_SECONDS = 1.0, 60.0


class Admission:
    """Places for requests, in the order of their arrival.

    Args:
        concurrency: requests at once.
        queue: requests that may wait.
    """

    def __init__(self, concurrency: int, queue: int) -> None:
        self.concurrency, self.queue = concurrency, queue
        self.active = self.waiting = 0
        self._places = asyncio.Semaphore(concurrency)
        self._mean_seconds = 1.0
        """Of recent requests."""

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """Waits for a place.

        Raises:
            ApiError: 429, as too many requests wait.
        """
        if self._places.locked() and self.waiting >= self.queue:
            message = f"{self.active} requests are answered and {self.waiting} wait: the queue is full."
            raise ApiError(429, "queue_full", message, retry_after=self.retry_seconds)
        self.waiting += 1
        try:
            await self._places.acquire()
        finally:
            self.waiting -= 1
        self.active += 1
        began = asyncio.get_running_loop().time()
        try:
            yield
        finally:
            self.active -= 1
            self._places.release()
            self._mean_seconds += 0.1 * (asyncio.get_running_loop().time() - began - self._mean_seconds)

    @property
    def load(self) -> float:
        """The part of the places that is in use."""
        return self.active / self.concurrency

    @property
    def retry_seconds(self) -> float:
        """The time until a place is probably free."""
        expected = self._mean_seconds * (1 + self.waiting) / self.concurrency
        return min(max(expected, LEAST_RETRY_SECONDS), MOST_RETRY_SECONDS)
