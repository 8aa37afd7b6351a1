"""What is done with an exposure, whoever wants to know."""

import asyncio
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from astrotriton.detection.confidence.prevalence import StatedPrevalence
from astrotriton.detection.errors import InputError
from astrotriton.detection.image.cubes import cube_images
from astrotriton.detection.image.exposure import Exposure, Limits
from astrotriton.detection.image.planes import PLANE_FIELDS, Planes
from astrotriton.detection.quality.judged_candidates import judged_candidates
from astrotriton.detection.quality.transients import Transients
from astrotriton.detection.scoring.channels import needs_more
from astrotriton.detection.scoring.ensemble import candidates_of, with_ensemble_std
from astrotriton.detection.scoring.inference import Inference
from astrotriton.detection.scoring.score import (
    finish,
    guarantee_of,
    inference_of,
    prepare_exposure,
    prevalence_of,
)
from astrotriton.detection.scoring.scored import Scored
from astrotriton.detection.scoring.sequel import Inputs, Sequel
from astrotriton.gateway.backends.triton import Triton
from astrotriton.gateway.compute import compute
from astrotriton.gateway.observability.metrics import stage
from astrotriton.gateway.readers.pool import Readers, ReaderSession
from astrotriton.gateway.services.models import ServedModel
from astrotriton.settings import ModelConfig
from astrotriton.wire.exposures import SeeingUnit
from astrotriton.wire.runs import InferRequest

# Seconds after which what needs no answer is begun: Triton must get hold of the tiles first.
_HEAD_START = 0.002

#: Called with how many tiles are answered, and of how many.
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """What a caller wants scored.

    Attributes
    ----------
    content, filename
        The file, FITS or ``.npy``, and its name.
    mask, weight, psf, science, template
        Files of its planes and of its PSF.
    request
        How to score it.
    """

    content: bytes
    filename: str | None = None
    mask: bytes | None = None
    weight: bytes | None = None
    psf: bytes | None = None
    science: bytes | None = None
    template: bytes | None = None
    request: InferRequest

    @property
    def size(self) -> int:
        """Bytes of its files."""
        planes = (getattr(self, field) for field in PLANE_FIELDS)
        return sum(len(file or b"") for file in (self.content, *planes))

    @property
    def planes(self) -> Planes:
        """The planes, and where they are."""
        return Planes(
            mask=self.mask,
            mask_bits=self.request.mask_bits,
            weight=self.weight,
            weight_type=self.request.weight_type,
            psf=self.psf,
            science=self.science,
            template=self.template,
            mask_hdu=self.request.mask_hdu,
            weight_hdu=self.request.weight_hdu,
            psf_hdu=self.request.psf_hdu,
            science_hdu=self.request.science_hdu,
            template_hdu=self.request.template_hdu,
        )

    @property
    def seeing(self) -> tuple[float, SeeingUnit] | None:
        """The width of point sources that the caller states, and its unit."""
        fwhm = self.request.seeing_fwhm
        return None if fwhm is None else (fwhm, self.request.seeing_unit or "px")


