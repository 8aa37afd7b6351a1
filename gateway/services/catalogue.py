"""The model versions that there are."""

import re
from typing import Any

import msgspec

from astrotriton.gateway.errors import GatewayError, NotFoundError
from astrotriton.gateway.services.models import ModelService
from astrotriton.gateway.storage.database import Database
from astrotriton.gateway.storage.models import find_card, find_models
from astrotriton.gateway.storage.routes import find_route
from astrotriton.wire.models import MODEL_NAME, ModelInfo, Route

_VERSION = re.compile(rf"(?P<name>{MODEL_NAME}):(?P<version>[1-9][0-9]{{0,8}})")
_ALIAS = re.compile(rf"(?P<name>{MODEL_NAME})@(?P<alias>champion|challenger|previous_champion)")


class CatalogueService:
    """Lists the versions that have answered, and those that Triton serves."""

    def __init__(self, database: Database, models: ModelService) -> None:
        self._database = database
        self._models = models

    async def all(self) -> list[ModelInfo]:
        """Every version, the newest first; without their cards."""
        return await self._infos()

    async def get(self, model_id: str) -> ModelInfo:
        """A version.

        Parameters
        ----------
        model_id
            Its UUID, ``NAME:VERSION`` or ``NAME@alias``.

        Raises
        ------
        NotFoundError
            If there is none.
        """
        infos = await self._infos()
        if match := _VERSION.fullmatch(model_id):
            wanted = (match["name"], int(match["version"]))
            infos = [info for info in infos if (info.name, info.version) == wanted]
        elif match := _ALIAS.fullmatch(model_id):
            infos = [i for i in infos if i.name == match["name"] and match["alias"] in i.roles]
        else:
            infos = [info for info in infos if str(info.id) == model_id.lower()]
        if not infos:
            raise NotFoundError(
                f"no model version is {model_id!r}: give a UUID, NAME:VERSION or NAME@champion"
            )
        return msgspec.structs.replace(infos[0], card=await self._card(infos[0]))

    async def _card(self, info: ModelInfo) -> dict[str, Any]:
        if info.first_used_at is None:
            content: str | bytes = (await self._models.get(info.version)).card_json
        else:
            async with self._database.transaction() as connection:
                content = await find_card(connection, info.id)
        return msgspec.json.decode(content, type=dict[str, Any])

    async def _infos(self) -> list[ModelInfo]:
        async with self._database.transaction() as connection:
            rows = await find_models(connection)
            route = await find_route(connection, self._models.name)
        try:
            served: list[int] | None = await self._models.served_versions()
        except GatewayError:
            served = None
        infos = [
            ModelInfo(
                id=row["id"],
                name=row["name"],
                version=row["version"],
                digest=row["digest"],
                card_digest=row["card_digest"],
                roles=self._roles(route, row["name"], row["version"]),
                served=None
                if served is None
                else row["name"] == self._models.name and row["version"] in served,
                first_used_at=row["created_at"],
            )
            for row in rows
        ]
        used = {info.version for info in infos if info.name == self._models.name}
        for version in set(served or ()) - used:
            try:
                model = await self._models.get(version)
            except GatewayError:
                continue
            infos.append(
                ModelInfo(
                    id=model.id,
                    name=model.ref.name,
                    version=version,
                    digest=model.ref.digest,
                    card_digest=model.card_digest,
                    roles=self._roles(route, model.ref.name, version),
                    served=True,
                    first_used_at=None,
                )
            )
        return sorted(infos, key=lambda info: (info.name, -info.version))

    def _roles(self, route: Route | None, name: str, version: int) -> list[str]:
        if route is None or route.name != name:
            return []
        roles = {
            "champion": route.champion,
            "challenger": route.challenger and route.challenger.version,
            "previous_champion": route.previous_champion,
        }
        return [role for role, holder in roles.items() if holder == version]
