"""The pages in a real browser, on live data: PostgreSQL, Triton, NATS and S3 behind them."""

import asyncio
import csv
import io
import re
import time
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import httpx
import numpy as np
import pytest
import pytest_asyncio
from astropy.time import Time
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, Page, Request, ViewportSize, expect

from astrotriton.gateway.dashboard.written import sexagesimal
from astrotriton.gateway.settings import GatewaySettings
from tests.integration.dashboard_parts import Site, browser, keep, site
from tests.integration.gateway_parts import NAME, SOURCES, exposure, free_port, infer, npy, serve
from tests.integration.test_gateway_lookup import with_wcs

pytestmark = pytest.mark.asyncio(loop_scope="module")

V3, V4 = quote(f"{NAME}:3"), quote(f"{NAME}:4")
DESKTOP: ViewportSize = {"width": 1280, "height": 900}
PHONE: ViewportSize = {"width": 390, "height": 844}
# A machine may be slow, and Evidently's page is heavy.
PATIENCE = 60_000
# Colours are all that the dark changes.
CONTRAST = "axe.run(document, {runOnly: ['color-contrast']}).then(found => found.violations)"
expect.set_options(timeout=PATIENCE)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def chromium() -> AsyncIterator[Browser]:
    async with browser() as found:
        yield found


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway(
    chromium: Browser, postgres: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Site]:
    async with site(postgres, tmp_path_factory.mktemp("site")) as found:
        yield found


@pytest.fixture
def complaints() -> list[str]:
    """What pages complained of; there must be none."""
    return []


async def enter(chromium: Browser, gateway: Site, key: str) -> Page:
    """A page that is logged in."""
    context = await chromium.new_context(base_url=gateway.url, viewport=DESKTOP)
    page = await context.new_page()
    page.set_default_timeout(PATIENCE)
    await page.goto("/dashboard")
    await page.get_by_label("API key").fill(key)
    await page.get_by_role("button", name="Log in").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("Overview")
    return page


def listen(page: Page, complaints: list[str]) -> None:
    page.on("console", lambda said: complaints.append(f"{page.url}: {said.type} {said.text}"))
    page.on("pageerror", lambda error: complaints.append(f"{page.url}: {error}"))

    def failed(one: Request) -> None:
        # A picture that is still on its way when the next page is opened was not refused.
        if one.failure != "net::ERR_ABORTED":
            complaints.append(f"{one.url}: {one.failure}")

    page.on("requestfailed", failed)


async def links(page: Page, inside: str) -> list[str]:
    return [
        await link.get_attribute("href") or "" for link in await page.locator(f"{inside} a").all()
    ]


@pytest.mark.browser
async def test_every_page_opens_and_everybody_can_use_it(chromium, gateway, complaints, tmp_path):
    page = await enter(chromium, gateway, gateway.every)
    listen(page, complaints)
    await page.goto("/dashboard/exposures")
    exposure = (await links(page, "tbody"))[1]
    await page.goto(f"{exposure}?view=pictures")
    first, *_, last = await links(page, ".cutouts")
    await page.goto(f"/dashboard/validations?model={V4}")
    validation = (await links(page, "tbody"))[0]
    pages = {
        "overview": "/dashboard",
        "exposures": "/dashboard/exposures",
        "exposure": exposure,
        "cutouts": f"{exposure}?view=pictures",
        "crowded": f"/dashboard/exposures/{gateway.crowded}",
        "image": f"{exposure}/image",
        "image-closer": f"{exposure}/image?scale=4&x=100&y=50&is_real=true",
        "runs": "/dashboard/runs",
        "failed": f"/dashboard/exposures/{gateway.failed}",
        "detections": "/dashboard/detections?sort=-entropy",
        "nothing": "/dashboard/detections?exposure=none",
        "looked-through": f"/dashboard/next?run_id={gateway.crowded}&exposure=none",
        "detection": first,
        "stretched": f"{first}&stretch=linear&white=10&zoom=2",
        "doubtful": last,
        "performance": f"/dashboard/performance?model={V3}",
        "versions": f"/dashboard/performance?model={V3}&against={V4}",
        "validations": f"/dashboard/validations?model={V4}&against={V3}",
        "validation": validation,
        "drift": f"/dashboard/drift?model={V4}",
        "system": "/dashboard/system",
    }
    violations = {}
    for name, path in pages.items():
        answer = await page.goto(path)
        assert answer is not None
        assert answer.status == 200, (name, await answer.text())
        found = (await Axe().run(page)).response["violations"]
        await page.screenshot(path=tmp_path / f"{name}-light.png", full_page=True)
        await page.emulate_media(color_scheme="dark")
        found += await page.evaluate(CONTRAST)
        await page.screenshot(path=tmp_path / f"{name}-dark.png", full_page=True)
        await page.emulate_media(color_scheme="light")
        await page.set_viewport_size(PHONE)
        # Nothing sticks out, so that nobody has to scroll sideways.
        assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth"), name
        await page.screenshot(path=tmp_path / f"{name}-phone.png", full_page=True)
        await page.set_viewport_size(DESKTOP)
        if found:
            violations[name] = [(one["id"], one["nodes"][0]["html"]) for one in found]
    keep(tmp_path)
    assert violations == {}
    assert complaints == []


