"""The limits of ``recommend`` from its flags."""

from typing import Final

from bench.cli.arguments import RecommendArgs
from bench.comparison.decisions.limits import Limit, Limits
from bench.comparison.measures import MEASURES
from imgcls.data.sources.names import composed
from imgcls.errors import ConfigError
from imgcls.inference.runtimes import RUNTIMES

MOST_MARGIN: Final = 50.0
"""Percentage points below which a margin must be."""


def limits_of(args: RecommendArgs) -> Limits:
    """Return the limits; raises ConfigError if one is invalid."""
    if args.runtime not in RUNTIMES:
        message = f"--runtime {args.runtime}: unknown; known: {', '.join(RUNTIMES)}"
        raise ConfigError(message)
    limits = [Limit(kind="runtime", label=f"--runtime {args.runtime}")]
    if args.max_latency_ms is not None:
        _require_positive("--max-latency-ms", args.max_latency_ms)
        limits.append(
            Limit(kind="latency", label=f"--max-latency-ms {args.max_latency_ms:g}", bound=args.max_latency_ms)
        )
    # Of a class that is given twice, the last value counts.
    limits += [
        Limit(kind="recall", label=f"--min-recall {name}={share:g}", subject=name, bound=share)
        for name, share in dict(map(_class_and_share, args.min_recall)).items()
    ]
    if args.max_size_mb is not None:
        _require_positive("--max-size-mb", args.max_size_mb)
        limits.append(Limit(kind="size", label=f"--max-size-mb {args.max_size_mb:g}", bound=1e6 * args.max_size_mb))
    limits += map(_measure, args.limit)
    return Limits(
        runtime=args.runtime, limits=tuple(limits), margin=None if args.margin is None else _margin(args.margin)
    )


def require_visible(margin: float | None, images: int) -> None:
    """Raise ConfigError for a margin that is less than one test image, which is usually a fraction by mistake."""
    if margin is not None and margin * images < 1:
        message = (
            f"--margin {100 * margin:g}: one of {images:,} test images is {100 / images:.2g} percentage points; "
            "margins are in percentage points, such as 1"
        )
        raise ConfigError(message)


def _require_positive(flag: str, value: float) -> None:
    # Negated, so that NaN is refused too.
    if not value > 0:
        message = f"{flag} {value:g}: use a number above 0"
        raise ConfigError(message)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")


def _margin(text: str) -> float:
    """Return a margin in percentage points as a fraction."""
    points = _number(text)
    if not 0 < points < MOST_MARGIN:
        message = f"--margin {text}: use percentage points above 0 and below {MOST_MARGIN:g}, such as 1"
        raise ConfigError(message)
    return points / 100


def _class_and_share(text: str) -> tuple[str, float]:
    # From the right, as the name of a class may contain "=".
    class_name, _, share = text.rpartition("=")
    if not class_name or not 0 <= _number(share) <= 1:
        message = f"--min-recall {text}: use CLASS=SHARE with a share from 0 to 1, such as glass=0.8"
        raise ConfigError(message)
    return composed(class_name), _number(share)


def _measure(text: str) -> Limit:
    key, _, value = text.partition("=")
    if key not in MEASURES or not _number(value) >= 0:
        message = f"--limit {text}: use MEASURE=VALUE, such as gmacs=0.5; measures: {', '.join(MEASURES)}"
        raise ConfigError(message)
    return Limit(kind="measure", label=f"--limit {text}", subject=key, bound=_number(value) / MEASURES[key].scale)
