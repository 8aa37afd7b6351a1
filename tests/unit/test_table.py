"""Which detections a person is shown."""

from typing import Any

import pytest

from astrotriton.table import Choice, remarks


def detections(count: int) -> list[dict[str, Any]]:
    return [
        {"rank": n, "confidence": 1.0 - n / 100, "snr": (-1) ** n * n, "x": float(count - n)}
        for n in range(1, count + 1)
    ]


@pytest.mark.parametrize(
    ("choice", "count", "shown", "title"),
    [
        (Choice(), 1, 1, "1 detection"),
        (Choice(), 25, 20, "The 20 most confident of 25 detections"),
        (Choice(every=True), 25, 25, "25 detections"),
        (Choice(min_confidence=0.9), 25, 10, "10 detections of confidence 0.9 or more, of 25"),
        (Choice(sort="snr"), 25, 20, "The 20 first by snr of 25 detections"),
    ],
)
def test_the_title_says_what_is_shown(choice: Choice, count: int, shown: int, title: str) -> None:
    kept, said = choice.of(detections(count))
    assert len(kept) == shown
    assert said == title


def test_the_largest_come_first_of_either_sign_and_places_from_the_left() -> None:
    some = detections(3)
    some[0]["snr"] = None
    assert [one["rank"] for one in Choice(sort="snr").of(some)[0]] == [3, 2, 1]
    assert [one["rank"] for one in Choice(sort="x").of(some)[0]] == [3, 2, 1]


def test_what_was_not_scored_is_not_sure() -> None:
    some = detections(3)
    some[1]["confidence"] = None
    assert [one["rank"] for one in Choice(min_confidence=0.0).of(some)[0]] == [1, 3]


def test_flags_of_the_exposure_are_told_in_words() -> None:
    one, other = remarks({"flags": ["subtraction_suspect", "of_a_later_release"]})
    assert one.startswith("subtraction_suspect: ")
    assert "or not at all" in one
    assert other.startswith("of_a_later_release: ")
    assert remarks({"flags": []}) == []
