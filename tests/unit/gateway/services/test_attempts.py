"""Which version a run is tried with next, and what is counted."""

import time

import pytest

from astrotriton.detection.errors import InputError, PlaneMissingError
from astrotriton.gateway.errors import DependencyError
from astrotriton.gateway.services.attempts import Attempted, ReplacedError, attempt
from astrotriton.gateway.services.routing import Choice

CHAMPION = Choice(None, 3)
CANARY = Choice(None, 4, fallback=3)
GONE = DependencyError("triton", "it is gone")
MISSING = PlaneMissingError("plane-missing", "science", "send it")


class Routes:
    """Chooses one after the other; the last one for ever. It counts what failed, too."""

    def __init__(self, *choices):
        self._choices = list(choices)
        self.failed = []

    async def choose(self, wanted, sticky, *, fresh=False):
        return self._choices.pop(0) if len(self._choices) > 1 else self._choices[0]

    def run_failed(self, version, code, seconds):
        self.failed.append((version, code))


async def attempted(routes, faults):
    """What comes of it if versions have faults, each a list of what is raised in turn."""
    asked = []

    async def run(choice):
        asked.append(choice.version)
        if faults.get(choice.version):
            raise faults[choice.version].pop(0)
        return choice.version

    done = await attempt(routes, routes, None, "exposure", time.perf_counter(), run)
    return done, asked


async def test_the_version_that_is_chosen_answers():
    routes = Routes(CHAMPION)
    assert await attempted(routes, {}) == (Attempted(3, CHAMPION, None), [3])
    assert routes.failed == []


async def test_one_that_was_replaced_is_not_to_blame():
    routes = Routes(CHAMPION, Choice(None, 5))
    done, asked = await attempted(routes, {3: [GONE]})
    assert (done.answer, asked, routes.failed) == (5, [3, 5], [])


async def test_a_run_that_may_no_longer_be_answered_begins_again():
    routes = Routes(CHAMPION, Choice(None, 5))
    done, asked = await attempted(routes, {3: [ReplacedError()]})
    assert (done.answer, done.failed, asked) == (5, None, [3, 5])


@pytest.mark.parametrize("fault", [GONE, MISSING], ids=["triton", "an image that was not sent"])
async def test_what_a_canary_fails_the_champion_answers(fault):
    routes = Routes(CANARY)
    done, asked = await attempted(routes, {4: [fault]})
    assert (done.answer, done.failed, asked) == (3, 4, [4, 3])
    assert routes.failed == [(4, fault.code)]


@pytest.mark.parametrize(
    ("fault", "counted"), [(GONE, [(3, GONE.code)]), (MISSING, [])], ids=["triton", "an image"]
)
async def test_what_the_champion_fails_is_told(fault, counted):
    routes = Routes(CHAMPION)
    with pytest.raises(type(fault)):
        await attempted(routes, {3: [fault]})
    assert routes.failed == counted


async def test_what_both_fail_is_told():
    routes = Routes(CANARY)
    with pytest.raises(DependencyError):
        await attempted(routes, {4: [MISSING], 3: [GONE]})
    assert routes.failed == [(4, "plane-missing"), (3, GONE.code)]


async def test_a_wrong_input_is_no_fault_of_a_version():
    routes = Routes(CANARY)
    with pytest.raises(InputError):
        await attempted(routes, {4: [InputError("not-fits", "exposure", "it is none")]})
    assert routes.failed == []
