import msgspec
import numpy as np
import pytest
from scipy.special import expit, logit

from astrotriton.detection.confidence.guarantee import RiskCurve
from astrotriton.detection.confidence.model import ConfidenceModel, Outliers
from astrotriton.recalibration.fit import UnfitLabelsError, recalibrate
from astrotriton.recalibration.sources import LabelledSources, weigh
from astrotriton.wire.confidence import CalibrationMap

MODEL = ConfidenceModel(
    names=("score", "shape"),
    mean=(0.0, 0.0),
    scale=(1.0, 1.0),
    weights=(1.0, 0.0),
    intercept=0.0,
    calibration=CalibrationMap(method="isotonic", score=(-9.0, 9.0), calibrated=(-9.0, 9.0)),
    scatter=0.4,
    outliers=Outliers(precision=((1.0, 0.0), (0.0, 1.0)), limit=99.0),
    risk=RiskCurve(thresholds=(0.9, 0.5), risk=(0.0, 0.0), exposures=400),
    fitted_on="a test",
    sources=10,
)
EXPOSURES, EACH = 40, 200


def labelled(
    count: int = 600,
    *,
    slope: float = 1.0,
    offset: float = 0.0,
    shape: float = 0.0,
    interest: float = 0.0,
    seed: int = 1,
) -> LabelledSources:
    """Sources of which what is real is known; those that look real are labelled more often."""
    rng = np.random.default_rng(seed)
    table = np.stack(
        [rng.normal(-3.0, 3.0, EXPOSURES * EACH), rng.normal(size=EXPOSURES * EACH)], axis=1
    )
    real = rng.random(len(table)) < expit(slope * table[:, 0] + offset + shape * table[:, 1])
    chance = np.exp(interest * table[:, 0])
    chosen = rng.choice(len(table), count, replace=False, p=chance / chance.sum())
    return LabelledSources(
        table=table[chosen],
        real=real[chosen],
        exposure=(np.arange(len(table)) // EACH)[chosen],
        answered=table[chosen, 0],
        population=table[:, 0],
    )


def confidences(model: ConfidenceModel, table: np.ndarray) -> np.ndarray:
    return expit(model.logits(table))


def test_a_confidence_that_holds_is_left_alone() -> None:
    found = recalibrate(MODEL, labelled())
    assert found.method == "none"
    assert found.model == MODEL
    assert found.gain == 0.0
    assert found.before == found.after


@pytest.mark.parametrize(
    ("how", "method"),
    [
        ({"offset": -2.5}, "shift"),
        ({"slope": 0.4, "offset": 1.0}, "line"),
        ({"shape": 2.5}, "features"),
    ],
)
def test_as_little_is_changed_as_the_labels_speak_for(how: dict[str, float], method: str) -> None:
    found = recalibrate(MODEL, labelled(1500, **how))
    assert found.method == method
    assert found.gain > 2.0 * found.gain_error
    assert found.after.ece < found.before.ece + 0.005
    grid = np.array([[score, shape] for score in (-4.0, 0.0, 3.0) for shape in (-1.0, 1.0)])
    truth = how.get("slope", 1.0) * grid[:, 0] + how.get("offset", 0.0)
    truth += how.get("shape", 0.0) * grid[:, 1]
    before, after = (
        np.abs(confidences(one, grid) - expit(truth)).max() for one in (MODEL, found.model)
    )
    assert after < 0.12 < before
    assert found.model.prevalence == pytest.approx(found.prevalence, abs=1e-6)
    assert "1500 labels of 40 exposures" in found.model.fitted_on
    assert "before that: a test" in found.model.fitted_on


def test_weights_undo_that_people_label_what_looks_interesting() -> None:
    sources = labelled(800, interest=0.5)
    weights = weigh(sources)
    truth = np.mean(expit(sources.population))
    assert np.mean(sources.real) > 3.0 * truth
    assert np.average(sources.real, weights=weights.values) == pytest.approx(truth, rel=0.35)
    assert weights.values.mean() == pytest.approx(1.0)
    assert weights.values.max() <= 30.0
    assert 20.0 < weights.effective < 800.0
    assert 0.0 <= weights.unspoken < 0.5
    # So that what is right already is not bent to the share of what was labelled.
    assert recalibrate(MODEL, sources).prevalence < 2.0 * truth


def test_what_is_vouched_for_rests_on_the_labels() -> None:
    found = recalibrate(MODEL, labelled(3000, offset=2.0)).model
    promise = found.guarantee(0.3)
    assert 0.05 < promise.threshold < 0.95
    assert promise.exposures == EXPOSURES
    fresh = labelled(8000, offset=2.0, seed=2)
    called = confidences(found, fresh.table) >= promise.threshold
    assert np.mean(~fresh.real[called]) < 0.3


def test_it_is_written_and_read() -> None:
    found = recalibrate(MODEL, labelled(800, offset=-2.5)).model
    assert msgspec.json.decode(msgspec.json.encode(found), type=ConfidenceModel) == found


@pytest.mark.parametrize(
    ("keep", "said"),
    [
        (lambda s: np.arange(len(s.real)) < 40, "40 labels: 50 at least"),
        (lambda s: ~s.real, "0 of .* labels say real"),
        (lambda s: s.real, "0 of .* labels say artefact"),
        (lambda s: s.exposure < 4, "of 4 exposures: 5 at least"),
    ],
)
def test_too_few_labels_are_refused(keep, said: str) -> None:
    whole = labelled(4000, offset=3.0)
    kept = keep(whole)
    part = LabelledSources(
        whole.table[kept],
        whole.real[kept],
        whole.exposure[kept],
        whole.answered[kept],
        whole.population,
    )
    with pytest.raises(UnfitLabelsError, match=said):
        recalibrate(MODEL, part)


def test_the_prior_is_that_of_the_population() -> None:
    found = recalibrate(MODEL, labelled(2000, offset=-2.5, interest=0.3))
    everything = labelled(EXPOSURES * EACH, offset=-2.5)
    assert logit(found.prevalence) == pytest.approx(logit(everything.real.mean()), abs=0.6)
