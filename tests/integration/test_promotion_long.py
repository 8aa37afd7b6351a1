"""Ten thousand requests that never pause, through all that becomes of a version."""

import time

import pytest

from astrotriton.export import promotion
from astrotriton.export.release import Role
from tests.integration.promotion_parts import NAME, Client, Timeline, promoted_site, reset

pytestmark = pytest.mark.long

REQUESTS = 10_000


@pytest.mark.timeout(3600)
def test_ten_thousand_requests_are_answered_by_what_may_answer(tmp_path, capsys):
    with promoted_site(tmp_path) as site:
        client, timeline = Client(site.gateway.url), Timeline(1)

        def until_promoted():
            """The gateway makes the challenger the champion by itself."""
            site.release(2, Role(mode="canary", automatic=True))
            while (canary := site.gateway.canary(NAME)).status == "running":
                time.sleep(0.2)
            assert canary.status == "promoted", canary.reason

        def life():
            shadow = Role(mode="shadow", fraction=1.0)
            timeline.change({1}, lambda: site.release(2, shadow))
            client.wait_for(20)
            timeline.change({1, 2}, lambda: site.release(2, Role(mode="canary", fraction=0.5)))
            client.wait_for(20)
            timeline.change({1}, lambda: promotion.withdraw(NAME, site.serving()))
            client.wait_for(20)
            timeline.change({2}, lambda: site.release(2))
            client.wait_for(20)
            timeline.change({1}, lambda: promotion.rollback(NAME, site.serving()))
            client.wait_for(20)
            timeline.change({2}, until_promoted)
            client.wait_for(20)
            timeline.change({1}, lambda: promotion.rollback(NAME, site.serving()))
            client.wait_for(20)
            # Its gates are asked anew the next time.
            reset(site, 2)

        lives = 0
        with client.asking():
            while len(client.answers) < REQUESTS:
                life()
                lives += 1
        failed = [one for one in client.answers if one.status != 200]
        with capsys.disabled():
            print(f"\n{len(client.answers)} requests through {lives} lives, {len(failed)} failed")
        assert not failed, {one.text for one in failed}
        assert not timeline.wrong(client.answers)
        assert {one.version for one in client.answers} == {1, 2}
