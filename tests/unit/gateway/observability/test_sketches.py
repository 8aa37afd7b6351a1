import numpy as np
import pytest

from astrotriton.gateway.observability.sketches import CONFIDENCE_BINS, Sketch
from astrotriton.gateway.storage.performance import difference


def test_merged_quantiles_are_within_a_percent_of_exact_ones():
    values = np.random.default_rng(1).lognormal(-1.0, 1.0, 5000)
    parts = [Sketch(), Sketch()]
    for i, value in enumerate(values):
        parts[i % 3 == 0].add(float(value))
    merged = Sketch(parts[0].counts + parts[1].counts, parts[0].total + parts[1].total)
    assert merged.count == 5000
    assert merged.mean == pytest.approx(values.mean())
    for share in (0.5, 0.9, 0.95, 0.99):
        exact = np.quantile(values, share, method="lower")
        assert merged.quantile(share) == pytest.approx(exact, rel=0.01)


def test_a_quantile_needs_something_beyond_it():
    sketch = Sketch()
    assert sketch.quantile(0.5) is None
    assert sketch.mean is None
    for i in range(99):
        sketch.add(i / 10)
    assert sketch.quantile(0.95) is not None
    assert sketch.quantile(0.99) is None
    sketch.add(0.0)
    assert sketch.quantile(0.99) is not None


def test_confidences_fall_into_equal_bins():
    sketch = Sketch()
    sketch.add_confidences([0.0, 0.049, 0.5, 1.0, 1.0])
    sketch.add_confidences([])
    assert dict(sketch.counts) == {0: 2, 10: 1, CONFIDENCE_BINS - 1: 2}
    assert sketch.mean == pytest.approx(2.549 / 5)


def test_what_servers_counted_adds_up_over_servers_and_restarts():
    counted = [
        ("a", {"requests": 10, "queue_ns": 100}),
        ("a", {"requests": 15, "queue_ns": 160}),
        # Started anew in between.
        ("a", {"requests": 2, "queue_ns": 30}),
        ("b", {"requests": 7, "queue_ns": 70}),
        ("b", {"requests": 8, "queue_ns": 75, "batch.4": 1}),
    ]
    assert difference(counted) == {"requests": 5 + 2 + 1, "queue_ns": 60 + 30 + 5, "batch.4": 1}
    assert difference([]) == {}
