"""The command that scores an exposure through a gateway."""

import json
import sys
from pathlib import Path
from typing import Any, Literal, get_args

import click

from astrotriton.cli import fail, number_or_name
from astrotriton.client import (
    FORMATS,
    AsyncClient,
    Client,
    ClientError,
    InferRequest,
    Options,
    is_reference,
)
from astrotriton.client.night_tables import TABLES
from astrotriton.commands.night import night
from astrotriton.commands.prevalence import SHARE
from astrotriton.commands.progress import RunProgress
from astrotriton.commands.reaching import gateway_at, gateway_options
from astrotriton.table import SORTED_BY, Choice, remarks, table, wide_console
from astrotriton.wire.exposures import SeeingUnit, TimeScale, WeightType
from astrotriton.wire.fields import FieldError

_LARGE = 16 * 1024 * 1024  # bytes from which an exposure takes so long that one wants to see it
_PLANE = click.Path(dir_okay=False)


@click.command()
@click.argument("paths", metavar="PATH...", nargs=-1)
@gateway_options
@click.option(
    "--candidates",
    type=_PLANE,
    help="Table of candidates: CSV, ECSV, VOTable, FITS or a catalogue of SExtractor, with columns "
    "x and y (0-based pixels), X_IMAGE and Y_IMAGE (1-based), ra and dec (degrees) or the like. "
    "Without it, the gateway extracts the sources.",
)
@click.option("--hdu", help="HDU by index or EXTNAME; without it, the first image.")
@click.option(
    "--mask", type=_PLANE, help="Data-quality plane, FITS or .npy: pixels that are not 0 are bad."
)
@click.option("--mask-hdu", help="Its HDU, in --mask or, without that, in the exposure.")
@click.option("--mask-bits", type=click.IntRange(1), help="The bits of it that count, not all.")
@click.option("--weight", type=_PLANE, help="Weight map, FITS or .npy: the noise of each pixel.")
@click.option("--weight-hdu", help="Its HDU, in --weight or, without that, in the exposure.")
@click.option(
    "--weight-type",
    type=click.Choice(get_args(WeightType)),
    help="What it holds; without it, what its HDU's name says, or inverse variances.",
)
@click.option("--psf", type=_PLANE, help="Image of the PSF on the exposure's pixels, FITS or .npy.")
@click.option("--psf-hdu", help="Its HDU, in --psf or, without that, in the exposure.")
@click.option(
    "--science",
    type=_PLANE,
    help="Science image on the exposure's pixels, FITS or .npy, for versions that use it.",
)
@click.option("--science-hdu", help="Its HDU, in --science or, without that, in the exposure.")
@click.option("--template", type=_PLANE, help="Template image on the same pixels, FITS or .npy.")
@click.option("--template-hdu", help="Its HDU, in --template or, without that, in the exposure.")
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
    "--prevalence",
    type=SHARE,
    metavar="SHARE|estimated|calibrated",
    help="The share of real sources among all that are scored, which confidences shall hold for; "
    "`estimated`: as in the exposures that the gateway scored lately; `calibrated`: as in the "
    "version's calibration. Without it, what the route says.",
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
    help="What is printed; all but the table are the gateway's answer as it came. With --out, the "
    "detections of all exposures are also written into one such file there: csv, ecsv, votable, "
    "fits or json.",
)
@click.option("--version", "model_version", help="A version by number, champion or challenger.")
@click.option("--id", "exposure_id", help="Your name for the exposure, else the file's.")
@click.option("--all", "every", is_flag=True, help="Print every detection, not the first 20 alone.")
@click.option(
    "--min-confidence", type=click.FloatRange(0, 1), help="Print those that are at least so sure."
)
@click.option(
    "--sort", type=click.Choice(SORTED_BY), default="rank", help="Print them in this order."
)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for the answers of several exposures, one JSON file each, and their ledger "
    "night.jsonl. A command that is given again with the same folder scores what is not done.",
)
@click.option(
    "--jobs", type=click.IntRange(1, 64), default=4, show_default=True, help="Exposures at once."
)
@click.option(
    "--watch",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Score the exposures that are, and that arrive, in this folder, until Ctrl-C.",
)
@click.option(
    "--deadline", type=float, default=300.0, show_default=True, help="Seconds, retries included."
)
def score(
    paths: tuple[str, ...],
    url: str | None,
    token: str | None,
    candidates: str | None,
    hdu: str | None,
    mask: str | None,
    mask_hdu: str | None,
    mask_bits: int | None,
    weight: str | None,
    weight_hdu: str | None,
    weight_type: WeightType | None,
    psf: str | None,
    psf_hdu: str | None,
    science: str | None,
    science_hdu: str | None,
    template: str | None,
    template_hdu: str | None,
    seeing_fwhm: float | None,
    seeing_unit: SeeingUnit | None,
    threshold: float | None,
    max_false_discovery_rate: float | None,
    prevalence: float | Literal["estimated", "calibrated"] | None,
    tta: bool,
    polarity: Literal["1", "-1"] | None,
    zero_point: float | None,
    flux_unit: str | None,
    mjd_mid: float | None,
    time_scale: TimeScale | None,
    exposure_time: float | None,
    filter_name: str | None,
    form: str,
    model_version: str | None,
    exposure_id: str | None,
    every: bool,
    min_confidence: float | None,
    sort: str,
    out: Path | None,
    jobs: int,
    watch: Path | None,
    deadline: float,
) -> None:
    """Score difference images, and print their detections, or keep them in a folder.

    A PATH is a FITS or .npy file, a folder, a pattern, @LIST (a text file with a PATH a line), or
    s3://bucket/key, which the gateway reads itself. Several exposures need --out.

    With several exposures, --mask, --weight, --psf, --science, --template and --candidates are
    patterns: {folder}, {stem} and {name} in them stand for the exposure's own.
    """
    if threshold is not None and max_false_discovery_rate is not None:
        fail("score", "leave out --threshold or --max-false-discovery-rate, which chooses it")
    if seeing_unit is not None and seeing_fwhm is None:
        fail("score", "give --seeing-fwhm, or leave out --seeing-unit, which is its unit")
    try:
        request = InferRequest(
            hdu=number_or_name(hdu),
            mask_hdu=number_or_name(mask_hdu),
            mask_bits=mask_bits,
            weight_hdu=number_or_name(weight_hdu),
            weight_type=weight_type,
            psf_hdu=number_or_name(psf_hdu),
            science_hdu=number_or_name(science_hdu),
            template_hdu=number_or_name(template_hdu),
            seeing_fwhm=seeing_fwhm,
            seeing_unit=seeing_unit,
            confidence_threshold=threshold,
            max_false_discovery_rate=max_false_discovery_rate,
            prevalence=prevalence,
            tta=tta,
            polarity=None if polarity is None else 1 if polarity == "1" else -1,
            zero_point=zero_point,
            flux_unit=flux_unit,
            mjd_mid=mjd_mid,
            time_scale=time_scale,
            exposure_time=exposure_time,
            filter=filter_name,
            exposure_id=exposure_id,
            model_version=number_or_name(model_version),
        )
    except FieldError as error:
        fail("score", error)
    planes = {
        "mask": mask,
        "weight": weight,
        "psf": psf,
        "science": science,
        "template": template,
        "candidates": candidates,
    }
    given = {name: path for name, path in planes.items() if path is not None}
    gateway = gateway_at(url, "score")
    if out is not None or watch is not None or len(paths) > 1:
        if out is None:
            fail("score", "several exposures need --out, a folder for their answers")
        if exposure_id is not None:
            fail("score", "leave out --id: several exposures are called by their files' names")
        if form not in ("table", *TABLES):
            fail("score", f"--format {form} is of one exposure: with --out, {', '.join(TABLES)}")
        night(
            lambda: AsyncClient(gateway, token=token, deadline=deadline),
            paths=paths,
            watch=watch,
            out=out,
            request=request,
            planes=given,
            jobs=jobs,
            form=None if form == "table" else form,
        )
        return
    if not paths:
        fail("score", "give the PATH of an exposure")
    [exposure] = paths
    for path in (exposure, *given.values()):
        if not is_reference(path) and not Path(path).is_file():
            kind = "is a folder: give --out, a folder for the answers" * Path(path).is_dir()
            fail("score", f"{path} {kind or 'is no file'}")
    files: Options = {}
    files.update(given)  # type: ignore[typeddict-item]
    # Where somebody watches, a large one is scored in the background, which tells how far it is.
    large = not is_reference(exposure) and Path(exposure).stat().st_size >= _LARGE
    show = RunProgress(exposure)
    try:
        with Client(gateway, token=token, deadline=deadline) as client, show:
            how = "json" if form == "table" else form
            answer = client.score_as(
                how, exposure, request, on_progress=show, background=large and show.seen, **files
            )
    except (ClientError, FieldError) as error:
        fail("score", error)
    except KeyboardInterrupt:
        if show.run is not None:
            click.echo(f"run {show.run} goes on in the gateway: GET /runs/{show.run}", err=True)
        sys.exit(130)
    if form == "table":
        _print(json.loads(answer), Choice(every=every, min_confidence=min_confidence, sort=sort))
    else:
        click.echo(answer, nl=False)


def _print(answer: dict[str, Any], choice: Choice) -> None:
    console = wide_console()
    console.print(table(answer, choice=choice))
    for line in remarks(answer):
        console.print(line, style="yellow", markup=False)
    model = answer["model"]
    console.print(f"run {answer['run_id']} by {model['name']} version {model['version']}")
