"""Looking detections up."""

from uuid import UUID

from gateway.errors import NotFoundError
from gateway.schemas import StoredDetection
from gateway.storage.database import Database
from gateway.storage.detections import find_detection


class DetectionService:
    """Reads what was scored."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, detection_id: UUID) -> StoredDetection:
        """A detection.

        Raises
        ------
        NotFoundError
            If there is none of that id.
        """
        async with self._database.transaction() as connection:
            detection = await find_detection(connection, detection_id)
        if detection is None:
            raise NotFoundError(f"no detection has the id {detection_id}")
        return detection