class InferenceService:
    """Reads an exposure, lets a model version see it, and finds the sources in what it answers.

    Parameters
    ----------
    config
        Threshold and batch size.
    limits
        The bounds of an exposure.
    in_flight
        Most requests that one exposure has with Triton at a time.
    triton
        Answers.
    readers
        Read the files.
    """

    def __init__(
        self,
        *,
        config: ModelConfig,
        limits: Limits,
        in_flight: int,
        triton: Triton,
        readers: Readers,
    ) -> None:
        self._config = config
        self._limits = limits
        self._in_flight = in_flight
        self._triton = triton
        self._readers = readers

    async def infer(
        self,
        submission: Submission,
        model: ServedModel,
        progress: Progress = lambda done, of: None,
        *,
        others: Sequence[ServedModel] = (),
        truth: Transients | None = None,
        prevalence: StatedPrevalence | None = None,
        prevalence_unused: bool = False,
    ) -> tuple[Inference, Scored]:
        """Have a version answer an exposure, and make scored sources of it; nothing is stored.

        Parameters
        ----------
        submission
            The exposure, and how to score it.
        model
            The version that answers.
        progress
            Told of every batch answered.
        others
            Further versions, whose spread about the sources is measured; those that need a plane
            which was not sent are not asked.
        truth
            The exposure's transients, where they are known and the version is judged by them: a
            classifier is then sent `judged_candidates`.
        prevalence
            The share of real sources that confidences shall hold for; None: the card's.
        prevalence_unused
            As `finish` takes it.

        Raises
        ------
        InputError
            If the exposure, a plane or a candidate cannot be scored, or nothing can be promised.
        GatewayError
            If the model or Triton does not do its part.
        """
        async with self._readers.session() as session:
            return await self._infer(
                session, submission, model, progress, others, truth, prevalence, prevalence_unused
            )

    async def _infer(
        self,
        session: ReaderSession,
        submission: Submission,
        model: ServedModel,
        progress: Progress,
        others: Sequence[ServedModel],
        truth: Transients | None,
        stated: StatedPrevalence | None,
        prevalence_unused: bool,
    ) -> tuple[Inference, Scored]:
        request = submission.request
        with stage("prepare"):
            planes = submission.planes
            exposure, opened = await session.read_image(
                submission.content,
                hdu=request.hdu,
                planes=planes,
                observation=request.to_observation(),
                limits=self._limits,
            )
            candidates = request.to_candidates()
            if truth is not None:
                candidates = await compute(judged_candidates, exposure, model.card, truth)
            tiled = await compute(
                prepare_exposure,
                exposure,
                model.card,
                candidates,
                opened=opened,
                planes=planes,
                seeing=submission.seeing,
                tta=request.tta,
                polarity=request.polarity,
                limits=self._limits,
            )
            # Before Triton is asked: what cannot be vouched for costs nothing.
            prevalence = prevalence_of(model.card, tiled.views, stated)
            guarantee = guarantee_of(tiled, request.max_false_discovery_rate, prevalence)
        with stage("infer"):
            await self._ask(tiled, model, progress)
        threshold = request.confidence_threshold
        with stage("finish"):
            scored = await compute(
                finish,
                tiled,
                threshold=self._config.confidence_threshold if threshold is None else threshold,
                guarantee=guarantee,
                prevalence=prevalence,
                prevalence_unused=prevalence_unused,
                limits=self._limits,
            )
        opinions = [
            await self._opinion(tiled, other, scored)
            for other in others
            if not needs_more(other.card, exposure, None)
        ]
        return tiled, with_ensemble_std(scored, opinions)

    async def _opinion(self, asked: Inference, other: ServedModel, scored: Scored) -> Scored:
        """What another version says of the same sources, each tile shown once."""
        tiled = await compute(inference_of, asked.exposure, other.card, candidates_of(scored))
        with stage("infer"):
            await self._ask(tiled, other, lambda done, of: None)
        return await compute(finish, tiled)

    async def read_cube(self, content: bytes, hdu: int | str | None) -> list[Exposure]:
        """The images of a cube, FITS or ``.npy``, each an exposure of its own.

        Raises
        ------
        InputError
            If it cannot be read as one; the field is ``stamps``.
        """
        async with self._readers.session() as session:
            try:
                cube, _ = await session.read_image(
                    content,
                    hdu=hdu,
                    planes=Planes(),
                    observation=None,
                    limits=self._limits,
                    cube=True,
                )
            except InputError as error:
                error.field = error.field.replace("exposure", "stamps", 1)
                raise
        return cube_images(cube)

    async def infer_together(self, prepared: Sequence[Inference], model: ServedModel) -> None:
        """Have a version answer several exposures, in batches that they share.

        Raises
        ------
        GatewayError
            If the model or Triton does not do its part.
        """
        with stage("infer"):
            if asked := [one for one in prepared if len(one) > 0]:
                await self._ask(Sequel(asked), model, lambda done, of: None)

    @property
    def threshold(self) -> float:
        """The service's own least confidence of what is called real."""
        return self._config.confidence_threshold

    async def _look(self, tiled: Inputs, start: int, stop: int) -> None:
        await asyncio.sleep(_HEAD_START)
        await compute(tiled.look, start, stop)

    async def _ask(self, tiled: Inputs, model: ServedModel, progress: Progress) -> None:
        """Let Triton see every tile, in batches that its instances can share."""
        count, done = len(tiled), 0
        if count == 0:  # no candidates, for a classifier of their stamps
            return
        most = await self._triton.largest_batch(model.card.name, model.ref.version)
        size = min(
            self._config.batch_size, most, tiled.together, math.ceil(count / self._in_flight)
        )
        # The views of a tile stay together where they can, so that it is done with sooner.
        size = max(size // tiled.views, 1) * tiled.views if size >= tiled.views else size
        starts = iter(range(0, count, size))
        progress(0, count)

        async def send() -> None:
            nonlocal done
            for start in starts:
                stop = min(start + size, count)
                tiles = await compute(tiled.batch, start, stop)
                senders.create_task(self._look(tiled, start, stop))
                answer = await self._triton.infer(model.card, model.ref.version, tiles)
                await compute(tiled.accept, start, answer)
                done += len(tiles)
                progress(done, count)

        try:
            async with asyncio.TaskGroup() as senders:
                for _ in range(min(self._in_flight, math.ceil(count / size))):
                    senders.create_task(send())
        except ExceptionGroup as group:
            # One fault fails the run; that others failed of it too adds nothing.
            raise group.exceptions[0] from None
