"""What a version's files were made from, as an in-toto statement with SLSA's provenance."""

import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import helm_python as helm

from release.artefacts import digest

STATEMENT = "https://in-toto.io/Statement/v1"
PROVENANCE = "https://slsa.dev/provenance/v1"
BUILD_TYPE = "urn:astrotriton:build:make-release:v1"

# All that decides what the bytes of the files are, beside the sources.
_LOCKS = ("bootstrap.lock", "requirements.lock", "requirements/build.lock")


class SourceError(Exception):
    """The sources are not those of a commit."""


def commit_of(source: Path) -> tuple[str, int]:
    """The commit that a checkout is at, and its time in seconds since 1970.

    Raises
    ------
    SourceError
        If it is no checkout, or differs from its commit.
    """
    try:
        if _git(source, "status", "--porcelain"):
            raise SourceError("the checkout differs from its commit: commit or stash first")
        commit, time = _git(source, "log", "-1", "--format=%H %ct").split()
    except (OSError, subprocess.CalledProcessError) as error:
        raise SourceError(f"{source} is no checkout of a commit: {error}") from error
    return commit, int(time)


def statement(
    files: list[Path], *, source: Path, repository: str, commit: str, epoch: int, builder: str
) -> dict[str, Any]:
    """The provenance of files, an in-toto Statement v1 with the predicate SLSA Provenance v1.

    Parameters
    ----------
    files
        What was made.
    source
        The checkout.
    repository
        Address of the repository, a URI.
    commit
        Its commit, in hexadecimal.
    epoch
        `SOURCE_DATE_EPOCH` of the build.
    builder
        Who built, a URI.
    """
    locks = [
        {"name": lock, "digest": {"sha256": digest(source / lock)}}
        for lock in _LOCKS
        if (source / lock).exists()
    ]
    return {
        "_type": STATEMENT,
        "subject": [{"name": path.name, "digest": {"sha256": digest(path)}} for path in files],
        "predicateType": PROVENANCE,
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": {
                    "source": {"uri": repository, "digest": {"gitCommit": commit}},
                    "SOURCE_DATE_EPOCH": epoch,
                },
                "internalParameters": {
                    "build": version("build"),
                    "hatchling": version("hatchling"),
                    "helm": helm.helm_sdk_version(),
                },
                "resolvedDependencies": [
                    {"uri": repository, "digest": {"gitCommit": commit}},
                    *locks,
                ],
            },
            "runDetails": {"builder": {"id": builder}},
        },
    }


def _git(source: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(source), *arguments], check=True, capture_output=True, text=True
    )
    return done.stdout.strip()