@pytest.mark.browser
async def test_windows_are_switched_and_versions_compared(chromium, gateway, complaints):
    page = await enter(chromium, gateway, gateway.every)
    listen(page, complaints)
    await page.get_by_role("link", name="Performance").first.click()
    window = page.get_by_role("navigation", name="Window")
    await expect(window.get_by_role("link", name="24 hours")).to_have_attribute(
        "aria-current", "true"
    )
    day = await page.locator(".lead strong").inner_text()
    await window.get_by_role("link", name="1 hour").click()
    await expect(window.get_by_role("link", name="1 hour")).to_have_attribute(
        "aria-current", "true"
    )
    assert int(await page.locator(".lead strong").inner_text()) < int(day)
    await page.get_by_role("combobox", name="against").select_option(f"{NAME}:4")
    await page.get_by_role("button", name="Show").click()
    # The window stays as it was, and both versions are there.
    await expect(window.get_by_role("link", name="1 hour")).to_have_attribute(
        "aria-current", "true"
    )
    await expect(page.locator(".legend").first).to_contain_text("version 4, p95")
    await expect(page.get_by_role("columnheader", name="Version 4")).to_be_visible()
    await page.locator("summary", has_text="Figures of “Runs”").click()
    await expect(page.get_by_role("region", name="Figures of “Runs”")).to_be_visible()
    await page.get_by_role("link", name="Validations").click()
    await page.get_by_role("combobox", name="Version").select_option(f"{NAME}:4")
    await page.get_by_role("combobox", name="against").select_option(f"{NAME}:3")
    await page.get_by_role("button", name="Show").click()
    await expect(page.get_by_role("img", name="Reliability")).to_be_visible()
    await expect(page.get_by_role("columnheader", name="Difference")).to_be_visible()
    await expect(page.get_by_text("accuracy change")).to_be_visible()
    assert complaints == []


@pytest.mark.browser
async def test_a_detection_is_labelled_and_the_next_one_follows(chromium, gateway, complaints):
    page = await enter(chromium, gateway, gateway.every)
    listen(page, complaints)
    await page.goto("/dashboard/exposures")
    await page.locator("tbody a").first.click()
    await page.locator("tbody a").first.click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("Detection 1")
    await expect(page.get_by_role("img", name="What the score is made of")).to_be_visible()
    await page.get_by_label("Comment").fill("a <b>dipole</b>")
    await page.get_by_role("button", name="Artefact").click()
    await expect(page.get_by_role("button", name="Artefact")).to_have_attribute(
        "aria-pressed", "true"
    )
    await expect(page.locator(".history")).to_contain_text("artefact by key:")
    await expect(page.locator(".history")).to_contain_text("a <b>dipole</b>")
    await page.get_by_role("button", name="Withdraw").click()
    await expect(page.get_by_text("Labelled: not yet")).to_be_visible()
    await page.get_by_label("go on").check()
    await page.get_by_role("button", name="Real").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("Detection 2")
    await expect(page.get_by_label("go on")).to_be_checked()
    await page.get_by_role("link", name="More confident").click()
    await expect(page.get_by_text("Labelled: real")).to_be_visible()
    await expect(page.locator(".history li")).to_have_count(3)
    assert complaints == []


