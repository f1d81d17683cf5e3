"""What keeps HTTP connections open, and closes them."""

from types import TracebackType
from typing import Self

import httpx


class Connected:
    """Owns an HTTP client: close it, or use it as an asynchronous context."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        await self._http.aclose()
