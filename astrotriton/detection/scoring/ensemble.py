"""How far versions of a model disagree about the same sources."""

from collections.abc import Sequence

import msgspec
import numpy as np

from astrotriton.detection.logits import logit
from astrotriton.detection.scoring.scored import Scored
from astrotriton.wire.detections import Candidate


def candidates_of(scored: Scored) -> list[Candidate]:
    """The kept detections, to be put to another version as candidates.

    A centroid can lie beyond the outermost pixel; the candidate then lies on that.
    """
    height, width = scored.shape
    return [
        Candidate(
            id=str(i), x=min(max(one.x, 0.0), width - 1.0), y=min(max(one.y, 0.0), height - 1.0)
        )
        for i, one in enumerate(scored.detections)
        if one.outcome == "kept" and one.x is not None and one.y is not None
    ]


def with_ensemble_std(scored: Scored, others: Sequence[Scored]) -> Scored:
    """Add what other versions say.

    Parameters
    ----------
    scored
        The answer of the version that is asked.
    others
        What each other version said of `candidates_of` it.

    Returns
    -------
    Scored
        The same, with `Detection.ensemble_std`: the standard deviation, over all versions, of the
        logit of the network's probability.
    """
    if not others:
        return scored
    opinions = [_probabilities(other) for other in others]
    detections = []
    for i, detection in enumerate(scored.detections):
        said = [opinion.get(str(i)) for opinion in opinions]
        known = [detection.probability, *said]
        if detection.outcome == "kept" and None not in known:
            spread = float(np.std(logit(np.array(known, dtype=np.float64))))
            detection = msgspec.structs.replace(detection, ensemble_std=spread)
        detections.append(detection)
    return msgspec.structs.replace(scored, detections=detections)


def _probabilities(scored: Scored) -> dict[str, float | None]:
    """What a version answered to each candidate, also to one that it merged into another."""
    result = {}
    for one in scored.detections:
        if one.candidate_id is not None:
            source = one if one.merged_into is None else scored.detections[one.merged_into]
            result[one.candidate_id] = source.probability
    return result
