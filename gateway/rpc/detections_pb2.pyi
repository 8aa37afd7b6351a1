import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Candidate(_message.Message):
    __slots__ = ("x", "y", "id", "ra", "dec")
    X_FIELD_NUMBER: _ClassVar[int]
    Y_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    RA_FIELD_NUMBER: _ClassVar[int]
    DEC_FIELD_NUMBER: _ClassVar[int]
    x: float
    y: float
    id: str
    ra: float
    dec: float
    def __init__(self, x: _Optional[float] = ..., y: _Optional[float] = ..., id: _Optional[str] = ..., ra: _Optional[float] = ..., dec: _Optional[float] = ...) -> None: ...

class Candidates(_message.Message):
    __slots__ = ("items",)
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    items: _containers.RepeatedCompositeFieldContainer[Candidate]
    def __init__(self, items: _Optional[_Iterable[_Union[Candidate, _Mapping]]] = ...) -> None: ...

class Hdu(_message.Message):
    __slots__ = ("index", "name")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    index: int
    name: str
    def __init__(self, index: _Optional[int] = ..., name: _Optional[str] = ...) -> None: ...

class Model(_message.Message):
    __slots__ = ("version", "alias")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    ALIAS_FIELD_NUMBER: _ClassVar[int]
    version: int
    alias: str
    def __init__(self, version: _Optional[int] = ..., alias: _Optional[str] = ...) -> None: ...

class AskedPrevalence(_message.Message):
    __slots__ = ("share", "kind")
    SHARE_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    share: float
    kind: str
    def __init__(self, share: _Optional[float] = ..., kind: _Optional[str] = ...) -> None: ...

class InferRequest(_message.Message):
    __slots__ = ("exposure", "filename", "mask", "weight", "candidates", "hdu", "mask_hdu", "mask_bits", "weight_hdu", "confidence_threshold", "max_false_discovery_rate", "tta", "exposure_id", "model_version", "seeing_fwhm", "seeing_unit", "psf", "psf_hdu", "weight_type", "polarity", "candidates_table", "zero_point", "flux_unit", "mjd_mid", "time_scale", "exposure_time", "filter", "science", "science_hdu", "template", "template_hdu", "prevalence")
    EXPOSURE_FIELD_NUMBER: _ClassVar[int]
    FILENAME_FIELD_NUMBER: _ClassVar[int]
    MASK_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    CANDIDATES_FIELD_NUMBER: _ClassVar[int]
    HDU_FIELD_NUMBER: _ClassVar[int]
    MASK_HDU_FIELD_NUMBER: _ClassVar[int]
    MASK_BITS_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_HDU_FIELD_NUMBER: _ClassVar[int]
    CONFIDENCE_THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    MAX_FALSE_DISCOVERY_RATE_FIELD_NUMBER: _ClassVar[int]
    TTA_FIELD_NUMBER: _ClassVar[int]
    EXPOSURE_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_VERSION_FIELD_NUMBER: _ClassVar[int]
    SEEING_FWHM_FIELD_NUMBER: _ClassVar[int]
    SEEING_UNIT_FIELD_NUMBER: _ClassVar[int]
    PSF_FIELD_NUMBER: _ClassVar[int]
    PSF_HDU_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_TYPE_FIELD_NUMBER: _ClassVar[int]
    POLARITY_FIELD_NUMBER: _ClassVar[int]
    CANDIDATES_TABLE_FIELD_NUMBER: _ClassVar[int]
    ZERO_POINT_FIELD_NUMBER: _ClassVar[int]
    FLUX_UNIT_FIELD_NUMBER: _ClassVar[int]
    MJD_MID_FIELD_NUMBER: _ClassVar[int]
    TIME_SCALE_FIELD_NUMBER: _ClassVar[int]
    EXPOSURE_TIME_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    SCIENCE_FIELD_NUMBER: _ClassVar[int]
    SCIENCE_HDU_FIELD_NUMBER: _ClassVar[int]
    TEMPLATE_FIELD_NUMBER: _ClassVar[int]
    TEMPLATE_HDU_FIELD_NUMBER: _ClassVar[int]
    PREVALENCE_FIELD_NUMBER: _ClassVar[int]
    exposure: bytes
    filename: str
    mask: bytes
    weight: bytes
    candidates: Candidates
    hdu: Hdu
    mask_hdu: Hdu
    mask_bits: int
    weight_hdu: Hdu
    confidence_threshold: float
    max_false_discovery_rate: float
    tta: bool
    exposure_id: str
    model_version: Model
    seeing_fwhm: float
    seeing_unit: str
    psf: bytes
    psf_hdu: Hdu
    weight_type: str
    polarity: int
    candidates_table: bytes
    zero_point: float
    flux_unit: str
    mjd_mid: float
    time_scale: str
    exposure_time: float
    filter: str
    science: bytes
    science_hdu: Hdu
    template: bytes
    template_hdu: Hdu
    prevalence: AskedPrevalence
    def __init__(self, exposure: _Optional[bytes] = ..., filename: _Optional[str] = ..., mask: _Optional[bytes] = ..., weight: _Optional[bytes] = ..., candidates: _Optional[_Union[Candidates, _Mapping]] = ..., hdu: _Optional[_Union[Hdu, _Mapping]] = ..., mask_hdu: _Optional[_Union[Hdu, _Mapping]] = ..., mask_bits: _Optional[int] = ..., weight_hdu: _Optional[_Union[Hdu, _Mapping]] = ..., confidence_threshold: _Optional[float] = ..., max_false_discovery_rate: _Optional[float] = ..., tta: _Optional[bool] = ..., exposure_id: _Optional[str] = ..., model_version: _Optional[_Union[Model, _Mapping]] = ..., seeing_fwhm: _Optional[float] = ..., seeing_unit: _Optional[str] = ..., psf: _Optional[bytes] = ..., psf_hdu: _Optional[_Union[Hdu, _Mapping]] = ..., weight_type: _Optional[str] = ..., polarity: _Optional[int] = ..., candidates_table: _Optional[bytes] = ..., zero_point: _Optional[float] = ..., flux_unit: _Optional[str] = ..., mjd_mid: _Optional[float] = ..., time_scale: _Optional[str] = ..., exposure_time: _Optional[float] = ..., filter: _Optional[str] = ..., science: _Optional[bytes] = ..., science_hdu: _Optional[_Union[Hdu, _Mapping]] = ..., template: _Optional[bytes] = ..., template_hdu: _Optional[_Union[Hdu, _Mapping]] = ..., prevalence: _Optional[_Union[AskedPrevalence, _Mapping]] = ...) -> None: ...

