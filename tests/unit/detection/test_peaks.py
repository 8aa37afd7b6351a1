import numpy as np

from detection.peaks import find_peaks, suppress


def disc(shape: tuple[int, int], x: float, y: float, height: float = 1.0) -> np.ndarray:
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    return np.where(np.hypot(columns - x, rows - y) <= 2.0, height, 0.0).astype(np.float32)


CLEAR = np.zeros((60, 80), bool)


def test_a_plateau_is_one_peak() -> None:
    positions, scores = find_peaks(disc((60, 80), 30, 20), CLEAR, 0.5, 4.0)
    np.testing.assert_allclose(positions, [[30, 20]])
    np.testing.assert_allclose(scores, [1.0])


def test_best_first_and_threshold() -> None:
    image = disc((60, 80), 20, 20, 0.7) + disc((60, 80), 50, 40, 0.9) + disc((60, 80), 70, 10, 0.3)
    positions, scores = find_peaks(image, CLEAR, 0.5, 4.0)
    np.testing.assert_allclose(positions, [[50, 40], [20, 20]])
    np.testing.assert_allclose(scores, [0.9, 0.7], rtol=1e-6)


def test_close_peaks_are_one_and_masked_ones_none() -> None:
    image = np.zeros((60, 80), np.float32)
    image[20, 20], image[20, 23], image[40, 40] = 0.9, 0.8, 0.95
    mask = CLEAR.copy()
    mask[40, 40] = True
    positions, _ = find_peaks(image, mask, 0.5, 4.0)
    assert len(positions) == 1


def test_nothing_at_all() -> None:
    for image in (np.zeros((60, 80), np.float32), np.full((60, 80), np.nan, np.float32)):
        assert len(find_peaks(image, CLEAR, 0.5, 4.0)[0]) == 0


def test_suppression_names_the_survivor() -> None:
    positions = np.array([[0.0, 0.0], [10.0, 0.0], [1.0, 0.0], [11.0, 1.0], [3.0, 0.0]])
    np.testing.assert_array_equal(suppress(positions, 2.0), [0, 1, 0, 1, 4])
    assert len(suppress(np.empty((0, 2)), 2.0)) == 0
