"""What surveys send, and what they would need of everything."""

from dataclasses import dataclass

from astrotriton.detection.image.tiling import plan
from astrotriton.training.weights import load_card


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """One survey, as it reads out.

    Attributes
    ----------
    name
        Of the survey.
    detectors, pixels
        Detectors of an exposure, and the rows and columns of each.
    cadence
        Seconds from one exposure to the next.
    hours
        Of a night.
    candidates
        Detections that are stored, for each detector.
    """

    name: str
    detectors: int
    pixels: tuple[int, int]
    cadence: float
    hours: float = 9.0
    candidates: int

    @property
    def tiles(self) -> int:
        """Tiles that the reference network's card cuts one detector into."""
        _, answered, overlap = load_card().footprint
        return len(plan(self.pixels, answered, overlap))

    @property
    def tiles_per_second(self) -> float:
        """Over all detectors, while it observes."""
        return self.detectors * self.tiles / self.cadence

    @property
    def exposures_per_night(self) -> int:
        """Of the whole camera."""
        return round(self.hours * 3600 / self.cadence)

    @property
    def rows_per_night(self) -> int:
        """Detections that are stored."""
        return self.exposures_per_night * self.detectors * self.candidates


# Formats and cadences as the surveys publish them (Tonry et al. 2018; Flaugher et al. 2015; Dekany
# et al. 2020; Chambers et al. 2016; Ivezic et al. 2019). ATLAS is one of its telescopes. Detections
# are what Rubin (10 million) and ZTF (a million) expect of a night, and guesses for the others.
SURVEYS = (
    Survey(name="ATLAS", detectors=1, pixels=(10560, 10560), cadence=40.0, candidates=300),
    Survey(name="DECam", detectors=62, pixels=(4096, 2048), cadence=60.0, candidates=40),
    Survey(name="ZTF", detectors=64, pixels=(3080, 3072), cadence=40.0, candidates=20),
    Survey(name="Pan-STARRS", detectors=60, pixels=(4846, 4868), cadence=55.0, candidates=60),
    Survey(name="Rubin", detectors=189, pixels=(4096, 4096), cadence=37.0, candidates=60),
)