class ModelRef(_message.Message):
    __slots__ = ("name", "version", "digest")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: int
    digest: str
    def __init__(self, name: _Optional[str] = ..., version: _Optional[int] = ..., digest: _Optional[str] = ...) -> None: ...

class ExposureInfo(_message.Message):
    __slots__ = ("name", "hdu", "height", "width", "digest", "mjd_mid", "time_scale", "observed_at", "time_source", "exposure_time", "filter", "flux_unit", "zero_point", "zero_point_source")
    NAME_FIELD_NUMBER: _ClassVar[int]
    HDU_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    MJD_MID_FIELD_NUMBER: _ClassVar[int]
    TIME_SCALE_FIELD_NUMBER: _ClassVar[int]
    OBSERVED_AT_FIELD_NUMBER: _ClassVar[int]
    TIME_SOURCE_FIELD_NUMBER: _ClassVar[int]
    EXPOSURE_TIME_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    FLUX_UNIT_FIELD_NUMBER: _ClassVar[int]
    ZERO_POINT_FIELD_NUMBER: _ClassVar[int]
    ZERO_POINT_SOURCE_FIELD_NUMBER: _ClassVar[int]
    name: str
    hdu: str
    height: int
    width: int
    digest: str
    mjd_mid: float
    time_scale: str
    observed_at: _timestamp_pb2.Timestamp
    time_source: str
    exposure_time: float
    filter: str
    flux_unit: str
    zero_point: float
    zero_point_source: str
    def __init__(self, name: _Optional[str] = ..., hdu: _Optional[str] = ..., height: _Optional[int] = ..., width: _Optional[int] = ..., digest: _Optional[str] = ..., mjd_mid: _Optional[float] = ..., time_scale: _Optional[str] = ..., observed_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., time_source: _Optional[str] = ..., exposure_time: _Optional[float] = ..., filter: _Optional[str] = ..., flux_unit: _Optional[str] = ..., zero_point: _Optional[float] = ..., zero_point_source: _Optional[str] = ...) -> None: ...

