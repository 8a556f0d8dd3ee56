"""A report as a table, as Markdown, and as JSON that can be read again."""

from collections.abc import Iterator, Sequence

import msgspec
from figures import Comparison, Kind, Limit, Report, Runs, Spread

from bootsvc.cli.table import table

WORK = ("WORK", "OURS s", "PEER s", "RATIO", "TARGET", "CPU s", "PEAK MB", "VERDICT")
LIMITS = ("WHAT", "MEASURED", "AT MOST", "VERDICT")


def to_json(report: Report) -> bytes:
    """The records as they are, with `noise`, `ratio` and `met` for readers that do not want to compute them."""
    document = msgspec.to_builtins(report)
    document["noise"] = list(report.noise)
    for subject, known in zip(document["subjects"], report.subjects, strict=True):
        for comparison, source in zip(subject["comparisons"], known.comparisons, strict=True):
            comparison |= {"ratio": msgspec.to_builtins(source.ratio), "met": source.met}
            comparison["ours"] |= _summary(source.ours)
            comparison["peer"] |= _summary(source.peer)
        for limit, bound in zip(subject["limits"], known.limits, strict=True):
            limit["met"] = bound.met
    return msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n"


def _summary(runs: Runs) -> dict[str, object]:
    return {"wall": msgspec.to_builtins(runs.wall), "cpu": msgspec.to_builtins(runs.cpu), "memory": runs.memory}


def from_json(data: bytes) -> Report:
    return msgspec.json.decode(data, type=Report)


def text(report: Report) -> str:
    """What `make bench` ends with."""
    parts = [table(WORK, [_cells(comparison) for comparison in _comparisons(report)])]
    if limits := _limits(report):
        parts.append(table(LIMITS, [_limit_cells(limit) for limit in limits]))
    parts += ["".join(f"{line}\n" for line in _facts(report)), "".join(f"{line}\n" for line in _remarks(report))]
    return "\n".join(part for part in parts if part)


def markdown(report: Report) -> str:
    """The same, for docs/performance.md."""
    parts = [_grid(WORK, [_cells(comparison) for comparison in _comparisons(report)])]
    if limits := _limits(report):
        parts.append(_grid(LIMITS, [_limit_cells(limit) for limit in limits]))
    parts.append("".join(f"- {line}\n" for line in (*_facts(report), *_remarks(report))))
    return "\n".join(parts)


def _comparisons(report: Report) -> list[Comparison]:
    return [comparison for subject in report.subjects for comparison in subject.comparisons]


def _limits(report: Report) -> list[Limit]:
    return [limit for subject in report.subjects for limit in subject.limits]


def _cells(comparison: Comparison) -> list[str]:
    ours, peer, target = comparison.ours, comparison.peer, comparison.target
    return [
        comparison.work,
        _seconds(ours.wall),
        _seconds(peer.wall),
        _spread(comparison.ratio, target.kind),
        f"{'at least' if target.kind is Kind.FASTER else 'at most'} {_ratio(target.bound, target.kind)}",
        f"{ours.cpu.median:.2f} / {peer.cpu.median:.2f}",
        f"{_megabytes(ours)} / {_megabytes(peer)}",
        _verdict(comparison.met),
    ]


def _limit_cells(limit: Limit) -> list[str]:
    return [limit.what, *(f"{value:.3g} {limit.unit}".strip() for value in (limit.value, limit.bound)), _verdict(limit.met)]


def _verdict(met: bool) -> str:
    return "PASS" if met else "below"


def _seconds(spread: Spread) -> str:
    return f"{spread.median:.2f} ({spread.minimum:.2f}-{spread.maximum:.2f})"


def _spread(spread: Spread, kind: Kind) -> str:
    return f"{_ratio(spread.median, kind)} ({_ratio(spread.minimum, kind)}-{_ratio(spread.maximum, kind)})"


def _ratio(value: float, kind: Kind) -> str:
    if kind is Kind.SHARE and value < 1:
        return f"{value:.1%}"
    return f"{value:.3g}x"


def _megabytes(runs: Runs) -> str:
    return "--" if runs.memory is None else f"{runs.memory / 1e6:.0f}"


def _facts(report: Report) -> Iterator[str]:
    rounds = f"{report.rounds} round{'s' if report.rounds > 1 else ''}{', --quick' if report.quick else ''}"
    yield f"{report.date}, commit {report.commit}, {rounds}; medians (fastest-slowest), ours / peer"
    yield ", ".join(f"{key} {value}" for key, value in report.machine.items())
    yield ", ".join(f"{key} {value}" for key, value in report.versions.items())


def _remarks(report: Report) -> Iterator[str]:
    for subject in report.subjects:
        yield from (f"{subject.name}: {remark}" for remark in subject.remarks)
    if report.noise:
        yield f"NOISY MACHINE, take the figures as an indication: {'; '.join(report.noise)}"


def _grid(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
