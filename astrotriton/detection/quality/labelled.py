"""Exposures whose true transients are known: what a version is validated on, and travels with it.

As one file it is FITS, ``validation.fits``: a primary HDU whose ``DESCR`` says what the fields are,
a tile-compressed image ``FIELD`` for each, and a table ``TRUTH`` with the columns ``FIELD`` (from
0), ``X``, ``Y`` (0-based pixels), ``SNR``, ``POLARITY`` (1 or -1), ``FWHM`` (of the field's point
sources, pixels), ``HOSTED`` and ``SATURATED``.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from astrotriton.detection.quality.transients import Transients

VALIDATION_FILE = "validation.fits"

# Of RICE compression: steps of a sixteenth of the noise, with a fixed dither.
_STEPS = 16.0
_DITHER = 1
# Lines that are compressed together: of single ones, the calls cost more than the work.
_ROWS = 16


@dataclass(frozen=True, slots=True)
class LabelledField:
    """An exposure with its true transients.

    Attributes
    ----------
    image
        float32 (H, W), counts; NaN where there is nothing.
    transients
        What is to be found in it.
    """

    image: NDArray[np.float32]
    transients: Transients


@dataclass(frozen=True, slots=True)
class ValidationSet:
    """Fields, and what they are, in words that also tell one set from another."""

    fields: Sequence[LabelledField]
    description: str

    def to_fits(self) -> bytes:
        """The set as one file; its pixels are rounded to a sixteenth of the noise."""
        primary = fits.PrimaryHDU()
        primary.header["DESCR"] = self.description
        images = [
            fits.CompImageHDU(
                field.image,
                name="FIELD",
                compression_type="RICE_1",
                tile_shape=(min(_ROWS, field.image.shape[0]), field.image.shape[1]),
                quantize_level=_STEPS,
                quantize_method=fits.hdu.compressed.SUBTRACTIVE_DITHER_1,
                dither_seed=_DITHER,
            )
            for field in self.fields
        ]
        number = np.repeat(
            np.arange(len(self.fields)), [len(field.transients) for field in self.fields]
        )
        known = Transients.join([field.transients for field in self.fields])
        truth = fits.BinTableHDU.from_columns(
            [
                fits.Column("FIELD", "J", array=number),
                fits.Column("X", "D", unit="pix", array=known.positions[:, 0]),
                fits.Column("Y", "D", unit="pix", array=known.positions[:, 1]),
                fits.Column("SNR", "D", array=known.snr),
                fits.Column("POLARITY", "I", array=known.polarity),
                fits.Column("FWHM", "D", unit="pix", array=known.fwhm),
                fits.Column("HOSTED", "L", array=known.hosted),
                fits.Column("SATURATED", "L", array=known.saturated),
            ],
            name="TRUTH",
        )
        stream = io.BytesIO()
        fits.HDUList([primary, *images, truth]).writeto(stream)
        return stream.getvalue()

    @classmethod
    def from_fits(cls, content: bytes) -> Self:
        """Read the content of a ``validation.fits``.

        Raises
        ------
        ValueError
            If it is none.
        """
        try:
            with fits.open(io.BytesIO(content)) as hdus:
                description = str(hdus[0].header["DESCR"])
                images = [np.asarray(h.data, np.float32) for h in hdus if h.name == "FIELD"]
                truth = hdus["TRUTH"].data
                number = np.asarray(truth["FIELD"])
                known = Transients(
                    positions=np.stack([truth["X"], truth["Y"]], axis=1).astype(np.float64),
                    snr=np.asarray(truth["SNR"], np.float64),
                    polarity=np.asarray(truth["POLARITY"], np.int8),
                    fwhm=np.asarray(truth["FWHM"], np.float64),
                    hosted=np.asarray(truth["HOSTED"], bool),
                    saturated=np.asarray(truth["SATURATED"], bool),
                )
        except (OSError, KeyError, TypeError) as error:
            raise ValueError(f"{VALIDATION_FILE} is not as written: {error}") from error
        fields = [LabelledField(image, known.take(number == i)) for i, image in enumerate(images)]
        return cls(fields, description)
