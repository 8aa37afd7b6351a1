"""Every kind of fault once, under load: nothing lost, nothing doubled, nobody left waiting."""

import asyncio
from pathlib import Path

import pytest

from astrotriton.stack import Addresses
from benchmarks.faults import FAULTS, Report, Victim, audit, can_fill_disk, hurt

pytestmark = pytest.mark.faults


def test_faults_under_load(
    served: Addresses, served_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    faults = list(FAULTS)
    if not can_fill_disk(served_data):
        faults = [name for name in faults if "disk" not in name]
    report = Report()

    async def run() -> None:
        try:
            await hurt(Victim(served_data, served), faults, report)
            await audit(served.database_url, served.nats_url, report)
        finally:
            with capsys.disabled():
                print(f"\n{report}")

    asyncio.run(run())
    assert set(report.recoveries) == set(faults)
    assert report.answers
    assert report.broken == []
