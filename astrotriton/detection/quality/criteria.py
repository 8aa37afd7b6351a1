"""What a version must reach to be let through, by its figures on fields whose truth is known."""

from pydantic import BaseModel, ConfigDict, Field

from astrotriton.wire.validation import Gate

_ACCURACY = ("average_precision", "completeness", "purity")
# Figures of the transients of one SNR, PSF width, sign or place; of faint ones few can be found.
_BIN = "completeness_"
_FAINT = {f"{_BIN}snr_{low}" for low in (3, 5, 7, 10)}


class GateLimits(BaseModel):
    """The limits of the gates. Those that say "than the champion" apply once there is one."""

    model_config = ConfigDict(frozen=True, protected_namespaces=(), extra="ignore")

    # Three in four, in each of three ways: whoever works through the list of detections misses at
    # most one bright transient in four and looks in vain at most one time in four.
    min_average_precision: float = Field(
        0.75,
        title="Least average precision",
        description="Mean purity at each transient found, on the validation set.",
        ge=0,
        le=1,
    )
    min_completeness: float = Field(
        0.75,
        title="Least completeness",
        description="Share of the transients of SNR 8 and more found with confidence 0.5.",
        ge=0,
        le=1,
    )
    min_purity: float = Field(
        0.75,
        title="Least purity",
        description="Share of real ones among the detections with confidence 0.5.",
        ge=0,
        le=1,
    )
    # One transient in fifty. What sets two similar versions apart on the same 32 fields is known to
    # 0.004 (paired bootstrap), so that a loss of this size is one.
    max_loss: float = Field(
        0.02,
        title="Largest loss",
        description="Of average precision against the champion's, and largest gain of its "
        "calibration error.",
        ge=0,
        le=1,
    )
    # Of at least twenty transients: two lost of them are chance, three are not.
    max_bin_loss: float = Field(
        0.15,
        title="Largest loss in a bin",
        description="Of the completeness of transients of one SNR, PSF width, sign or place, "
        "against the champion's.",
        ge=0,
        le=1,
    )
    # A version that misses every other transient of a kind does not know that kind; of twenty
    # transients the share is known to 0.1.
    min_bin_completeness: float = Field(
        0.5,
        title="Least completeness in a bin",
        description="Share of the transients found with confidence 0.5, in every bin of SNR from "
        "20 up, and of PSF width, sign and place from SNR 10 up.",
        ge=0,
        le=1,
    )
    # One gives way to the other where the threshold lies: confidences fitted to the same network on
    # few fields differ by 0.02 in this.
    max_trade: float = Field(
        0.05,
        title="Largest loss at the threshold",
        description="Of completeness or purity against the champion's.",
        ge=0,
        le=1,
    )
    # The answers' confidence is read in steps of a tenth: half a step.
    max_ece: float = Field(
        0.05,
        title="Largest calibration error",
        description="Expected calibration error of the confidence on the validation set.",
        ge=0,
        le=1,
    )
    # A mosaic detector of a hundred tiles, two at a time, within a minute.
    max_latency_ms: float = Field(
        1000.0, title="Largest latency", description="Of one tile, milliseconds.", gt=0
    )
    # Servers that are planned to be two thirds busy still carry half as much again.
    max_latency_ratio: float = Field(
        1.5,
        title="Largest relative latency",
        description="Of one tile, in units of the champion's in the same sandbox.",
        gt=0,
    )
    max_memory_ratio: float = Field(
        1.5,
        title="Largest relative memory",
        description="Of the loaded version, in units of the champion's in the same sandbox.",
        gt=0,
    )


def accuracy(figures: dict[str, float], limits: GateLimits) -> Gate:
    """Whether the figures of `detection.quality.figures` are good enough by themselves."""
    problems = [
        *_at_least(figures, "average_precision", limits.min_average_precision),
        *_at_least(figures, "completeness", limits.min_completeness),
        *_at_least(figures, "purity", limits.min_purity),
        *(
            problem
            for name in figures
            if name.startswith(_BIN) and name not in _FAINT
            for problem in _at_least(figures, name, limits.min_bin_completeness)
        ),
    ]
    return Gate.of(
        "accuracy",
        problems,
        ", ".join(f"{name.replace('_', ' ')} {figures[name]:.3f}" for name in _ACCURACY),
        **{name: value for name, value in figures.items() if name != "ece"},
    )


def accuracy_change(
    figures: dict[str, float], champion: dict[str, float], limits: GateLimits
) -> Gate:
    """Whether they are no worse than the champion's on the same fields."""
    changes = {name: figures[name] - champion[name] for name in _ACCURACY}
    allowed = dict.fromkeys(_ACCURACY, limits.max_trade) | {"average_precision": limits.max_loss}
    # A bin that holds too few transients for a figure is not compared.
    bins = [name for name in figures if name.startswith(_BIN) and name in champion]
    allowed |= dict.fromkeys(bins, limits.max_bin_loss)
    problems = [
        f"{name} is {figures[name]:.3f}, the champion's is {champion[name]:.3f}; at most"
        f" {most:g} less is allowed"
        for name, most in allowed.items()
        if not figures[name] - champion[name] >= -most
    ]
    return Gate.of(
        "accuracy_change",
        problems,
        ", ".join(f"{name} {change:+.3f}" for name, change in changes.items()),
        **{f"{name}_change": change for name, change in changes.items()},
        **{f"champion_{name}": champion[name] for name in _ACCURACY},
    )


def calibration(
    figures: dict[str, float],
    limits: GateLimits,
    *,
    champion: dict[str, float] | None = None,
    before: float | None = None,
    refitted: float | None = None,
) -> Gate:
    """Whether the confidence says how often it is right.

    Parameters
    ----------
    figures
        With ``ece``.
    limits
        What is let through.
    champion
        The champion's figures on the same fields; None for no comparison.
    before, refitted
        The calibration error of the confidence as it was registered, and of the one fitted anew;
        None if none was. The figures are of the one that is kept.
    """
    ece = figures["ece"]
    problems = _at_most(figures, "ece", limits.max_ece)
    found = {"ece": ece}
    if champion is not None:
        found |= {"ece_change": ece - champion["ece"], "champion_ece": champion["ece"]}
        if not ece - champion["ece"] <= limits.max_loss:
            problems.append(
                f"ece is {ece:.3g}, the champion's is {champion['ece']:.3g}; at most"
                f" {limits.max_loss:g} more is allowed"
            )
    good = f"ECE {ece:.4f}"
    if before is not None:
        found["ece_before"] = before
        told = f"{before:.4f} as it was registered"
        if refitted is not None:
            found["ece_refitted"] = refitted
            told += f", {refitted:.4f} fitted anew; the better one is kept"
        good += f", {told}"
        problems = [f"{problem} ({told})" for problem in problems]
    return Gate.of("calibration", problems, good, **found)


def _at_least(figures: dict[str, float], name: str, least: float) -> list[str]:
    # Written so that NaN fails.
    if figures[name] >= least:
        return []
    return [f"{name} is {figures[name]:.3g}, at least {least:g} is asked"]


def _at_most(figures: dict[str, float], name: str, most: float) -> list[str]:
    if figures[name] <= most:
        return []
    return [f"{name} is {figures[name]:.3g}, at most {most:g} is allowed"]
