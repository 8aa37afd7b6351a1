"""What importing the client costs, beside the two libraries that it is made of.

    python -m benchmarks.imports

Prints the CPU time of `import astrotriton.client` in units of `import httpx, msgspec`, the least of
several processes each, which take turns.
"""

import resource
import subprocess
import sys

import click

_OWN = "import astrotriton.client"
_LIBRARIES = "import httpx, msgspec"


def _cpu_seconds(code: str) -> float:
    """CPU time of a process that runs some code, user and system, seconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", code], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (after.ru_utime - before.ru_utime) + (after.ru_stime - before.ru_stime)


@click.command()
@click.option("--rounds", default=11, show_default=True, help="Processes of each kind.")
def main(rounds: int) -> None:
    """Compare the CPU time of two imports."""
    pairs = [(_cpu_seconds(_OWN), _cpu_seconds(_LIBRARIES)) for _ in range(rounds)]
    own, libraries = (min(column) for column in zip(*pairs, strict=True))
    click.echo(f"{_OWN}: {own * 1000:.0f} ms of CPU")
    click.echo(f"{_LIBRARIES}: {libraries * 1000:.0f} ms of CPU")
    click.echo(f"ratio {own / libraries:.2f}")


if __name__ == "__main__":
    main()
