"""The command that scores an exposure through a gateway."""

import csv
import json
from pathlib import Path
from typing import Any, get_args

import click

from astrotriton.cli import fail
from astrotriton.client import FORMATS, CandidateIn, Client, ClientError, InferRequest
from astrotriton.client.calls import Options
from astrotriton.wire.exposures import SeeingUnit, WeightType

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
    help="Table with columns x and y (0-based pixels) and perhaps id: CSV, ECSV, VOTable or FITS. "
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
    form: str,
    deadline: float,
) -> None:
    """Score the EXPOSURE, a FITS or .npy file with a difference image, and print the detections."""
    if threshold is not None and max_false_discovery_rate is not None:
        fail("score", "leave out --threshold or --max-false-discovery-rate, which chooses it")
    if seeing_unit is not None and seeing_fwhm is None:
        fail("score", "give --seeing-fwhm, or leave out --seeing-unit, which is its unit")
    request = InferRequest(
        candidates=None if candidates is None else _read(candidates),
        hdu=_hdu(hdu),
        weight_hdu=_hdu(weight_hdu),
        weight_type=weight_type,
        psf_hdu=_hdu(psf_hdu),
        seeing_fwhm=seeing_fwhm,
        seeing_unit=seeing_unit,
        confidence_threshold=threshold,
        max_false_discovery_rate=max_false_discovery_rate,
    )
    try:
        with Client(url or _own_gateway(), token=token, deadline=deadline) as client:
            files: Options = {}
            if weight is not None:
                files["weight"] = weight
            if psf is not None:
                files["psf"] = psf
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


def _read(path: Path) -> list[CandidateIn]:
    """The candidates of a table: CSV, or what Astropy reads where it is installed."""
    try:
        columns = _csv(path) if path.suffix == ".csv" else _by_astropy(path)
    except Exception as error:  # Astropy raises almost anything on a file that is no table
        fail("score", f"{path} is no table that can be read: {error}")
    missing = {"x", "y"} - set(columns)
    if missing:
        fail("score", f"{path} has no column {' and no column '.join(sorted(missing))}")
    ids = columns.get("id", [None] * len(columns["x"]))
    try:
        return [
            CandidateIn(x=float(x), y=float(y), id=None if name is None else str(name))
            for x, y, name in zip(columns["x"], columns["y"], ids, strict=True)
        ]
    except (TypeError, ValueError) as error:
        fail("score", f"{path}: a position is not a number: {error}")


def _csv(path: Path) -> dict[str, list[Any]]:
    with path.open(newline="") as file:
        rows = csv.DictReader(file)
        names = [name.strip() for name in rows.fieldnames or ()]
        rows.fieldnames = names
        table = list(rows)
    return {name: [row[name] for row in table] for name in names}


def _by_astropy(path: Path) -> dict[str, list[Any]]:
    try:
        from astropy.table import Table
    except ModuleNotFoundError:
        raise ValueError("give a .csv, or `pip install astropy` for other tables") from None
    table = Table.read(path)
    return {name: list(table[name]) for name in table.colnames}


def _print(answer: dict[str, Any]) -> None:
    from astrotriton.table import table, wide_console

    console = wide_console()
    console.print(table(answer))
    model = answer["model"]
    console.print(f"run {answer['run_id']} by {model['name']} version {model['version']}")
