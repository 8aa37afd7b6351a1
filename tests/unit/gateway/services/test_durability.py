"""What is said of a PostgreSQL that would lose what it has committed."""

import logging

import pytest

from astrotriton.gateway.services.durability import AT_RISK, DurabilityService
from tests.unit.gateway.services.stand_ins import running, until

_SAFE = {"fsync": "on", "full_page_writes": "on", "synchronous_commit": "remote_apply"}


@pytest.mark.parametrize("name", AT_RISK)
async def test_a_setting_that_is_off_is_warned_of(memory, caplog, name):
    memory.server_settings = _SAFE | {name: "off"}
    with caplog.at_level(logging.WARNING):
        async with running(DurabilityService(memory).run()):
            await until(lambda: f"{name} = off: {AT_RISK[name]}" in caplog.text)
    assert caplog.text.count("= off") == 1


@pytest.mark.parametrize("commit", ["on", "local", "remote_write", "remote_apply"])
async def test_what_is_safe_is_not_spoken_of(memory, caplog, commit):
    memory.server_settings = _SAFE | {"synchronous_commit": commit}
    with caplog.at_level(logging.WARNING):
        assert await DurabilityService(memory).look() == []
    assert caplog.text == ""