@pytest.mark.browser
async def test_the_uncertain_are_labelled_by_keys(chromium, gateway, complaints):
    page = await enter(chromium, gateway, gateway.every)
    listen(page, complaints)
    await page.goto(f"/dashboard/exposures/{gateway.crowded}")
    await page.get_by_role("link", name="most uncertain").click()
    seen, entropies = [], []
    for key in ("r", "a", "u", "r"):
        seen.append(page.url)
        said = await page.get_by_text("Entropy").inner_text()
        entropies.append(float(said.split()[1]))
        await page.keyboard.press(key)
        await page.wait_for_url(lambda url: url not in seen)
    assert entropies == sorted(entropies, reverse=True)
    for label in ("real", "unsure"):
        at = page.url
        await page.keyboard.press("ArrowLeft" if label == "real" else "p")
        await page.wait_for_url(lambda url, at=at: url != at)
        await expect(page.get_by_text(f"Labelled: {label}")).to_be_visible()
    # What is written is no key, and who switches keys off has none.
    await page.get_by_label("Comment").press("a")
    await page.get_by_label("by keys").uncheck()
    await page.keyboard.press("a")
    await expect(page.get_by_text("Labelled: unsure")).to_be_visible()
    await page.get_by_label("by keys").check()
    await page.locator("h1").click()
    await page.keyboard.press("n")
    await page.wait_for_url(lambda url: url == seen[3] or url not in seen)
    assert complaints == []


@pytest.mark.browser
async def test_an_exposure_of_a_thousand_is_looked_through_without_scripts(chromium, gateway):
    context = await chromium.new_context(
        base_url=gateway.url,
        viewport=DESKTOP,
        java_script_enabled=False,
        extra_http_headers={"Authorization": f"Bearer {gateway.every}"},
    )
    page = await context.new_page()
    path = f"/dashboard/exposures/{gateway.crowded}"
    answer = await page.goto(path)
    assert answer is not None
    assert len(await answer.body()) < 200_000
    for size in (DESKTOP, PHONE):
        await page.set_viewport_size(size)
        box = await page.locator("html").bounding_box()
        assert box is not None
        assert box["height"] < 3000, size
    await page.set_viewport_size(DESKTOP)
    rows = page.locator("tbody tr")
    await expect(rows).to_have_count(50)
    await expect(rows.first.locator("th")).to_have_text("#1")
    await page.get_by_role("link", name="The next ones").click()
    await expect(rows.first.locator("th")).to_have_text("#51")
    await page.get_by_label("Called").select_option("not real")
    await page.get_by_label("Order").select_option("largest SNR")
    await page.get_by_label("SNR at least").fill("1.5")
    await page.get_by_role("button", name="Show").click()
    ratios = [float(text) for text in await page.locator("tbody td:nth-child(5)").all_inner_texts()]
    assert ratios == sorted(ratios, reverse=True)
    assert 0 < len(ratios) <= 50
    assert ratios[-1] >= 1.45
    assert await page.locator("tbody .doubtful").count() > 0
    assert await page.locator("tbody .state.real").count() == 0
    # The list goes along with its detections.
    await rows.nth(1).locator("a").click()
    second = await page.get_by_role("heading", level=1).inner_text()
    await page.get_by_role("link", name="Previous").click()
    await page.get_by_role("link", name="Next").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text(second)
    await page.get_by_label("go on").check()
    await page.get_by_role("button", name="Artefact").click()
    await expect(page.get_by_role("heading", level=1)).not_to_have_text(second)
    await page.goto(f"{path}?label=artefact")
    link = page.locator("tbody").get_by_role(
        "link", name=second.replace("Detection ", "#"), exact=True
    )
    await expect(link).to_be_visible()
    await context.close()


