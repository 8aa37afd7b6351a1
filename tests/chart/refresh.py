"""``python -m tests.chart.refresh``: make anew what is kept of the chart."""

from tests.chart.chart_parts import CHART, SCENARIOS, SNAPSHOTS, readme_text, schema_text, snapshot


def main() -> None:
    (CHART / "values.schema.json").write_text(schema_text())
    (CHART / "README.md").write_text(readme_text())
    for name in SCENARIOS:
        (SNAPSHOTS / f"{name}.yaml").write_text(snapshot(name))


if __name__ == "__main__":
    main()
