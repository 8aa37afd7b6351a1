"""The table of a run, and what a run returns."""

import pytest

from benchmarks.gpu.table import agrees, table

WHAT = {"network": "reference", "engine": "pytorch", "precision": "fp32"}
BARE = {"step": "bare", **WHAT, "form": "device", "batch": 8, "difference": 2e-6}
SERVED = {
    "step": "served",
    **WHAT,
    "form": "gRPC",
    "instances": 2,
    "concurrency": 16,
    "difference": 3e-6,
    "batches": {"1": 2, "8": 40},
}


def test_the_table_has_every_measurement_and_its_share_of_the_bare_engine() -> None:
    text = table(
        [
            {"step": "facts", "fact_gpu": "one | of some kind", "fact_cores": 16},
            {**BARE, "tiles_per_s": 2000.0},
            {**BARE, "batch": 1, "tiles_per_s": 501.4},
            {**SERVED, "tiles_per_s": 1800.0},
            {
                "step": "whole",
                **WHAT,
                "form": "gateway, 512x512",
                "concurrency": 16,
                "exposures_per_s": 61.5,
                "tiles_per_s": 246.0,
                "detections_per_s": 900.0,
            },
            {"step": "bare", "network": "wide", "failed": "RuntimeError: no | memory"},
            {"step": "whole", "left_out": "no time was left"},
        ]
    )
    assert "| reference | pytorch | fp32 | device | 501 | 2,000 | 2.0e-06 |" in text
    assert "| gRPC | 2 | 16 | 1,800 | 0.90 | 3.0e-06 | 2x1, 40x8 |" in text
    assert "| gateway, 512x512 | 16 | 61.5 | 246 | 900 |" in text
    assert "| bare wide | failed | RuntimeError: no / memory |" in text
    assert "| whole | left out | no time was left |" in text


def test_a_run_of_which_nothing_came_has_a_table_too() -> None:
    text = table([{"step": "bare", "failed": "no GPU"}])
    assert "no GPU" in text
    assert "Bare engines" not in text


@pytest.mark.parametrize(
    ("lines", "right"),
    [
        ([{**BARE, "tiles_per_s": 1.0}], True),
        ([{**BARE, "tiles_per_s": 1.0, "difference": 2e-4}], False),
        ([{**BARE, "tiles_per_s": 1.0, "difference": float("inf")}], False),
        # Half precision differs by more, and is told, not judged.
        ([{**BARE, "precision": "fp16", "difference": 1e-3}], True),
        ([{"step": "bare", "failed": "no GPU"}], False),
        ([], False),
    ],
)
def test_a_run_is_right_if_fp32_answers_as_keras_does(
    lines: list[dict[str, object]], right: bool
) -> None:
    assert agrees(lines) is right