@pytest.mark.browser
async def test_runs_that_failed_say_why_and_the_page_refreshes_itself(
    chromium, gateway, complaints
):
    page = await enter(chromium, gateway, gateway.every)
    listen(page, complaints)
    await page.goto("/dashboard/runs?status=failed")
    row = page.locator("tbody tr")
    await expect(row).to_have_count(1)
    await expect(row).to_contain_text("broken.fits")
    await expect(row.locator(".reason")).to_contain_text("FITS")
    await expect(page.get_by_label("refresh by itself")).to_be_checked()
    await page.evaluate("document.querySelector('#live table').remove()")
    await expect(row).to_have_count(1)
    await row.locator("a").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("A run that is failed")
    assert complaints == []


@pytest.mark.browser
async def test_a_detection_is_found_on_the_plot(chromium, gateway):
    page = await enter(chromium, gateway, gateway.every)
    await page.goto("/dashboard/exposures")
    await page.locator("tbody a").first.click()
    spot = page.locator("svg a").last
    name = await spot.get_attribute("aria-label") or ""
    await spot.locator(".touch").click(force=True)
    rank = re.match(r"#(\d+)", name)
    assert rank
    await expect(page.get_by_role("heading", level=1)).to_have_text(f"Detection {rank[1]}")


@pytest.mark.browser
async def test_one_looks_around_in_an_exposure(chromium, gateway, complaints):
    """By keys, by clicks, and by links alone; what is marked leads to its detection."""
    page = await enter(chromium, gateway, gateway.every)
    listen(page, complaints)
    await page.goto("/dashboard/exposures")
    exposure = (await links(page, "tbody"))[1]
    await page.goto(exposure)
    await page.get_by_role("link", name="look at the image").click()
    shown = page.locator(".sky figcaption")
    await expect(shown).to_have_text("x 0 to 419, y 0 to 299 of 420 x 300 px")
    for key, text in (
        ("+", "x 105 to 314, y 75 to 224"),
        ("ArrowRight", "x 210 to 419, y 75 to 224"),
        ("ArrowDown", "x 210 to 419, y 0 to 149"),
        ("-", "x 0 to 419, y 0 to 299"),
    ):
        await page.keyboard.press(key)
        await expect(shown).to_contain_text(text)
    picture = page.locator(".sky image")
    size = await picture.evaluate(
        "async one => { const i = new Image(); i.src = one.href.baseVal; await i.decode();"
        " return [i.naturalWidth, i.naturalHeight]; }"
    )
    assert size == [420, 300]
    # Where nothing is marked, a click comes closer.
    await page.goto(f"{page.url.partition('?')[0]}?max_mag=-50")
    await expect(page.locator(".sky svg .touch")).to_have_count(0)
    await page.locator(".sky .there").first.click()
    await expect(shown).to_contain_text("x 0 to 209, y 0 to 149")
    await page.goto(f"{page.url.partition('?')[0]}?is_real=true")
    mark = page.locator(".sky svg a:has(.touch)").last
    rank = re.match(r"#(\d+)", await mark.get_attribute("aria-label") or "")
    assert rank
    await mark.locator(".touch").click(force=True)
    await expect(page.get_by_role("heading", level=1)).to_have_text(f"Detection {rank[1]}")
    await expect(page.locator(".planes img")).to_have_count(3)
    # How they are drawn stays from one detection to the next.
    await page.get_by_role("link", name="linear").click()
    await page.get_by_role("link", name=re.compile("^4")).click()
    await page.locator(".crumbs a[rel]").first.click()
    await expect(page.get_by_role("link", name="linear")).to_have_attribute("aria-current", "true")
    for image in await page.locator(".planes img").all():
        assert "stretch=linear" in (await image.get_attribute("src") or "")
        assert await image.evaluate("one => one.decode().then(() => one.naturalWidth)") == 15
    assert complaints == []


