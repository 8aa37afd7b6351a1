"""The command that scores an exposure through a gateway."""

import json
from pathlib import Path
from typing import Any, Literal, get_args

import click

from astrotriton.cli import fail
from astrotriton.client import FORMATS, Client, ClientError, InferRequest, Options
from astrotriton.wire.exposures import SeeingUnit, TimeScale, WeightType
from astrotriton.wire.fields import FieldError

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@click.argument("exposure", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--url",
    envvar="ASTROTRITON_URL",
    help="The gateway; without it, the one that `astrotriton up` started.",
)
@click.option("--token", envvar="ASTROTRITON_TOKEN", help="API key or OIDC token; best by $NAME.")
@click.option(
    "--candidates",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Table of candidates: CSV, ECSV, VOTable, FITS or a catalogue of SExtractor, with columns "
    "x and y (0-based pixels), X_IMAGE and Y_IMAGE (1-based), ra and dec (degrees) or the like. "
    "Without it, the gateway extracts the sources.",
)
@click.option("--hdu", help="HDU by index or EXTNAME; without it, the first image.")
@click.option("--weight", type=_FILE, help="Weight map, FITS or .npy: the noise of each pixel.")
@click.option("--weight-hdu", help="Its HDU, in --weight or, without that, in the exposure.")
@click.option(
    "--weight-type",
    type=click.Choice(get_args(WeightType)),
    help="What it holds; without it, what its HDU's name says, or inverse variances.",
)
@click.option("--psf", type=_FILE, help="Image of the PSF on the exposure's pixels, FITS or .npy.")
@click.option("--psf-hdu", help="Its HDU, in --psf or, without that, in the exposure.")
@click.option(
    "--seeing-fwhm",
    type=click.FloatRange(0, min_open=True),
    help="Full width at half maximum of point sources; without it, that of the PSF's image or of "
    "the header, or as it is measured.",
)
@click.option(
    "--seeing-unit",
    type=click.Choice(get_args(SeeingUnit)),
    help="Its unit; without it, px. arcsec needs a WCS.",
)
@click.option("--threshold", type=click.FloatRange(0, 1), help="Least confidence of a real source.")
@click.option(
    "--max-false-discovery-rate",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    help="Choose the threshold so that at most this share of the real ones is expected to be false;"
    " not together with --threshold.",
)
@click.option("--tta", is_flag=True, help="Test-time augmentation: every tile in 8 orientations.")
@click.option(
    "--polarity",
    type=click.Choice(["1", "-1"]),
    help="Look for sources that brighten, 1, or that fade, -1, alone.",
)
@click.option("--zero-point", type=float, help="Magnitude of a flux of 1; else the header's.")
@click.option("--flux-unit", help="Unit of the pixels; else the header's BUNIT.")
@click.option("--mjd-mid", type=float, help="Mid-exposure, MJD; else made of the header.")
@click.option(
    "--time-scale",
    type=click.Choice(get_args(TimeScale)),
    help="Scale of --mjd-mid; UTC without it.",
)
@click.option("--exposure-time", type=float, help="Seconds; else the header's.")
@click.option("--filter", "filter_name", help="Filter; else the header's.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", *FORMATS]),
    default="table",
    show_default=True,
    help="What is printed; all but the table are the gateway's answer as it came.",
)
@click.option(
    "--deadline", type=float, default=300.0, show_default=True, help="Seconds, retries included."
)
def score(
    exposure: Path,
    url: str | None,
    token: str | None,
    candidates: Path | None,
    hdu: str | None,
    weight: Path | None,
    weight_hdu: str | None,
    weight_type: WeightType | None,
    psf: Path | None,
    psf_hdu: str | None,
    seeing_fwhm: float | None,
    seeing_unit: SeeingUnit | None,
    threshold: float | None,
    max_false_discovery_rate: float | None,
    tta: bool,
    polarity: Literal["1", "-1"] | None,
    zero_point: float | None,
    flux_unit: str | None,
    mjd_mid: float | None,
    time_scale: TimeScale | None,
    exposure_time: float | None,
    filter_name: str | None,
    form: str,
    deadline: float,
) -> None:
    """Score the EXPOSURE, a FITS or .npy file with a difference image, and print the detections."""
    if threshold is not None and max_false_discovery_rate is not None:
        fail("score", "leave out --threshold or --max-false-discovery-rate, which chooses it")
    if seeing_unit is not None and seeing_fwhm is None:
        fail("score", "give --seeing-fwhm, or leave out --seeing-unit, which is its unit")
    try:
        request = InferRequest(
            hdu=_hdu(hdu),
            weight_hdu=_hdu(weight_hdu),
            weight_type=weight_type,
            psf_hdu=_hdu(psf_hdu),
            seeing_fwhm=seeing_fwhm,
            seeing_unit=seeing_unit,
            confidence_threshold=threshold,
            max_false_discovery_rate=max_false_discovery_rate,
            tta=tta,
            polarity=None if polarity is None else 1 if polarity == "1" else -1,
            zero_point=zero_point,
            flux_unit=flux_unit,
            mjd_mid=mjd_mid,
            time_scale=time_scale,
            exposure_time=exposure_time,
            filter=filter_name,
        )
    except FieldError as error:
        fail("score", error)
    files: Options = {}
    if candidates is not None:
        files["candidates"] = candidates
    if weight is not None:
        files["weight"] = weight
    if psf is not None:
        files["psf"] = psf
    try:
        with Client(url or _own_gateway(), token=token, deadline=deadline) as client:
            how = "json" if form == "table" else form
            answer = client.score_as(how, exposure, request, **files)
    except ClientError as error:
        fail("score", error)
    if form == "table":
        _print(json.loads(answer))
    else:
        click.echo(answer, nl=False)


def _hdu(given: str | None) -> int | str | None:
    return int(given) if given is not None and given.isdecimal() else given


def _own_gateway() -> str:
    from astrotriton.folders import data_folder

    try:
        from astrotriton import stack
    except ModuleNotFoundError:  # only other people's gateways are known here
        fail("score", "no gateway: give --url, or set ASTROTRITON_URL")
    addresses = stack.running(data_folder())
    if addresses is None:
        fail("score", "no gateway: give --url, or start one with `astrotriton up`")
    return addresses.gateway_url


def _print(answer: dict[str, Any]) -> None:
    from astrotriton.table import table, wide_console

    console = wide_console()
    console.print(table(answer))
    model = answer["model"]
    console.print(f"run {answer['run_id']} by {model['name']} version {model['version']}")
