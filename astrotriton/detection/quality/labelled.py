"""Exposures whose true transients are known: what a version is validated on, and travels with it.

As one file it is FITS, ``validation.fits``: a primary HDU whose ``DESCR`` says what the fields are,
a tile-compressed image ``FIELD`` for each, and a table ``TRUTH`` with the columns ``FIELD`` (from
0), ``X``, ``Y`` (0-based pixels) and ``SNR``.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

VALIDATION_FILE = "validation.fits"

# Of RICE compression: steps of a sixteenth of the noise, with a fixed dither.
_STEPS = 16.0
_DITHER = 1


@dataclass(frozen=True, slots=True)
class LabelledField:
    """An exposure with its true transients.

    Attributes
    ----------
    image
        float32 (H, W), counts; NaN where there is nothing.
    positions
        float64 (N, 2), x and y of the transients, 0-based pixels.
    snr
        float64 (N,), their true signal-to-noise ratio.
    """

    image: NDArray[np.float32]
    positions: NDArray[np.float64]
    snr: NDArray[np.float64]


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
                quantize_level=_STEPS,
                quantize_method=fits.hdu.compressed.SUBTRACTIVE_DITHER_1,
                dither_seed=_DITHER,
            )
            for field in self.fields
        ]
        number = np.repeat(np.arange(len(self.fields)), [len(field.snr) for field in self.fields])
        place = np.concatenate([field.positions for field in self.fields])
        snr = np.concatenate([field.snr for field in self.fields])
        truth = fits.BinTableHDU.from_columns(
            [
                fits.Column("FIELD", "J", array=number),
                fits.Column("X", "D", unit="pix", array=place[:, 0]),
                fits.Column("Y", "D", unit="pix", array=place[:, 1]),
                fits.Column("SNR", "D", array=snr),
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
                place = np.stack([truth["X"], truth["Y"]], axis=1).astype(np.float64)
                snr = np.asarray(truth["SNR"], np.float64)
        except (OSError, KeyError, TypeError) as error:
            raise ValueError(f"{VALIDATION_FILE} is not as written: {error}") from error
        fields = [
            LabelledField(image, place[number == i], snr[number == i])
            for i, image in enumerate(images)
        ]
        return cls(fields, description)