@pytest.mark.browser
async def test_a_hundred_are_labelled_with_no_hand_on_the_mouse(chromium, gateway, complaints):
    page = await enter(chromium, gateway, gateway.every)
    listen(page, complaints)
    await page.goto(f"/dashboard/exposures/{gateway.crowded}")
    queue = page.get_by_role("link", name="the unlabelled of this list")
    await queue.focus()
    began = time.monotonic()
    await page.keyboard.press("Enter")
    heading, seen = page.get_by_role("heading", level=1), set()
    for number in range(100):
        await page.wait_for_url(lambda url: "/detections/" in url and url not in seen)
        seen.add(page.url)
        await page.keyboard.press("raau"[number % 4])
    await page.wait_for_url(lambda url: url not in seen)
    passed = time.monotonic() - began
    print(f"100 labels by keys in {passed:.1f} s, {10 * passed:.0f} ms each with its page")
    assert len(seen) == 100
    await expect(heading).to_contain_text("Detection")
    headers = {"Authorization": f"Bearer {gateway.every}"}
    async with httpx.AsyncClient(base_url=gateway.url, headers=headers, trust_env=False) as client:
        query: dict[str, str | int] = {"run_id": gateway.crowded, "limit": 1000}
        given = (await client.get("/labels/", params=query)).json()["labels"]
        assert len({one["detection_id"] for one in given}) >= 100
        answer = await client.get(f"/dashboard/labels?format=csv&run_id={gateway.crowded}")
        assert len(list(csv.DictReader(io.StringIO(answer.text)))) == len(given)
        answer = await client.get(f"/dashboard/labels?format=json&run_id={gateway.crowded}")
        assert answer.json() == given
    assert complaints == []


@pytest.mark.browser
async def test_the_keyboard_reaches_everything(chromium, gateway):
    page = await enter(chromium, gateway, gateway.every)
    await page.goto("/dashboard/performance")
    await page.keyboard.press("Tab")
    await expect(page.get_by_text("Skip to the content")).to_be_focused()
    await expect(page.get_by_text("Skip to the content")).to_be_in_viewport()
    await page.keyboard.press("Enter")
    await page.keyboard.press("Tab")
    await expect(page.get_by_role("combobox", name="Version")).to_be_focused()
    width = await page.evaluate("getComputedStyle(document.activeElement).outlineWidth")
    assert width == "3px"
    for _ in range(3):
        await page.keyboard.press("Tab")
    await expect(page.get_by_role("link", name="1 hour")).to_be_focused()
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("link", name="1 hour")).to_have_attribute("aria-current", "true")


@pytest.mark.browser
async def test_the_report_on_drift_opens_on_its_own(chromium, gateway, complaints):
    page = await enter(chromium, gateway, gateway.every)
    listen(page, complaints)
    report = page.get_by_role("link", name="Evidently's report").first
    await page.goto(f"/dashboard/drift?model={V4}")
    await expect(page.get_by_text("What changed, most first")).to_contain_text("seeing fwhm")

    while not await report.count():
        await page.wait_for_timeout(500)
        await page.reload()
    await report.click()
    await expect(page.get_by_text("Drift is detected for")).to_be_visible()
    # Its scripts run, but as nobody: the cookie is out of their reach, and so is the service.
    assert await page.evaluate("origin") == "null"
    assert complaints == []


@pytest.mark.browser
async def test_who_gets_in(chromium, gateway):
    context = await chromium.new_context(base_url=gateway.url)
    page = await context.new_page()
    await page.goto("/dashboard/system")
    await expect(page.get_by_role("heading", level=1)).to_have_text("Log in")
    assert (await Axe().run(page)).response["violations"] == []
    await page.get_by_label("API key").fill("at_000000000000_" + "A" * 43)
    await page.get_by_role("button", name="Log in").click()
    await expect(page.get_by_role("alert")).to_contain_text("not valid")
    await page.get_by_label("API key").fill(gateway.reader)
    await page.get_by_role("button", name="Log in").click()
    # One goes on to where one wanted to.
    await expect(page.get_by_role("heading", level=1)).to_have_text("System")
    (cookie,) = await context.cookies()
    assert cookie["httpOnly"]
    assert cookie["sameSite"] == "Strict"
    assert cookie["path"] == "/dashboard"
    assert gateway.reader not in await page.content()
    await page.goto("/dashboard/exposures")
    await page.locator("tbody a").first.click()
    await page.locator("tbody a").first.click()
    await expect(page.get_by_text("Your key may not label")).to_be_visible()
    # A link on another site's page leads in all the same.
    elsewhere = gateway.url.replace("127.0.0.1", "localhost")
    await page.goto(f"{elsewhere}/dashboard/login")
    await page.evaluate(f"location = '{gateway.url}/dashboard/system'")
    await expect(page.get_by_role("heading", level=1)).to_have_text("System")
    await page.get_by_role("button", name="Log out").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("Log in")
    await page.goto("/dashboard")
    await expect(page.get_by_role("heading", level=1)).to_have_text("Log in")


