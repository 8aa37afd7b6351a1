"""Exposures whose true transients are known: what a version is validated on, and travels with it.

As one file it is FITS, ``validation.fits``: a primary HDU whose ``DESCR`` says what the fields are,
a tile-compressed image ``FIELD`` for each, followed by its ``SCIENCE`` and ``TEMPLATE`` where they
are there, and a table ``TRUTH`` with the columns ``FIELD`` (from 0), ``X``, ``Y`` (0-based pixels),
``SNR``, ``POLARITY`` (1 or -1), ``FWHM`` (of the field's point sources, pixels), ``HOSTED`` and
``SATURATED``.
"""

import io
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Self

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from astrotriton.detection.image.exposure import Exposure
from astrotriton.detection.quality.transients import Transients
from astrotriton.wire.exposures import COMPANIONS, Companion

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
    companions
        The images that the difference was made of, as far as they are there: as ``image``.
    """

    image: NDArray[np.float32]
    transients: Transients
    companions: Mapping[Companion, NDArray[np.float32]] = field(default_factory=dict)

    def showing(self, companions: Collection[Companion]) -> Self:
        """The same field with these companions alone, as far as it has them."""
        kept = {name: image for name, image in self.companions.items() if name in companions}
        return replace(self, companions=kept)

    def exposure(self) -> Exposure:
        """The image, with its companions."""
        made = Exposure.from_array(self.image)
        for name, image in self.companions.items():
            made.companions[name] = Exposure.from_array(image)
        return made


@dataclass(frozen=True, slots=True)
class ValidationSet:
    """Fields, and what they are, in words that also tell one set from another."""

    fields: Sequence[LabelledField]
    description: str

    def showing(self, companions: Collection[Companion]) -> Self:
        """The same fields with these companions alone, as far as they have them."""
        return replace(self, fields=[one.showing(companions) for one in self.fields])

    def to_fits(self) -> bytes:
        """The set as one file; its pixels are rounded to a sixteenth of the noise."""
        primary = fits.PrimaryHDU()
        primary.header["DESCR"] = self.description
        images = [
            _compressed(name, image)
            for one in self.fields
            for name, image in (("field", one.image), *one.companions.items())
        ]
        number = np.repeat(
            np.arange(len(self.fields)), [len(one.transients) for one in self.fields]
        )
        known = Transients.join([one.transients for one in self.fields])
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
                images = _images(hdus)
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
        fields = [
            LabelledField(image, known.take(number == i), companions)
            for i, (image, companions) in enumerate(images)
        ]
        return cls(fields, description)


def _compressed(name: str, image: NDArray[np.float32]) -> fits.CompImageHDU:
    return fits.CompImageHDU(
        image,
        name=name.upper(),
        compression_type="RICE_1",
        tile_shape=(min(_ROWS, image.shape[0]), image.shape[1]),
        quantize_level=_STEPS,
        quantize_method=fits.hdu.compressed.SUBTRACTIVE_DITHER_1,
        dither_seed=_DITHER,
    )


def _images(
    hdus: fits.HDUList,
) -> list[tuple[NDArray[np.float32], dict[Companion, NDArray[np.float32]]]]:
    """Each field's image and companions.

    Raises
    ------
    ValueError
        If a companion belongs to no field, or is of another shape.
    """
    found: list[tuple[NDArray[np.float32], dict[Companion, NDArray[np.float32]]]] = []
    names: dict[str, Companion] = {name.upper(): name for name in COMPANIONS}
    for hdu in hdus:
        if hdu.name == "FIELD":
            found.append((np.asarray(hdu.data, np.float32), {}))
        elif (companion := names.get(hdu.name)) is not None:
            image = np.asarray(hdu.data, np.float32)
            if not found or image.shape != found[-1][0].shape:
                raise ValueError(f"{VALIDATION_FILE}: a {hdu.name} that is of no field")
            found[-1][1][companion] = image
    return found
