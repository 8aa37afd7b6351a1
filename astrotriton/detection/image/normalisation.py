"""How a card says that an exposure is prepared."""

import msgspec


class Normalisation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How pixel values become what the network sees; see `astrotriton.detection.image.preprocess`.

    Attributes
    ----------
    mesh
        Side of a background mesh cell, pixels.
    softening
        Where the asinh stretch turns from linear to logarithmic, in units of the noise sigma.
    clip
        Largest absolute value after the stretch.
    resize
        Side of an exposure's pixel in the network's pixels: 2 shows the network twice as many
        pixels along each axis, as it may want of exposures with coarser pixels than it was trained
        on. Its answers come back on the exposure's own pixels, and so do all positions.
    """

    mesh: int = 64
    softening: float = 3.0
    clip: float = 8.0
    resize: float = 1.0


#: Of science and template, where a card says nothing else: bright stars and galaxies, which a
#: difference has not, keep their light (the mesh) and their contrast (the stretch).
OF_COMPANIONS = Normalisation(mesh=128, softening=10.0, clip=10.0)