@pytest.mark.browser
async def test_no_key_is_logged(gateway):
    log = gateway.log.read_text()
    assert "/dashboard/login" in log
    for key in (gateway.every, gateway.reader):
        assert key.rpartition("_")[2] not in log


@pytest.mark.browser
async def test_forms_of_other_sites_are_refused(gateway):
    cookies = {"astrotriton_key": gateway.every}
    async with httpx.AsyncClient(base_url=gateway.url, cookies=cookies, trust_env=False) as client:
        page = (await client.get("/dashboard/exposures")).text
        exposure = re.search(r"/dashboard/exposures/[0-9a-f-]{36}", page)
        assert exposure
        path = re.search(
            r"/dashboard/detections/[0-9a-f-]{36}", (await client.get(exposure[0])).text
        )
        assert path
        form = {"label": "real"}
        own = {"Origin": gateway.url}
        for headers, status in (
            ({}, 403),
            ({"Origin": "https://elsewhere.example"}, 403),
            ({"Origin": "null"}, 403),
            ({"Sec-Fetch-Site": "cross-site", **own}, 403),
            ({"Sec-Fetch-Site": "same-site", **own}, 403),
            ({"Sec-Fetch-Site": "same-origin"}, 303),
            (own, 303),
        ):
            answer = await client.post(f"{path[0]}/label", data=form, headers=headers)
            assert answer.status_code == status, (headers, answer.text)
            for where in ("login", "logout"):
                answer = await client.post(
                    f"/dashboard/{where}", data={"key": gateway.every}, headers=headers
                )
                assert answer.status_code == status, (where, headers)
        assert (
            await client.post(f"{path[0]}/label", data={"label": "x"}, headers=own)
        ).status_code == 422
        large = {"label": "real", "comment": "x" * 20_000}
        assert (await client.post(f"{path[0]}/label", data=large, headers=own)).status_code == 413
        # The cookie is of no use for the API, and a key that may only look does not label.
        assert (await client.get("/detections/")).status_code == 401
        client.cookies.set("astrotriton_key", gateway.reader)
        assert (await client.post(f"{path[0]}/label", data=form, headers=own)).status_code == 403


@pytest.mark.browser
async def test_pages_allow_nothing_that_they_do_not_need(gateway):
    async with httpx.AsyncClient(base_url=gateway.url, trust_env=False) as client:
        page = await client.get("/dashboard/login?next=https://elsewhere.example")
        assert 'value="/dashboard"' in page.text
        policy = page.headers.get_list("content-security-policy")
        assert len(policy) == 1
        assert "default-src 'none'" in policy[0]
        assert "script" not in policy[0]
        assert "unsafe" not in policy[0]
        assert page.headers["referrer-policy"] == "same-origin"
        assert page.headers["cache-control"] == "no-store"
        assert "<script" not in page.text
        runs = await client.get(
            "/dashboard/runs", headers={"Authorization": f"Bearer {gateway.reader}"}
        )
        policy = runs.headers.get_list("content-security-policy")
        assert "script-src 'self';" in policy[0]
        assert "unsafe" not in policy[0]
        secure = await client.post(
            "/dashboard/login",
            data={"key": gateway.reader},
            headers={"Origin": gateway.url, "X-Forwarded-Proto": "https"},
        )
        assert "Secure" in secure.headers["set-cookie"]
        headers = {"Authorization": f"Bearer {gateway.reader}"}
        for path, status in (
            ("/dashboard/performance?window=1y", 422),
            ("/dashboard/performance?model=none:1", 404),
            ("/dashboard/exposures?after=x", 422),
            ("/dashboard/detections?place=here", 422),
            ("/dashboard/detections?password=x", 422),
            ("/dashboard/runs?status=x", 422),
            ("/dashboard/find?id=x", 422),
            ("/dashboard/find?id=019ac5b0-6f0e-7c11-9d0a-2f4e8a6b1c3d", 404),
            ("/dashboard/download?format=exe", 422),
            ("/dashboard/detections/019ac5b0-6f0e-7c11-9d0a-2f4e8a6b1c3d", 404),
            ("/dashboard/exposures/019ac5b0-6f0e-7c11-9d0a-2f4e8a6b1c3d", 404),
            ("/dashboard/nowhere/at/all", 404),
            ("/dashboard/static/../views.py", 404),
            ("/dashboard/drift", 200),
        ):
            answer = await client.get(path, headers=headers)
            assert answer.status_code == status, (path, answer.text)
            if status != 200 and "static" not in path:
                assert answer.headers["content-type"].startswith("text/html")
                assert f"<strong>{status}</strong>" in answer.text


