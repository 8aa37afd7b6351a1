"""The simulation of a site, against queues whose answer is known."""

import numpy as np
import pytest

from benchmarks.scaling.__main__ import plan
from benchmarks.scaling.simulation import Costs, Site, closed, opened
from benchmarks.scaling.surveys import SURVEYS

NOTHING = {"before": 0.0, "after": 0.0}


def test_one_instance_is_the_queue_of_pollaczek_and_khinchine():
    """M/D/1: the mean wait is load / (2 (1 - load)) service times."""
    arrivals = np.cumsum(np.random.default_rng(1).exponential(1.0 / 0.7, size=40_000))
    outcome = opened(Site(inside=10**6, batch=1), Costs(inference=[1.0], **NOTHING), arrivals)
    assert outcome.latencies.mean() == pytest.approx(1.0 + 0.7 / (2 * 0.3), rel=0.05)


def test_clients_that_wait_for_each_other_share_the_slowest_part():
    """The mean latency of a closed set is its size over the throughput (Little 1961)."""
    costs = Costs(before=0.01, after=0.02, inference=[0.2], database=0.005)
    outcome = closed(Site(tritons=2, batch=1), costs, clients=8, exposures=800)
    assert outcome.throughput == pytest.approx(2 / 0.2, rel=0.02)
    assert outcome.latencies.mean() == pytest.approx(8 / outcome.throughput, rel=0.02)


def test_shared_cores_bound_everything():
    costs = Costs(client=0.01, before=0.05, after=0.04, inference=[0.2])
    outcome = closed(Site(tritons=4, instances=2, cores=2, gateway_cores=2), costs, 8, 200)
    assert outcome.throughput == pytest.approx(2 / 0.3, rel=0.05)


def test_tiles_of_an_exposure_are_spread_over_tritons():
    lone = closed(Site(batch=1), Costs(inference=[0.1], **NOTHING), 1, 3, tiles=8)
    spread = closed(Site(tritons=4, batch=1), Costs(inference=[0.1], **NOTHING), 1, 3, tiles=8)
    assert lone.latencies == pytest.approx([0.8] * 3)
    assert spread.latencies == pytest.approx([0.2] * 3)


def test_surveys_have_the_tiles_that_they_are_known_for():
    rates = {one.name: one.tiles_per_second for one in SURVEYS}
    assert rates == pytest.approx(
        {"ATLAS": 16.9, "DECam": 51.7, "ZTF": 102.4, "Pan-STARRS": 157.1, "Rubin": 510.8}, rel=0.01
    )


def test_a_plan_keeps_up():
    costs = Costs(before=0.01, after=0.01, inference=[0.1], database=0.005)
    (atlas, *_) = SURVEYS
    gpus, gateways, outcome = plan(atlas, costs, rate=100.0)
    assert (gpus, gateways) == (1, 1)
    assert outcome.latencies.max() <= atlas.cadence
