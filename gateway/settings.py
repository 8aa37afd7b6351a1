"""Every setting of the gateway, each readable from the environment as ``ASTROTRITON_<NAME>``."""

from ipaddress import ip_address
from itertools import pairwise
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from astrotriton.detection.image.exposure import Limits
from astrotriton.detection.quality.canary import Plan, Tolerances
from astrotriton.objects import PREFIX_PATTERN, Location, is_object_location
from astrotriton.wire.windows import WINDOWS, length_of

_MIB = 1024 * 1024


class GatewaySettings(BaseSettings):
    """Where the gateway listens, what it depends on, and its bounds.

    Which model it serves is in `astrotriton.settings.ModelConfig`, which the other rooms share.
    """

    model_config = SettingsConfigDict(
        env_prefix="ASTROTRITON_", frozen=True, protected_namespaces=(), extra="ignore"
    )

    host: str = Field("127.0.0.1", title="Host", description="Address to listen on.")
    port: int = Field(8000, title="Port", description="Port to listen on.", ge=1, le=65535)

    public_url: str | None = Field(
        None,
        title="Public URL",
        description="Address at which others reach this gateway; `dataschema` of the events begins "
        "with it. Left out: `http://HOST:PORT`.",
        pattern="^https?://[^/].*[^/]$",
    )
    grpc_port: int | None = Field(
        None,
        title="gRPC port",
        description="Port of the gRPC service; left out: there is none.",
        ge=1,
        le=65535,
    )
    auth: Literal["required", "off"] = Field(
        "required",
        title="Authentication",
        description="`off` lets everyone do everything, and only on a loopback address.",
    )
    oidc_issuer: str | None = Field(
        None,
        title="OIDC issuer",
        description="`iss` of bearer tokens that are taken besides API keys; left out: none are.",
        pattern="^https?://",
    )
    oidc_audience: str | None = Field(
        None, title="OIDC audience", description="`aud` that bearer tokens must have."
    )
    oidc_jwks_url: str | None = Field(
        None,
        title="OIDC keys",
        description="Where the issuer's public keys are; left out: where its discovery document "
        "says.",
        pattern="^https?://",
    )
    rate_per_minute: int = Field(
        600,
        title="Requests a minute",
        description="Of one caller and on one gateway, unless its API key says otherwise.",
        ge=1,
    )
    concurrency: int = Field(
        8,
        title="Exposures at a time",
        description="Of one caller and on one gateway, unless its API key says otherwise.",
        ge=1,
    )

    database_url: SecretStr = Field(
        title="Database URL",
        description="PostgreSQL, `postgresql://user:password@host/name`; a socket as `?host=/run`.",
    )
    database_pool_size: int = Field(
        8, title="Database pool size", description="Most connections to PostgreSQL.", ge=1
    )
    database_timeout: float = Field(
        20.0,
        title="Database timeout",
        description="Seconds to wait for a connection, and for each statement.",
        gt=0,
    )
    statement_cache_size: int = Field(
        100,
        title="Statement cache size",
        description="Prepared statements kept a connection; 0 behind a transaction-mode PgBouncer.",
        ge=0,
    )

    triton_grpc: str = Field(
        "127.0.0.1:8001",
        title="Triton addresses",
        description="Triton's gRPC service, host:port; several separated by commas. Each address "
        "that a name has is a server of its own.",
    )
    triton_timeout: float = Field(
        60.0, title="Triton timeout", description="Seconds one request to Triton may take.", gt=0
    )
    triton_in_flight: int = Field(
        8,
        title="Triton requests in flight",
        description="Most requests, of two tiles, that one run has with Triton at a time.",
        ge=1,
    )
    triton_shared_memory: bool = Field(
        False,
        title="Triton shared memory",
        description="Hand tiles to the Tritons of this host, and take their answers, in memory "
        "that both have mapped (`/dev/shm`). Others are sent them as ever.",
    )
    triton_metrics_port: int | None = Field(
        None,
        title="Triton metrics port",
        description="Port of the metrics of every Triton; left out: their memory is not known.",
        ge=1,
        le=65535,
    )
    model_repository: str | Path = Field(
        "model_repository",
        title="Model repository",
        description="What Triton serves from, where the gateway reads model cards: a folder, or "
        "`s3://bucket/prefix` in the store of `s3_endpoint`.",
    )
    probe_interval: float = Field(
        60.0,
        title="Probe interval",
        description="Seconds for which an answer to the golden tile counts for readiness, unless "
        "a request fails meanwhile.",
        ge=0,
    )

    s3_buckets: list[str] = Field(
        [],
        title="Buckets",
        description='Buckets that exposures may be read from, as JSON: `["nights"]`; those of '
        "other stores than S3 with their kind, as `gs://nights` or `az://nights`. Credentials are "
        "those of the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY).",
    )
    s3_endpoint: str | None = Field(
        None,
        title="S3 endpoint",
        description="URL of the S3-compatible store; left out: as AWS_ENDPOINT_URL_S3 says, or "
        "AWS.",
        pattern="^https?://",
    )
    s3_region: str = Field("auto", title="S3 region", description="Region of the store.")
    s3_timeout: float = Field(
        120.0, title="S3 timeout", description="Seconds in which an object must be read.", gt=0
    )

    nats_url: str = Field(
        "nats://127.0.0.1:4222", title="NATS URL", description="NATS server with JetStream."
    )
    nats_timeout: float = Field(
        5.0, title="NATS timeout", description="Seconds to wait for an acknowledgement.", gt=0
    )
    nats_max_age: float | None = Field(
        None,
        title="Events kept",
        description="Seconds that the stream keeps events, which is how long a consumer may be "
        "away; left out: a week, and a stream that there is stays as it is.",
        ge=3600,
    )
    nats_max_bytes: int | None = Field(
        None,
        title="Most bytes of events",
        description="Bytes of all events on the stream, beyond which the oldest go; left out: as "
        "many as NATS has room for, and a stream that there is stays as it is.",
        ge=1 * _MIB,
    )
    event_source: str = Field(
        "/astrotriton/gateway",
        title="Event source",
        description="`source` of the CloudEvents, a URI reference.",
    )
    event_detections: int = Field(
        100,
        title="Detections in an event",
        description="Most detections listed in one event, the most confident first.",
        ge=0,
        le=2000,
    )
    outbox_poll: float = Field(
        5.0,
        title="Outbox poll",
        description="Seconds after which waiting events are looked for without being told.",
        gt=0,
    )

    stream_poll: float = Field(
        1.0,
        title="Stream poll",
        description="Seconds between looks for new detections, while somebody follows them.",
        gt=0,
    )
    stream_heartbeat: float = Field(
        15.0,
        title="Stream heartbeat",
        description="Seconds after which a stream of detections says that there is nothing new.",
        gt=0,
        le=30,
    )
    stream_seconds: float = Field(
        900.0,
        title="Longest stream",
        description="Seconds after which a stream ends, and its caller comes back with where it "
        "was; one whose key has been revoked meanwhile does not.",
        gt=0,
    )
    max_streams: int = Field(
        100, title="Most streams", description="Streams of detections at a time.", ge=1
    )
    max_caller_streams: int | None = Field(
        None,
        title="Most streams of one caller",
        description="Those of them that one caller may follow, unless authentication is off; left "
        "out: 10, or all if there are fewer.",
        ge=1,
    )

    mlflow_uri: str | None = Field(
        None,
        title="MLflow",
        description="Tracking server that performance and validations are logged to; left out: "
        "none. Needs the extra `tracking`.",
        pattern="^https?://",
    )
    tracking_interval: float = Field(
        30.0,
        title="Tracking interval",
        description="Seconds between looks at what MLflow has not got yet.",
        gt=0,
    )
    drift_window: str = Field(
        "24h",
        title="Drift window",
        description="What a scheduled look for drift is at: `15m`, `24h`, `7d`; 30 days at most.",
        json_schema_extra={"pattern": WINDOWS},
    )
    drift_interval: float = Field(
        3600.0,
        title="Drift interval",
        description="Seconds between scheduled looks for drift.",
        gt=0,
    )
    drift_samples: int = Field(
        20,
        title="Drift samples",
        description="Exposures of a minute that are kept for looks for drift, on one gateway.",
        ge=1,
    )
    prevalence_exposures: int = Field(
        200,
        title="Exposures of a prevalence",
        description="Most exposures that an estimate of the share of real sources rests on: the "
        "newest ones, of the last 30 days.",
        ge=20,
        le=20000,
    )
    prevalence_refresh: float = Field(
        600.0,
        title="Age of a prevalence",
        description="Seconds after which an estimate of the share of real sources is made anew.",
        gt=0,
    )
    canary_steps: tuple[float, ...] = Field(
        (0.01, 0.05, 0.25, 0.5, 1.0),
        title="Canary's steps",
        description="Shares of the runs that the challenger of an automatic canary answers, step "
        "by step, a JSON array; each is larger than the one before, and 1 at most.",
        min_length=1,
    )
    canary_pairs: float = Field(
        0.25,
        title="Canary's pairs",
        description="Share of the exposures that champion and challenger of an automatic canary "
        "both score, one of them in the background.",
        gt=0,
        le=1,
    )
    canary_exposures: int = Field(
        200,
        title="Canary's exposures",
        description="Exposures that both must have scored in a step before the next one.",
        ge=1,
    )
    canary_runs: int = Field(
        20,
        title="Canary's runs",
        description="Runs that the challenger must have been given in a step before the next one.",
        ge=1,
    )
    canary_least_seconds: float = Field(
        600.0, title="Canary's least time", description="Seconds that a step takes at least.", ge=0
    )
    canary_most_seconds: float = Field(
        7 * 86400.0,
        title="Canary's most time",
        description="Seconds after which a step that has seen too little sends the challenger "
        "back.",
        gt=0,
    )
    canary_interval: float = Field(
        5.0,
        title="Canary's interval",
        description="Seconds between looks at an automatic canary.",
        gt=0,
    )
    canary_false_alarms: float = Field(
        0.05,
        title="Canary's false alarms",
        description="Chance at most that a challenger within all tolerances is sent back, over all "
        "steps and tests of a canary together.",
        gt=0,
        lt=1,
    )
    canary_errors: float = Field(
        0.01,
        title="Canary's errors",
        description="Tolerated share of the challenger's runs that it fails and the champion then "
        "answers.",
        gt=0,
        lt=1,
    )
    canary_latency_ratio: float = Field(
        1.5,
        title="Canary's latency",
        description="How many times longer than the champion the challenger may take for a tile, "
        "in half of the runs.",
        gt=0,
    )
    canary_disagreement: float = Field(
        0.1,
        title="Canary's disagreement",
        description="Tolerated share of one version's real sources that the other does not call "
        "real, as the champion's confidences count them.",
        gt=0,
        lt=1,
    )
    canary_score_shift: float = Field(
        0.02,
        title="Canary's shift of scores",
        description="Tolerated change of the sum of an exposure's confidences, and of what they "
        "leave open, as a share of that sum.",
        ge=0,
        lt=0.25,
    )
    canary_label_loss: float = Field(
        0.01,
        title="Canary's loss on labels",
        description="Tolerated increase of the Brier score on labelled sources that both scored.",
        ge=0,
        lt=1,
    )
    report_url: str | None = Field(
        None,
        title="Reports",
        description="`s3://bucket/prefix` for reports on drift, in the store of `s3_endpoint`; "
        "left out: none are made. Who makes them needs the extra `drift`.",
        pattern=PREFIX_PATTERN,
    )
    worker: Literal["inside", "outside"] = Field(
        "inside",
        title="Worker",
        description="`inside`: the gateway itself makes reports on drift and logs to MLflow. "
        "`outside`: it leaves both to `python -m astrotriton.gateway work`, which has the packages "
        "for them.",
    )

    max_bytes: int = Field(
        512 * _MIB, title="Largest exposure", description="Bytes of an exposure's file.", ge=1
    )
    max_pixels: int = Field(
        16384 * 16384, title="Most pixels", description="Pixels of an exposure.", ge=1
    )
    async_bytes: int = Field(
        128 * _MIB,
        title="Asynchronous from",
        description="Bytes from which an exposure is always scored in the background.",
        ge=1,
    )
    cutouts: int = Field(
        50,
        title="Cut-outs",
        description="Detections of a run, the most confident first, whose cut-out is kept.",
        ge=0,
        le=1000,
    )
    picture_side: int = Field(
        1024,
        title="Picture of an exposure",
        description="Longest side, pixels, of the picture of each exposure that is kept for the "
        "dashboard; larger exposures are averaged in squares. 0: none is kept.",
        ge=0,
        le=8192,
    )
    max_candidates: int = Field(
        100_000, title="Most candidates", description="Candidates in one request.", ge=1
    )
    max_request_part: int = Field(
        16 * _MIB,
        title="Largest JSON part",
        description="Bytes of the part `request`, and of a table of candidates.",
        ge=1,
    )
    max_message: int = Field(
        32 * _MIB,
        title="Largest gRPC message",
        description="Bytes of one message over gRPC; larger exposures come in several, by "
        "`InferUpload`.",
        ge=4096,
    )
    upload_timeout: float = Field(
        300.0,
        title="Upload timeout",
        description="Seconds in which an exposure must arrive.",
        gt=0,
    )
    min_upload_rate: int = Field(
        4096,
        title="Least upload rate",
        description="Bytes a second with which every body must arrive; a slower one is given up.",
        ge=1,
    )
    upload_grace: float = Field(
        10.0,
        title="Upload grace",
        description="Seconds for which a body may stand still, or come more slowly than that, and "
        "in which each piece of `InferUpload` must arrive.",
        gt=0,
    )
    linger_timeout: float = Field(
        30.0,
        title="Linger timeout",
        description="Seconds for which the body of a request that is refused is still read and "
        "thrown away, so that the answer arrives.",
        ge=0,
    )
    header_timeout: float = Field(
        10.0,
        title="Header timeout",
        description="Seconds in which a request's line and headers must arrive.",
        gt=0,
    )
    max_header_bytes: int = Field(
        32 * 1024,
        title="Largest headers",
        description="Bytes of a request's line and headers together.",
        ge=1024,
    )
    max_headers: int = Field(
        100, title="Most headers", description="Headers of one request.", ge=10
    )
    max_connections: int = Field(
        2000,
        title="Most connections",
        description="HTTP connections at a time; for a further one, one that has its answer and "
        "still sends is dropped, or that whose headers have been missing longest.",
        ge=1,
    )
    max_runs: int = Field(4, title="Most runs", description="Exposures worked on at a time.", ge=1)
    readers: int | None = Field(
        None,
        title="Readers",
        description="Most processes that read files at a time: each run has one while it is worked "
        "on. Left out: two more than `max_runs`, for a challenger and a validation.",
        ge=1,
    )
    reader_memory: int = Field(
        4096 * _MIB,
        title="Memory of a reader",
        description="Bytes that reading a file may take; one that would take more is refused.",
        ge=64 * _MIB,
    )
    reader_seconds: float = Field(
        3.0,
        title="Time of a reader",
        description="Seconds of processor time that reading a file may take, and one more for "
        "each 5 MB of the file; one that takes longer is refused.",
        ge=1,
    )
    reader_uses: int = Field(
        100,
        title="Uses of a reader",
        description="Requests that one process reads for before a new one takes its place. One "
        "that met a broken file is replaced at once. With 1, no two requests have the same.",
        ge=1,
        le=500,
    )
    max_waiting: int = Field(
        8,
        title="Most waiting",
        description="Requests that wait for their turn; further ones are told to come back.",
        ge=0,
    )
    max_held_bytes: int = Field(
        4096 * _MIB,
        title="Most bytes held",
        description="Bytes of all the files that have arrived and are worked on, or wait for it, "
        "and of those arriving; requests that bring more are told to come back.",
        ge=1,
    )
    max_caller_bytes: int | None = Field(
        None,
        title="Most bytes held of one caller",
        description="Those of them that one caller's requests may bring, unless authentication is "
        "off; left out: half, and at least what one request may have.",
        ge=1,
    )
    request_timeout: float = Field(
        300.0,
        title="Request timeout",
        description="Seconds in which a request is answered or given up; a caller may ask for "
        "fewer with the header `Request-Timeout`.",
        gt=0,
    )
    drain_delay: float = Field(
        0.0,
        title="Drain delay",
        description="Seconds after SIGTERM in which requests are still taken, while "
        "`/health/ready` says that the gateway is shutting down: as long as load balancers need.",
        ge=0,
    )
    shutdown_timeout: int = Field(
        30, title="Shutdown timeout", description="Seconds that running requests get to end.", ge=1
    )
    otlp_endpoint: str | None = Field(
        None,
        title="OTLP endpoint",
        description="Where traces are sent by OTLP over gRPC, `http://host:4317`; left out: "
        "nowhere. Needs the extra `telemetry`.",
        pattern="^https?://",
    )
    log_level: str = Field(
        "INFO",
        title="Log level",
        description="Least severity that is logged.",
        pattern="^(DEBUG|INFO|WARNING|ERROR)$",
    )

    @field_validator("drift_window")
    @classmethod
    def _check_window(cls, window: str) -> str:
        length_of(window)
        return window

    @field_validator("canary_steps")
    @classmethod
    def _check_steps(cls, steps: tuple[float, ...]) -> tuple[float, ...]:
        if not all(a < b for a, b in pairwise((0.0, *steps))) or steps[-1] > 1.0:
            raise ValueError("each share is larger than the one before, from 0 to 1")
        return steps

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.auth == "off" and not _is_loopback(self.host):
            raise ValueError(
                f"auth is off, but {self.host} can be reached from elsewhere: require it, or "
                "listen on 127.0.0.1"
            )
        if (self.oidc_issuer is None) != (self.oidc_audience is None):
            raise ValueError("set both of oidc_issuer and oidc_audience, or neither")
        for name in ("model_repository", "report_url"):
            text = str(getattr(self, name) or "")
            if is_object_location(text):
                try:
                    Location.parse(text)
                except ValueError as error:
                    raise ValueError(f"{name} is {text!r}: {error}") from error
        for name in ("max_held_bytes", "max_caller_bytes"):
            most = getattr(self, name)
            if most is not None and most < self.max_body:
                raise ValueError(
                    f"{name} is {most}, but one request may have {self.max_body} bytes: raise it, "
                    "or lower max_bytes"
                )
        return self

    @property
    def own_url(self) -> str:
        """Where others reach this gateway."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return self.public_url or f"http://{host}:{self.port}"

    @property
    def limits(self) -> Limits:
        """The bounds that reading an exposure obeys."""
        return Limits(
            max_bytes=self.max_bytes,
            max_pixels=self.max_pixels,
            max_candidates=self.max_candidates,
        )

    @property
    def canary_plan(self) -> Plan:
        """How a canary that ends by itself goes on."""
        return Plan(
            fractions=self.canary_steps,
            exposures=self.canary_exposures,
            runs=self.canary_runs,
            least_seconds=self.canary_least_seconds,
            most_seconds=self.canary_most_seconds,
        )

    @property
    def canary_tolerances(self) -> Tolerances:
        """What such a canary lets pass, and how often it may err."""
        return Tolerances(
            false_alarms=self.canary_false_alarms,
            errors=self.canary_errors,
            latency_ratio=self.canary_latency_ratio,
            disagreement=self.canary_disagreement,
            score_shift=self.canary_score_shift,
            label_loss=self.canary_label_loss,
        )

    @property
    def repository_buckets(self) -> list[str]:
        """The bucket of the model repository; none if that is a folder."""
        return _bucket_of(str(self.model_repository))

    @property
    def report_buckets(self) -> list[str]:
        """The bucket that reports are kept in."""
        return [] if self.report_url is None else _bucket_of(self.report_url)

    @property
    def caller_share(self) -> int:
        """Most bytes held that one caller's requests may bring."""
        if self.auth == "off":
            return self.max_held_bytes
        return self.max_caller_bytes or max(self.max_held_bytes // 2, self.max_body)

    @property
    def caller_streams(self) -> int:
        """Most streams of detections that one caller may follow."""
        if self.auth == "off":
            return self.max_streams
        return min(self.max_caller_streams or 10, self.max_streams)

    @property
    def most_readers(self) -> int:
        """Most processes that read files at a time."""
        return self.max_runs + 2 if self.readers is None else self.readers

    @property
    def max_body(self) -> int:
        """Most bytes of a whole request body, multipart headers included."""
        return 3 * self.max_bytes + 2 * self.max_request_part + _MIB


def _bucket_of(location: str) -> list[str]:
    """The one bucket of a location; none if that is a folder."""
    return [Location.parse(location).store] if is_object_location(location) else []


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