async def test_pages_say_what_is_away(settings: GatewaySettings):
    """Without a login, and with nothing to show yet; then without Triton, then PostgreSQL."""
    nobody = f"127.0.0.1:{free_port()}"
    async with serve(settings) as client:
        assert (await client.get("/dashboard/login")).status_code == 303
        paths = ("/exposures", "/runs", "/detections", "/next", "/performance", "/validations")
        for path in ("", *paths, "/drift", "/system"):
            page = await client.get(f"/dashboard{path}")
            assert page.status_code == 200, page.text
            assert "Log out" not in page.text
        assert "No exposure has been scored yet" in (await client.get("/dashboard")).text
        assert "Nobody has looked yet" in (await client.get("/dashboard/drift")).text
    update = {"triton_grpc": nobody, "port": free_port(), "triton_timeout": 5.0}
    async with serve(settings.model_copy(update=update)) as client:
        page = await client.get("/dashboard")
        assert page.status_code == 200
        assert "not ready" in page.text
        assert (await client.get("/dashboard/system")).status_code == 503
    away = GatewaySettings.model_fields["database_url"].annotation
    assert away is not None
    update = {"database_url": away(f"postgresql://{nobody}/x"), "port": free_port()}
    async with serve(settings.model_copy(update=update)) as client:
        for path in ("", "/exposures", "/performance", "/system"):
            page = await client.get(f"/dashboard{path}")
            assert page.status_code == 503, page.text
            assert '<nav aria-label="Pages">' in page.text
            assert "postgresql" in page.text
            assert ("retry-after" in page.headers) == (path != "/system")


async def test_what_was_seen_at_a_place_is_found_and_downloaded(settings: GatewaySettings):
    """By position, night, name and id; with the history of the place, and as files."""
    times = ("2026-11-24T03:00:00Z", "2026-11-25T03:00:00Z")
    async with serve(settings) as client:
        runs = [
            (
                await infer(
                    client,
                    with_wcs(),
                    {"mjd_mid": Time(time).mjd, "zero_point": 25.0, "exposure_id": f"night {i}"},
                )
            ).json()
            for i, time in enumerate(times)
        ]
        one, other = (run["detections"][0] for run in runs)
        page = (await client.get(f"/dashboard/detections/{one['id']}")).text
        assert f"/dashboard/detections/{other['id']}" in page
        assert "Light curve" in page
        assert "#1, this one" in page
        place = sexagesimal(one["ra"], one["dec"])
        for query, found, missed in (
            ({"place": place, "radius": "1"}, [one, other], []),
            ({"place": f"{one['ra']} {one['dec']}", "night": "2026-11-24"}, [other], [one]),
            ({"exposure": "night 0"}, [one], [other]),
            ({"place": "10.0 89.0"}, [], [one, other]),
        ):
            answer = await client.get("/dashboard/detections", params=query)
            assert answer.status_code == 200, answer.text
            for detection in found:
                assert f"/dashboard/detections/{detection['id']}" in answer.text, query
            for detection in missed:
                assert f"/dashboard/detections/{detection['id']}" not in answer.text, query
        for wanted, path in (
            (one["id"], f"/dashboard/detections/{one['id']}"),
            (runs[0]["run_id"], f"/dashboard/exposures/{runs[0]['run_id']}"),
        ):
            answer = await client.get("/dashboard/find", params={"id": f" {wanted} "})
            assert (answer.status_code, answer.headers["location"]) == (303, path)
        exposed = await client.get(
            f"/dashboard/exposures/{runs[0]['run_id']}", params={"is_real": "true", "flag": ""}
        )
        assert exposed.status_code == 200, exposed.text
        assert f"/dashboard/detections/{one['id']}" in exposed.text
        query = {"run_id": runs[0]["run_id"], "is_real": "true", "sort": "-snr"}
        for form, begins in (
            ("csv", b"id,"),
            ("fits", b"SIMPLE"),
            ("vot", b"<?xml"),
            ("ecsv", b"#"),
        ):
            answer = await client.get("/dashboard/download", params={**query, "format": form})
            assert answer.status_code == 200, answer.text
            assert answer.content.startswith(begins), form
            disposition = answer.headers["content-disposition"]
            assert disposition == f'attachment; filename="detections.{form}"'
        rows = list(csv.DictReader(io.StringIO((await _csv(client, query)).text)))
        real = [d for d in runs[0]["detections"] if d["is_real"]]
        assert [row["id"] for row in rows] == [d["id"] for d in sorted(real, key=_by_snr)]


