"""The command that makes the network a survey's own."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from astrotriton.cli import fail, number_or_name
from astrotriton.commands.models.settings import known_version, quiet, settings_of

if TYPE_CHECKING:
    import keras

    from astrotriton.detection.card import UNetModel

_FOLDER = click.Path(file_okay=False, path_type=Path)
_HDU_HELP = "Index or EXTNAME of its HDU, in its file or else in the exposure's."


@click.command()
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@click.option("--out", type=_FOLDER, required=True, help="Folder for the network and its figures.")
@click.option("--model", help="The version to start from, as for `verify`; else the reference one.")
@click.option("--science", help="Science image of each; {folder}, {stem}, {name} are filled in.")
@click.option("--template", help="Template image of each, alike.")
@click.option("--mask", help="Data-quality plane of each, alike.")
@click.option("--weight", help="Weight plane of each, alike.")
@click.option("--hdu", help="Index or EXTNAME of the difference.")
@click.option("--science-hdu", help=_HDU_HELP)
@click.option("--template-hdu", help=_HDU_HELP)
@click.option("--mask-hdu", help=_HDU_HELP)
@click.option("--weight-hdu", help=_HDU_HELP)
@click.option(
    "--labels",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Table with exposure, x and y (or ra and dec), and label.",
)
@click.option("--epochs", type=click.IntRange(1), default=60, show_default=True)
@click.option("--seed", type=int, default=1, show_default=True)
@click.option("--register", "registers", is_flag=True, help="Register it in MLflow afterwards.")
def adapt(
    paths: tuple[str, ...],
    out: Path,
    model: str | None,
    labels: Path | None,
    epochs: int,
    seed: int,
    registers: bool,
    **given: str | None,
) -> None:
    """Make the network a survey's own, from its difference exposures.

    PATH is a file, a folder, a pattern or @list. Transients of known truth are put into the
    exposures; the network goes on learning from half of them, its confidence is fitted on a
    quarter, and it is compared with the one that it started from on the last quarter.
    """
    quiet()
    from astrotriton.adaptation.adapt import adapt as run
    from astrotriton.adaptation.adapt import keep
    from astrotriton.adaptation.finetuning import Finetuning
    from astrotriton.adaptation.reading import labels_of, read_labels, read_survey_exposure
    from astrotriton.adaptation.survey import UnfitError, measure_exposure
    from astrotriton.client.ledger import NightError
    from astrotriton.client.night import exposures_of
    from astrotriton.label_tables import LabelTableError
    from astrotriton.training.network import predicting

    planes = ("science", "template", "mask", "weight")
    patterns = {one: path for one in planes if (path := given[one]) is not None}
    named = {"exposure": given["hdu"]} | {one: given[f"{one}_hdu"] for one in planes}
    hdus = {one: hdu for one, name in named.items() if (hdu := number_or_name(name)) is not None}
    try:
        network, card = _start(model)
        predict = predicting(network)
        known = read_labels(labels) if labels else {}
        measured, unfit = [], 0
        files = exposures_of(paths)
        for i, path in enumerate(files, start=1):
            try:
                exposure = read_survey_exposure(path, patterns, hdus)
                said = labels_of(path, exposure, known)
                one = measure_exposure(path, exposure, card, predict, said)
            except UnfitError as error:
                unfit += 1
                click.echo(f"{i}/{len(files)} left out: {error}", err=True)
                continue
            click.echo(
                f"{i}/{len(files)} {path}: point sources of {one.fwhm:.2f} px,"
                f" {one.unknown} sources that may be real are left out",
                err=True,
            )
            measured.append(one)
        if unfit:
            click.echo(f"{unfit} of {len(files)} exposures are left out", err=True)
        made = run(
            measured,
            network,
            card,
            out,
            how=Finetuning(seed=seed, epochs=epochs),
            on_progress=lambda what: click.echo(what, err=True),
        )
    except (UnfitError, NightError, LabelTableError) as error:
        fail("adapt", error)
    keep(made, out)
    click.echo(made.text())
    if registers:
        from astrotriton.export import own_fields, registry
        from astrotriton.export.errors import ExportError

        settings_of(None)
        try:
            version = registry.register(made.network, made.card)
            registered = registry.resolve(f"models:/{made.card.name}/{version}")
            own_fields.keep_fields(
                registered,
                made.validation,
                metrics=made.metrics(),
                tags={
                    "astrotriton.adapted_from": model or "the reference network",
                    "astrotriton.adapted_on": made.validation.description,
                },
            )
        except ExportError as error:
            fail("adapt", error)
        click.echo(
            f"{made.card.name} version {version} is registered; see how the gates judge it on your"
            f" own fields: astrotriton verify models:/{made.card.name}/{version}"
        )


def _start(model: str | None) -> "tuple[keras.Model, UNetModel]":
    """The network to start from, and its card."""
    from astrotriton.adaptation.survey import UnfitError
    from astrotriton.detection.card import UNetModel

    if model is None:
        from astrotriton.training.weights import load_card, load_network

        return load_network(), load_card()
    from astrotriton.export import registry
    from astrotriton.export.errors import ExportError

    settings_of(None)
    try:
        registered = known_version(model)
        card = registry.load_card(registered)
        if not isinstance(card, UNetModel):
            raise UnfitError(f"{model} classifies stamps; a U-Net can be adapted")
        if card.confidence is None:
            raise UnfitError(f"{model} has no confidence yet, so nothing tells what may be real")
        return registry.load_keras(registered), card
    except ExportError as error:
        fail("adapt", error)
