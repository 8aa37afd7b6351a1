"""Whether PostgreSQL keeps what it has committed when its host loses power."""

import logging
from typing import NoReturn

from astrotriton.gateway.errors import GatewayError
from astrotriton.gateway.periodic import repeat
from astrotriton.gateway.storage.database import Database
from astrotriton.gateway.storage.durability import read_settings

#: What is at risk where a setting of PostgreSQL is off.
AT_RISK = {
    "fsync": "after a power cut or a crash of its host the whole database may be beyond repair",
    "full_page_writes": "after a power cut a page that was half written damages the database, "
    "unless its file system never leaves one",
    "synchronous_commit": "runs that were answered in the second before a crash of PostgreSQL or "
    "of its host, and their events, are lost",
}

_EVERY = 3600.0
_BACKOFF = (1.0, 60.0)

_log = logging.getLogger(__name__)


class DurabilityService:
    """Looks at PostgreSQL's settings, when the gateway starts and every hour, and warns.

    The settings are the operator's: nothing is changed, and nothing refused.

    Parameters
    ----------
    database
        Whose settings they are.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def run(self) -> NoReturn:
        """Look until cancelled."""
        await repeat(
            self.look,
            _EVERY,
            what="whether PostgreSQL outlives a power cut is not known",
            log=_log,
            at_once=True,
            backoff=_BACKOFF,
            foreseen=(GatewayError,),
        )

    async def look(self) -> list[str]:
        """The settings that put something at risk; each is warned of.

        Raises
        ------
        DependencyError
            If PostgreSQL is away.
        """
        async with self._database.connection() as connection:
            settings = await read_settings(connection, list(AT_RISK))
        risky = [name for name in AT_RISK if settings.get(name) == "off"]
        for name in risky:
            _log.warning("PostgreSQL has %s = off: %s; turn it on", name, AT_RISK[name])
        return risky
