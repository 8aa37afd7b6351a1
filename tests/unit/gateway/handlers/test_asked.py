"""What a list on a page is asked for."""

from urllib.parse import parse_qsl
from uuid import UUID

import pytest

from astrotriton.detection.errors import InputError
from astrotriton.gateway.handlers.dashboard.asked import Asked, asked, asked_runs
from astrotriton.gateway.services.detections import Filter
from astrotriton.gateway.services.runs import RunFilter

RUN = UUID(int=7)


async def test_fields_left_empty_say_nothing():
    found = await asked(min_snr="", flag=" ", sort="")
    assert found == Asked()
    assert (found.query(), found.chosen) == ("", False)
    assert found.wanted() == Filter()
    assert (await asked_runs()).wanted() == RunFilter()


async def test_what_is_asked_for_is_looked_for_and_its_link_asks_the_same():
    found = await asked(
        is_real="false",
        min_snr="5.5",
        polarity="-1",
        flag="dipole",
        label="none",
        place="10:00:00 -30",
        radius="36",
        sort="-entropy",
    )
    wanted = found.wanted()
    assert (wanted.is_real, wanted.min_snr, wanted.polarity) == (False, 5.5, -1)
    assert (wanted.flags, wanted.label) == (("dipole",), "none")
    assert wanted.cone == pytest.approx((150.0, -30.0, 0.01))
    assert found.chosen
    assert await asked(**dict(parse_qsl(found.query()[1:]))) == found


async def test_links_change_a_part_and_may_add_to_it():
    found = await asked(is_real="true", sort="snr")
    changed = dict(parse_qsl(found.query(go_on=True, sort="newest", after=RUN)[1:]))
    assert changed == {"is_real": "true", "go_on": "true", "after": str(RUN)}


async def test_a_detection_without_a_list_stands_in_its_run():
    assert (await asked(go_on="true")).or_of_run(RUN).run_id == RUN
    listed = await asked(sort="-snr")
    assert listed.or_of_run(RUN) is listed
    assert not (await asked(run_id=str(RUN), sort="snr")).chosen


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("run_id", "x"),
        ("is_real", "maybe"),
        ("min_snr", "many"),
        ("min_snr", "nan"),
        ("polarity", "0"),
        ("sort", "name"),
        ("radius", "0"),
        ("model_version", "1.5"),
        ("flag", "none_such"),
        ("night", "yesterday"),
        ("place", "here"),
    ],
)
async def test_what_cannot_be_is_refused_by_name(field, value):
    with pytest.raises(InputError) as refused:
        (await asked(**{field: value})).wanted()
    assert refused.value.field == field