async def _csv(client: httpx.AsyncClient, query: dict[str, str]) -> httpx.Response:
    return await client.get("/dashboard/download", params={**query, "format": "csv"})


def _by_snr(detection: dict[str, Any]) -> float:
    return -detection["snr"]


@pytest.mark.monitoring
async def test_whatever_became_of_it_has_a_page(settings: GatewaySettings):
    """Merged and unscored detections, a version without calibration, and what has failed."""
    (x, y), *_ = SOURCES
    candidates = [{"x": x, "y": y}, {"x": x + 1, "y": y}, {"x": 230, "y": 8}, {"x": 70, "y": 200}]
    image = exposure()
    image[180:220, 50:90] = np.nan
    async with serve(settings) as client:
        run = (await infer(client, npy(image), {"candidates": candidates})).json()
        outcomes = {one["outcome"]: one["id"] for one in run["detections"]}
        assert set(outcomes) == {"kept", "merged", "unscored"}
        for outcome, said in (
            ("kept", "Not calibrated"),
            ("merged", "a better detection"),
            ("unscored", "so there is none"),
        ):
            page = await client.get(f"/dashboard/detections/{outcomes[outcome]}")
            assert page.status_code == 200, page.text
            assert said in page.text
        page = await client.get(f"/dashboard/exposures/{run['run_id']}")
        assert page.status_code == 200, page.text
        files = {"exposure": b"not FITS"}
        failed = await client.post(
            "/detections/infer", files=files, headers={"Prefer": "respond-async"}
        )
        model = f"/models/{NAME}:3"
        unvalidated = await client.post(f"{model}/validate", json={})
        unknown = await client.post(f"{model}/drift")
        assert unknown.status_code == 201, unknown.text
        ended = unvalidated.headers["location"], failed.headers["location"]
        async with asyncio.timeout(120):
            for location in ended:
                while (await client.get(location)).json()["finished_at"] is None:
                    await asyncio.sleep(0.05)
        page = await client.get(f"/dashboard/exposures/{ended[1].rpartition('/')[2]}")
        assert "A run that is failed" in page.text
        page = await client.get(f"/dashboard{ended[0]}")
        assert page.status_code == 200, page.text
        assert "came without one" in page.text
        page = await client.get("/dashboard/validations")
        assert "No validation of this version is complete" in page.text
        page = await client.get("/dashboard/drift")
        assert page.status_code == 200, page.text
        assert unknown.json()["reason"].split(";")[0][:20] in page.text
        nobody = await client.get(f"/dashboard/drift/{unknown.json()['id']}/report")
        assert nobody.status_code == 404
        assert nobody.headers["content-type"].startswith("text/html")
