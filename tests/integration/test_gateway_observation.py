"""How an exposure was taken: from its header or the request to every way out."""

import json
import math

import asyncpg
import pytest

from tests.integration.gateway_parts import exposure, fits_bytes, infer, npy

OBSERVED = {
    "MJD-OBS": 58334.25,
    "EXPTIME": 172.8,
    "FILTER": "r",
    "BUNIT": "ADU",
    "MAGZERO": 30.0,
}


async def test_how_an_exposure_was_taken_is_answered_stored_and_looked_up(client, settings):
    """From the header or the request; in the answer, the event, the formats and the look-ups."""
    content = fits_bytes(exposure(), header=OBSERVED)
    run = (await infer(client, content)).json()
    taken = run["exposure"]
    assert taken["mjd_mid"] == pytest.approx(58334.251)
    assert taken["observed_at"] == "2018-08-04T06:01:26.400000Z"
    known = {"time_scale": "UTC", "filter": "r", "exposure_time": 172.8, "flux_unit": "adu"}
    known |= {"zero_point": 30.0, "zero_point_source": "MAGZERO"}
    assert {name: taken[name] for name in known} == known
    best = run["detections"][0]
    assert best["mag"] == pytest.approx(30 - 2.5 * math.log10(best["flux"]))
    assert best["mag_err"] == pytest.approx(best["flux_err"] / best["flux"] * 1.0857, rel=1e-4)
    limit = run["image"]["limiting_magnitude"]
    assert limit == pytest.approx(30 - 2.5 * math.log10(run["image"]["depth"]))

    stored = (await client.get(f"/runs/{run['run_id']}")).json()["result"]
    assert (stored["exposure"], stored["image"]) == (taken, run["image"])
    assert stored["detections"] == run["detections"]

    connection = await asyncpg.connect(settings.database_url.get_secret_value())
    told = json.loads(await connection.fetchval("SELECT event FROM outbox"))["data"]
    await connection.close()
    assert told["exposure"] == taken
    assert told["limiting_magnitude"] == limit
    assert told["detections"][0]["mag"] == best["mag"]

    asked = {"zero_point": 25.0, "filter": "odd one", "mjd_mid": 60000.5, "time_scale": "TAI"}
    other = (await infer(client, content, asked | {"flux_unit": "electron"})).json()
    assert other["exposure"]["observed_at"] == "2023-02-25T11:59:23Z"
    assert other["detections"][0]["mag"] == pytest.approx(best["mag"] - 5.0)
    assert other["exposure"]["flux_unit"] == "electron"

    async def found(**wanted: str) -> set[str]:
        page = await client.get("/detections/", params=wanted)
        assert page.status_code == 200, page.text
        return {one["run_id"] for one in page.json()["detections"]}

    first, second = run["run_id"], other["run_id"]
    assert await found(filter="r") == {first}
    assert await found(filter="odd one") == {second}
    assert await found(observed_since="2018-08-04T06:01:26Z") == {first, second}
    assert await found(observed_until="2018-08-04T06:01:26Z") == set()
    both = {"observed_since": "2020-01-01T00:00:00+02:00", "filter": "odd one"}
    assert await found(**both, observed_until="9999-12-31T23:59:59-12:00") == {second}
    page = await client.get("/detections/", params={"observed_since": "yesterday"})
    assert (page.status_code, page.json()["field"]) == (422, "observed_since")

    for kind, path in (("votable+xml", f"/runs/{first}"), ("ecsv", f"/runs/{first}")):
        text = (await client.get(path, headers={"Accept": f"application/x-{kind}"})).text
        for said in ("58334.251", "MAGZERO", "limiting_magnitude", "adu", first):
            assert said in text, (kind, said)
    listed = await client.get("/detections/", headers={"Accept": "application/x-ecsv"})
    assert "mjd_utc" in listed.text
    page = await client.get(f"/dashboard/exposures/{first}")
    assert "30.000 mag" in page.text


@pytest.mark.parametrize(
    ("request_", "field", "remedy"),
    [
        ({"mjd_mid": 2458334.75}, "mjd_mid", "2400000.5"),
        ({"time_scale": "TAI"}, "time_scale", "mjd_mid"),
        ({"mjd_mid": 60000.0, "time_scale": "LOCAL"}, "time_scale", "Invalid"),
        ({"zero_point": 1e6}, "zero_point", "between"),
        ({"exposure_time": 0.0}, "exposure_time", "above 0"),
        ({"flux_unit": " "}, "flux_unit", "regex"),
        ({"filter": ""}, "filter", "length"),
    ],
)
async def test_what_cannot_be_meant_of_an_exposure_is_refused(client, request_, field, remedy):
    refused = await infer(client, npy(exposure()), request_)
    assert (refused.status_code, refused.json()["field"]) == (422, field)
    assert remedy in refused.json()["detail"]