class ImageQuality(_message.Message):
    __slots__ = ("background", "background_gradient", "noise", "depth", "seeing_fwhm", "masked_fraction", "saturated_fraction", "seeing_source", "limiting_magnitude", "planes")
    BACKGROUND_FIELD_NUMBER: _ClassVar[int]
    BACKGROUND_GRADIENT_FIELD_NUMBER: _ClassVar[int]
    NOISE_FIELD_NUMBER: _ClassVar[int]
    DEPTH_FIELD_NUMBER: _ClassVar[int]
    SEEING_FWHM_FIELD_NUMBER: _ClassVar[int]
    MASKED_FRACTION_FIELD_NUMBER: _ClassVar[int]
    SATURATED_FRACTION_FIELD_NUMBER: _ClassVar[int]
    SEEING_SOURCE_FIELD_NUMBER: _ClassVar[int]
    LIMITING_MAGNITUDE_FIELD_NUMBER: _ClassVar[int]
    PLANES_FIELD_NUMBER: _ClassVar[int]
    background: float
    background_gradient: float
    noise: float
    depth: float
    seeing_fwhm: float
    masked_fraction: float
    saturated_fraction: float
    seeing_source: str
    limiting_magnitude: float
    planes: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, background: _Optional[float] = ..., background_gradient: _Optional[float] = ..., noise: _Optional[float] = ..., depth: _Optional[float] = ..., seeing_fwhm: _Optional[float] = ..., masked_fraction: _Optional[float] = ..., saturated_fraction: _Optional[float] = ..., seeing_source: _Optional[str] = ..., limiting_magnitude: _Optional[float] = ..., planes: _Optional[_Iterable[str]] = ...) -> None: ...

class Guarantee(_message.Message):
    __slots__ = ("max_false_discovery_rate", "threshold", "confidence_level", "exposures", "assumption")
    MAX_FALSE_DISCOVERY_RATE_FIELD_NUMBER: _ClassVar[int]
    THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    CONFIDENCE_LEVEL_FIELD_NUMBER: _ClassVar[int]
    EXPOSURES_FIELD_NUMBER: _ClassVar[int]
    ASSUMPTION_FIELD_NUMBER: _ClassVar[int]
    max_false_discovery_rate: float
    threshold: float
    confidence_level: float
    exposures: int
    assumption: str
    def __init__(self, max_false_discovery_rate: _Optional[float] = ..., threshold: _Optional[float] = ..., confidence_level: _Optional[float] = ..., exposures: _Optional[int] = ..., assumption: _Optional[str] = ...) -> None: ...

