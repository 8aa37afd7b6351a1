"""``python -m release``: everything of a version, and what others need to check it."""

import json
import subprocess
from pathlib import Path

import click

from release.artefacts import ROOT, build, digest
from release.provenance import SourceError, commit_of, statement
from release.sbom import IMAGES, LockError, environment_bom, image_bom, licence_table


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Make what is given away of a version."""


_OUT = click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=ROOT / "dist",
    help="Where to; `dist/` of the checkout.",
)


@main.command("build")
@_OUT
@click.option("--repository", default="urn:astrotriton:source", help="URI of the repository.")
@click.option("--builder", default="urn:astrotriton:builder:local", help="URI of who builds.")
def build_command(out: Path, repository: str, builder: str) -> None:
    """Build wheel, source distribution and chart of the commit, with SHA256SUMS and provenance."""
    try:
        commit, epoch = commit_of(ROOT)
    except SourceError as error:
        raise click.ClickException(str(error)) from error
    out.mkdir(parents=True, exist_ok=True)
    files = build(ROOT, out, epoch)
    made = statement(
        files, source=ROOT, repository=repository, commit=commit, epoch=epoch, builder=builder
    )
    (out / "provenance.json").write_text(json.dumps(made, indent=2) + "\n")
    sums = "".join(f"{digest(path)}  {path.name}\n" for path in files)
    (out / "SHA256SUMS").write_text(sums)
    click.echo(sums, nl=False)


@main.command("sbom")
@_OUT
def sbom_command(out: Path) -> None:
    """List what is in each image: IMAGE.cdx.json (CycloneDX), and licences.md for people."""
    try:
        whole = environment_bom()
        boms = {image: image_bom(whole, image) for image in IMAGES}
    except (LockError, OSError, subprocess.CalledProcessError) as error:
        raise click.ClickException(str(error)) from error
    out.mkdir(parents=True, exist_ok=True)
    for image, bom in boms.items():
        (out / f"{image}.cdx.json").write_text(json.dumps(bom, indent=2) + "\n")
        click.echo(f"{out / image}.cdx.json: {len(bom['components'])} packages")
    (out / "licences.md").write_text(licence_table(boms))


if __name__ == "__main__":
    main(prog_name="python -m release")
