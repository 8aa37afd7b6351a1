"""What people said of detections, to be taken elsewhere."""

from collections.abc import AsyncIterator
from uuid import UUID

from astrotriton.gateway.storage.database import Database
from astrotriton.gateway.storage.labels import LabelFilter as LabelFilter
from astrotriton.gateway.storage.labels import list_given
from astrotriton.wire.labels import LabelPage, StoredLabel

_PAGE = 1000


class LabelService:
    """Lists labels."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self, wanted: LabelFilter, after: UUID | None, limit: int) -> LabelPage:
        """The labels that match, the earliest first, a page of them from one on."""
        async with self._database.transaction() as connection:
            found = await list_given(connection, wanted, after, limit + 1)
        page = found[:limit]
        return LabelPage(labels=page, next=page[-1].id if len(found) > limit else None)

    async def every(self, wanted: LabelFilter) -> AsyncIterator[list[StoredLabel]]:
        """All labels that match, page by page; at least one page."""
        after: UUID | None = None
        while True:
            page = await self.find(wanted, after, _PAGE)
            yield page.labels
            if page.next is None:
                return
            after = page.next