class PrevalenceEstimate(_message.Message):
    __slots__ = ("share", "low", "high", "error", "exposures", "sources", "extracted", "since", "until", "estimated_at")
    SHARE_FIELD_NUMBER: _ClassVar[int]
    LOW_FIELD_NUMBER: _ClassVar[int]
    HIGH_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    EXPOSURES_FIELD_NUMBER: _ClassVar[int]
    SOURCES_FIELD_NUMBER: _ClassVar[int]
    EXTRACTED_FIELD_NUMBER: _ClassVar[int]
    SINCE_FIELD_NUMBER: _ClassVar[int]
    UNTIL_FIELD_NUMBER: _ClassVar[int]
    ESTIMATED_AT_FIELD_NUMBER: _ClassVar[int]
    share: float
    low: float
    high: float
    error: float
    exposures: int
    sources: int
    extracted: bool
    since: _timestamp_pb2.Timestamp
    until: _timestamp_pb2.Timestamp
    estimated_at: _timestamp_pb2.Timestamp
    def __init__(self, share: _Optional[float] = ..., low: _Optional[float] = ..., high: _Optional[float] = ..., error: _Optional[float] = ..., exposures: _Optional[int] = ..., sources: _Optional[int] = ..., extracted: _Optional[bool] = ..., since: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., until: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., estimated_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class Prevalence(_message.Message):
    __slots__ = ("share", "calibrated", "shift", "error", "source", "estimate")
    SHARE_FIELD_NUMBER: _ClassVar[int]
    CALIBRATED_FIELD_NUMBER: _ClassVar[int]
    SHIFT_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    ESTIMATE_FIELD_NUMBER: _ClassVar[int]
    share: float
    calibrated: float
    shift: float
    error: float
    source: str
    estimate: PrevalenceEstimate
    def __init__(self, share: _Optional[float] = ..., calibrated: _Optional[float] = ..., shift: _Optional[float] = ..., error: _Optional[float] = ..., source: _Optional[str] = ..., estimate: _Optional[_Union[PrevalenceEstimate, _Mapping]] = ...) -> None: ...

class Detection(_message.Message):
    __slots__ = ("id", "rank", "candidate_id", "x", "y", "ra", "dec", "probability", "probability_mean", "confidence", "confidence_low", "confidence_high", "entropy", "tta_std", "ensemble_std", "is_real", "snr", "flux", "flux_err", "fwhm", "elongation", "psf_match", "sharpness", "negative_ratio", "trail", "edge_distance", "polarity", "outcome", "merged_into", "flags", "snr_err", "sep_flags", "unscored_reason", "mag", "mag_err")
    ID_FIELD_NUMBER: _ClassVar[int]
    RANK_FIELD_NUMBER: _ClassVar[int]
    CANDIDATE_ID_FIELD_NUMBER: _ClassVar[int]
    X_FIELD_NUMBER: _ClassVar[int]
    Y_FIELD_NUMBER: _ClassVar[int]
    RA_FIELD_NUMBER: _ClassVar[int]
    DEC_FIELD_NUMBER: _ClassVar[int]
    PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    PROBABILITY_MEAN_FIELD_NUMBER: _ClassVar[int]
    CONFIDENCE_FIELD_NUMBER: _ClassVar[int]
    CONFIDENCE_LOW_FIELD_NUMBER: _ClassVar[int]
    CONFIDENCE_HIGH_FIELD_NUMBER: _ClassVar[int]
    ENTROPY_FIELD_NUMBER: _ClassVar[int]
    TTA_STD_FIELD_NUMBER: _ClassVar[int]
    ENSEMBLE_STD_FIELD_NUMBER: _ClassVar[int]
    IS_REAL_FIELD_NUMBER: _ClassVar[int]
    SNR_FIELD_NUMBER: _ClassVar[int]
    FLUX_FIELD_NUMBER: _ClassVar[int]
    FLUX_ERR_FIELD_NUMBER: _ClassVar[int]
    FWHM_FIELD_NUMBER: _ClassVar[int]
    ELONGATION_FIELD_NUMBER: _ClassVar[int]
    PSF_MATCH_FIELD_NUMBER: _ClassVar[int]
    SHARPNESS_FIELD_NUMBER: _ClassVar[int]
    NEGATIVE_RATIO_FIELD_NUMBER: _ClassVar[int]
    TRAIL_FIELD_NUMBER: _ClassVar[int]
    EDGE_DISTANCE_FIELD_NUMBER: _ClassVar[int]
    POLARITY_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    MERGED_INTO_FIELD_NUMBER: _ClassVar[int]
    FLAGS_FIELD_NUMBER: _ClassVar[int]
    SNR_ERR_FIELD_NUMBER: _ClassVar[int]
    SEP_FLAGS_FIELD_NUMBER: _ClassVar[int]
    UNSCORED_REASON_FIELD_NUMBER: _ClassVar[int]
    MAG_FIELD_NUMBER: _ClassVar[int]
    MAG_ERR_FIELD_NUMBER: _ClassVar[int]
    id: str
    rank: int
    candidate_id: str
    x: float
    y: float
    ra: float
    dec: float
    probability: float
    probability_mean: float
    confidence: float
    confidence_low: float
    confidence_high: float
    entropy: float
    tta_std: float
    ensemble_std: float
    is_real: bool
    snr: float
    flux: float
    flux_err: float
    fwhm: float
    elongation: float
    psf_match: float
    sharpness: float
    negative_ratio: float
    trail: float
    edge_distance: float
    polarity: int
    outcome: str
    merged_into: str
    flags: _containers.RepeatedScalarFieldContainer[str]
    snr_err: float
    sep_flags: int
    unscored_reason: str
    mag: float
    mag_err: float
    def __init__(self, id: _Optional[str] = ..., rank: _Optional[int] = ..., candidate_id: _Optional[str] = ..., x: _Optional[float] = ..., y: _Optional[float] = ..., ra: _Optional[float] = ..., dec: _Optional[float] = ..., probability: _Optional[float] = ..., probability_mean: _Optional[float] = ..., confidence: _Optional[float] = ..., confidence_low: _Optional[float] = ..., confidence_high: _Optional[float] = ..., entropy: _Optional[float] = ..., tta_std: _Optional[float] = ..., ensemble_std: _Optional[float] = ..., is_real: _Optional[bool] = ..., snr: _Optional[float] = ..., flux: _Optional[float] = ..., flux_err: _Optional[float] = ..., fwhm: _Optional[float] = ..., elongation: _Optional[float] = ..., psf_match: _Optional[float] = ..., sharpness: _Optional[float] = ..., negative_ratio: _Optional[float] = ..., trail: _Optional[float] = ..., edge_distance: _Optional[float] = ..., polarity: _Optional[int] = ..., outcome: _Optional[str] = ..., merged_into: _Optional[str] = ..., flags: _Optional[_Iterable[str]] = ..., snr_err: _Optional[float] = ..., sep_flags: _Optional[int] = ..., unscored_reason: _Optional[str] = ..., mag: _Optional[float] = ..., mag_err: _Optional[float] = ...) -> None: ...

class Run(_message.Message):
    __slots__ = ("run_id", "created_at", "model", "exposure", "image", "tiles", "threshold", "tta", "guarantee", "extracted", "flags", "prevalence")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    EXPOSURE_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    TILES_FIELD_NUMBER: _ClassVar[int]
    THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    TTA_FIELD_NUMBER: _ClassVar[int]
    GUARANTEE_FIELD_NUMBER: _ClassVar[int]
    EXTRACTED_FIELD_NUMBER: _ClassVar[int]
    FLAGS_FIELD_NUMBER: _ClassVar[int]
    PREVALENCE_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    created_at: _timestamp_pb2.Timestamp
    model: ModelRef
    exposure: ExposureInfo
    image: ImageQuality
    tiles: int
    threshold: float
    tta: bool
    guarantee: Guarantee
    extracted: bool
    flags: _containers.RepeatedScalarFieldContainer[str]
    prevalence: Prevalence
    def __init__(self, run_id: _Optional[str] = ..., created_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., model: _Optional[_Union[ModelRef, _Mapping]] = ..., exposure: _Optional[_Union[ExposureInfo, _Mapping]] = ..., image: _Optional[_Union[ImageQuality, _Mapping]] = ..., tiles: _Optional[int] = ..., threshold: _Optional[float] = ..., tta: _Optional[bool] = ..., guarantee: _Optional[_Union[Guarantee, _Mapping]] = ..., extracted: _Optional[bool] = ..., flags: _Optional[_Iterable[str]] = ..., prevalence: _Optional[_Union[Prevalence, _Mapping]] = ...) -> None: ...

class InferResponse(_message.Message):
    __slots__ = ("run", "detections")
    RUN_FIELD_NUMBER: _ClassVar[int]
    DETECTIONS_FIELD_NUMBER: _ClassVar[int]
    run: Run
    detections: _containers.RepeatedCompositeFieldContainer[Detection]
    def __init__(self, run: _Optional[_Union[Run, _Mapping]] = ..., detections: _Optional[_Iterable[_Union[Detection, _Mapping]]] = ...) -> None: ...

class Progress(_message.Message):
    __slots__ = ("done", "of")
    DONE_FIELD_NUMBER: _ClassVar[int]
    OF_FIELD_NUMBER: _ClassVar[int]
    done: int
    of: int
    def __init__(self, done: _Optional[int] = ..., of: _Optional[int] = ...) -> None: ...

class DetectionPart(_message.Message):
    __slots__ = ("detections",)
    DETECTIONS_FIELD_NUMBER: _ClassVar[int]
    detections: _containers.RepeatedCompositeFieldContainer[Detection]
    def __init__(self, detections: _Optional[_Iterable[_Union[Detection, _Mapping]]] = ...) -> None: ...

class InferEvent(_message.Message):
    __slots__ = ("progress", "run", "part")
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    RUN_FIELD_NUMBER: _ClassVar[int]
    PART_FIELD_NUMBER: _ClassVar[int]
    progress: Progress
    run: Run
    part: DetectionPart
    def __init__(self, progress: _Optional[_Union[Progress, _Mapping]] = ..., run: _Optional[_Union[Run, _Mapping]] = ..., part: _Optional[_Union[DetectionPart, _Mapping]] = ...) -> None: ...
