import numpy as np
from scipy import ndimage

from astrotriton.detection.sources.peaks import find_peaks, suppress


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


def test_peaks_are_the_summits_of_the_whole_smoothed_map() -> None:
    rng = np.random.default_rng(3)
    image = np.zeros((120, 150), np.float32)
    for x, y in rng.uniform(-1, 151, size=(40, 2)):
        image = np.maximum(image, disc(image.shape, x, y, float(rng.uniform(0.3, 1.0))))
    mask = rng.uniform(size=image.shape) < 0.02
    clean = np.where(mask, 0.0, image)
    smooth = ndimage.gaussian_filter(clean, 1.0, mode="nearest")
    summits = smooth >= ndimage.maximum_filter(smooth, 3, mode="nearest") * (1 - 1e-5)
    high = ndimage.maximum_filter(clean, 3, mode="nearest") >= 0.5
    expected = np.argwhere(summits & high & ~mask & (smooth > 0))[:, ::-1]
    found, _ = find_peaks(image, mask, 0.5, 0.0)
    # Each is the centroid around a summit; summits of one plateau have the same.
    distance = np.linalg.norm(found[:, None] - expected[None], axis=2)
    assert distance.min(axis=0).max() < 3.0
    assert distance.min(axis=1).max() < 3.0
    assert 20 < len(found) <= len(expected)


def test_suppression_names_the_survivor() -> None:
    positions = np.array([[0.0, 0.0], [10.0, 0.0], [1.0, 0.0], [11.0, 1.0], [3.0, 0.0]])
    np.testing.assert_array_equal(suppress(positions, 2.0), [0, 1, 0, 1, 4])
    assert len(suppress(np.empty((0, 2)), 2.0)) == 0
