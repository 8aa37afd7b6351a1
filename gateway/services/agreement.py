"""How far two versions agree on exposures that both have scored."""

from collections.abc import Sequence

import msgspec
import numpy as np

from astrotriton.detection.errors import InputError
from astrotriton.gateway.services.catalogue import CatalogueService
from astrotriton.gateway.services.performance import read_window
from astrotriton.gateway.services.shadow import compare_kept
from astrotriton.gateway.storage.agreement import find_comparisons, find_kept, find_twins
from astrotriton.gateway.storage.database import Database
from astrotriton.gateway.storage.shadow import Comparison
from astrotriton.wire.agreement import Agreement
from astrotriton.wire.models import VersionRef

_MOST = 200  # pairs of runs whose sources are compared


class AgreementService:
    """Puts two versions side by side, on what was scored of late.

    Parameters
    ----------
    database, catalogue
        Where runs are, and which versions there are.
    """

    def __init__(self, database: Database, catalogue: CatalogueService) -> None:
        self._database = database
        self._catalogue = catalogue

    async def get(self, model_id: str, other_id: str, text: str) -> Agreement:
        """How far two versions agree.

        What one of them scored in the shadow of the other was compared then. Of runs that callers
        asked of both, the last on each exposure are compared now, the newest 200 exposures.

        Parameters
        ----------
        model_id, other_id
            As `CatalogueService.get` takes them.
        text
            The window.

        Raises
        ------
        NotFoundError
            If there is no such version.
        InputError
            If the window is none, or the two are not two versions of one model.
        """
        window = read_window(text)
        model = await self._catalogue.get(model_id)
        other = await self._catalogue.get(other_id)
        one, two = (VersionRef(name=info.name, version=info.version) for info in (model, other))
        if one.name != two.name or one.version == two.version:
            raise InputError("invalid-request", "with", "give another version of the same model")
        assert other.card is not None, "the catalogue has the card of a single version"
        radius = float(other.card["nms_radius"])
        span = (window.since, window.until)
        async with self._database.transaction() as connection:
            shadowed = await find_comparisons(connection, one.name, one.version, two.version, *span)
            swapped = await find_comparisons(connection, one.name, two.version, one.version, *span)
            twins = await find_twins(connection, one.name, one.version, two.version, *span, _MOST)
            kept = await find_kept(connection, [run for pair in twins for run in pair])
        compared = [
            *shadowed,
            *(_turned(comparison) for comparison in swapped),
            *(compare_kept(kept[ours], kept[theirs], radius) for ours, theirs in twins),
        ]
        matched = sum(each.matched for each in compared)
        changed = sum(each.verdicts_changed for each in compared)
        reason = None
        if not compared:
            reason = f"no exposure was scored by versions {one.version} and {two.version}"
        elif not matched:
            reason = "they have no source in common"
        return Agreement(
            model=one,
            other=two,
            window=window,
            exposures=len(compared),
            shadowed=len(shadowed) + len(swapped),
            matched=matched,
            only_model=sum(each.only_champion for each in compared),
            only_other=sum(each.only_challenger for each in compared),
            verdicts_changed=changed,
            agreement=1.0 - changed / matched if matched else None,
            mean_difference=_mean(compared),
            largest_difference=max(
                (each.largest_difference or 0.0 for each in compared if each.matched), default=None
            ),
            reason=reason,
        )


def _turned(comparison: Comparison) -> Comparison:
    """A comparison as the other one of the two would tell it."""
    return msgspec.structs.replace(
        comparison,
        only_champion=comparison.only_challenger,
        only_challenger=comparison.only_champion,
    )


def _mean(compared: Sequence[Comparison]) -> float | None:
    """The mean difference of all pairs."""
    pairs = [each for each in compared if each.matched]
    if not pairs:
        return None
    return float(
        np.average(
            [each.mean_difference or 0.0 for each in pairs],
            weights=[each.matched for each in pairs],
        )
    )
