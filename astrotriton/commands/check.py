"""The command that has a gateway look at how good a served version still is."""

import json
import time

import click
import httpx

from astrotriton.cli import fail
from astrotriton.commands.reaching import gateway_at, gateway_options

#: Exit code of a look that found something; repeating it would say the same.
FOUND = 3
_PAUSE = 5.0
_UNDER_WAY = ("queued", "running")


@click.command(
    epilog=f"Exit code 0: all is well. 1: a fault. {FOUND}: it failed a gate, or has drifted."
)
@click.argument("what", type=click.Choice(["validate", "drift"]))
@click.argument("model")
@gateway_options
@click.option(
    "--deadline", type=float, default=3600.0, show_default=True, help="Seconds it may take."
)
def check(what: str, model: str, url: str | None, token: str | None, deadline: float) -> None:
    """Have the gateway validate MODEL on its labelled exposures, or look whether it has drifted.

    MODEL is an id, NAME:VERSION or NAME@champion.
    """
    gateway = gateway_at(url, "check")
    until = time.monotonic() + deadline
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    with httpx.Client(base_url=gateway, headers=headers, timeout=60.0) as client:
        try:
            answer = client.post(f"/models/{model}/{what}", json={})
            place = answer.headers.get("location", "")
            while not answer.is_error and answer.json()["status"] in _UNDER_WAY:
                if time.monotonic() > until:
                    fail("check", f"{place} is not complete after {deadline:g} s")
                time.sleep(_PAUSE)
                answer = client.get(place)
        except httpx.TransportError as error:
            fail("check", f"{gateway}: {error}")
    if answer.is_error:
        fail("check", f"{answer.status_code} {answer.text}")
    found = answer.json()
    shown = ("id", "status", "passed", "figures", "drifted", "exposures", "reason", "problem")
    click.echo(json.dumps({name: found[name] for name in shown if name in found}, indent=2))
    if found["status"] in ("failed", "drifted") or found.get("passed") is False:
        raise SystemExit(FOUND)
