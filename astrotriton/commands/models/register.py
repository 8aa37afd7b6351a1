"""Commands that bring a network and its card into MLflow, and show cards."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from astrotriton.commands.models.settings import known_version, quiet, settings_of
from astrotriton.commands.models.telling import EXIT_CODES, Report
from astrotriton.settings import ModelConfig

if TYPE_CHECKING:
    import keras

    from astrotriton.detection.card import ModelCard

_json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
_FITTED = ("confidence", "confidence_tta", "digests")


@click.command(epilog=EXIT_CODES)
@click.argument("source")
@click.option(
    "--card",
    "card_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The card, TOML or JSON; what it leaves out is taken from the model.",
)
@click.option("--name", help="Name of the model in MLflow, in place of the card's or its own.")
@click.option("--dry-run", is_flag=True, help="Only show the card, and register nothing.")
@_json_option
def register(
    source: str, card_file: Path | None, name: str | None, dry_run: bool, as_json: bool
) -> None:
    """Register the Keras model SOURCE with its card, as a new version in MLflow.

    SOURCE is a .keras or .h5 file, the folder of a SavedModel, or a URI that MLflow reads, such as
    runs:/RUN/model. The same model with the same card is the version that it already is.
    """
    report = Report("register", as_json)
    with report.telling():
        settings_of(None)
        quiet()
        from astrotriton.export import cards, registry

        given = cards.read(card_file) if card_file else {}
        model = _model(source, report)
        card = cards.completed(
            given | ({"name": name} if name else {}),
            model,
            trained_at=_written_at(source),
            tile_size=ModelConfig().input_size,
        )
        if dry_run:
            report.result(_text(card), card=msgspec.to_builtins(card))
            return
        report.progress(f"registering {card.name}")
        version = registry.register(model, card)
        report.result(
            f"{card.name} version {version} is registered; see whether it can be served:"
            f" astrotriton verify models:/{card.name}/{version}",
            name=card.name,
            version=version,
            card=msgspec.to_builtins(card),
        )


@click.group()
def card() -> None:
    """Show, check and compare model cards."""


@card.command()
@click.argument("model")
@click.option("--whole", is_flag=True, help="The fitted confidence and the digests, too.")
def show(model: str, whole: bool) -> None:
    """Print the card of MODEL as JSON, as `register --card` takes it.

    MODEL is a file, or a version named as for `export`.
    """
    report = Report("card show", as_json=False)
    with report.telling():
        report.result(_text(_card(model), whole=whole))


@card.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--model", "source", help="The model that it is for, as `register` takes it.")
@_json_option
def check(file: Path, source: str | None, as_json: bool) -> None:
    """Check the card FILE, by itself or with its model."""
    report = Report("card check", as_json)
    with report.telling():
        quiet()
        from astrotriton.export import cards

        given = cards.read(file)
        if source is None:
            made = cards.checked(given)
        else:
            made = cards.completed(
                given,
                _model(source, report),
                trained_at=_written_at(source),
                tile_size=ModelConfig().input_size,
            )
        report.result(f"{file} is a card of {made.name}", card=msgspec.to_builtins(made))


@card.command()
@click.argument("one")
@click.argument("other")
@_json_option
def diff(one: str, other: str, as_json: bool) -> None:
    """Say what the cards of ONE and OTHER, files or versions, say differently."""
    report = Report("card diff", as_json)
    with report.telling():
        from astrotriton.export import cards

        found = cards.differences(_card(one), _card(other))
        report.result("\n".join(found) or "they say the same", differences=found)


def _model(source: str, report: Report) -> "keras.Model":
    from astrotriton.export import keras_files, registry

    report.progress(f"loading {source}")
    path = Path(source)
    return keras_files.load(path) if path.exists() else registry.load_uri(source)


def _written_at(source: str) -> datetime:
    path = Path(source)
    if path.exists():
        return datetime.fromtimestamp(path.stat().st_mtime, UTC)
    return datetime.now(UTC)


def _card(named: str) -> "ModelCard":
    from astrotriton.export import cards, registry

    path = Path(named)
    if path.suffix in (".toml", ".json") and path.exists():
        return cards.checked(cards.read(path))
    settings_of(None)
    return registry.load_card(known_version(named))


def _text(card: "ModelCard", *, whole: bool = False) -> str:
    said = msgspec.to_builtins(card)
    if not whole:
        said = {name: value for name, value in said.items() if name not in _FITTED}
    return msgspec.json.format(msgspec.json.encode(said)).decode()
