"""Sprig's date functions. `now` is when the build began: what a template gives does not change because time goes by."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

from netboot.gotemplate.durations import parse_duration, print_duration
from netboot.gotemplate.errors import FunctionError
from netboot.gotemplate.go_time import ZERO, GoTime, unix
from netboot.gotemplate.time_layouts import strftime, strptime
from netboot.gotemplate.values import Functions, Value, function, type_name

_SECOND = 10**9
_HOUR = 3600 * _SECOND
_ROUNDED = (
    ("y", 365 * 24 * _HOUR),
    ("mo", 30 * 24 * _HOUR),
    ("d", 24 * _HOUR),
    ("h", _HOUR),
    ("m", 60 * _SECOND),
    ("s", _SECOND),
)


def _number(value: Value) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


@function(params=("any",))
def _duration(seconds: Value) -> Value:
    """Seconds as `1h1m1s`."""
    if isinstance(seconds, str):
        seconds = int(seconds) if re.fullmatch(r"[+-]?[0-9]{1,18}", seconds) else 0
    return print_duration(int(seconds) * _SECOND if isinstance(seconds, int) and not isinstance(seconds, bool) else 0)


def _shift(duration: str, date: Value) -> GoTime:
    if not isinstance(date, GoTime):
        raise FunctionError(f"wrong type for value; expected time.Time; got {type_name(date)}")
    try:
        return GoTime(date.moment + timedelta(microseconds=parse_duration(duration) // 1000))
    except OverflowError as exc:
        raise FunctionError(f"{duration} leads beyond the years 1 to 9999") from exc


@function(params=("string", "any"))
def _date_modify(duration: str, date: Value) -> Value:
    """A duration that is none changes nothing."""
    try:
        return _shift(duration, date)
    except ValueError:
        return date


@function(params=("string", "any"))
def _must_date_modify(duration: str, date: Value) -> Value:
    try:
        return _shift(duration, date)
    except ValueError as exc:
        raise FunctionError(str(exc)) from exc


@function(params=("any",))
def _unix_epoch(date: Value) -> Value:
    if not isinstance(date, GoTime):
        raise FunctionError(f"wrong type for value; expected time.Time; got {type_name(date)}")
    return str(unix(date.moment))


class _Dates:
    """The functions that know what time it is, and where."""

    def __init__(self, now: datetime, local: timezone | ZoneInfo) -> None:
        self._now = now.astimezone(local)
        self._local = local

    def moment(self, value: Value) -> datetime:
        """A time as it is, a number as seconds since 1970, anything else is now."""
        if isinstance(value, GoTime):
            return value.moment
        if _number(value):
            try:
                return datetime.fromtimestamp(int(value), self._local)  # type: ignore[call-overload]
            except (ValueError, OverflowError, OSError) as exc:
                raise FunctionError(f"{value} seconds lead beyond the years 1 to 9999") from exc
        return self._now

    def zoned(self, value: Value, name: str) -> datetime:
        """In the zone of that name; UTC where there is none, as in sprig."""
        return self.moment(value).astimezone(self._local if name == "Local" else _zone(name))

    def now(self) -> Value:
        return GoTime(self._now)

    def ago(self, value: Value) -> Value:
        since = self._now - self.moment(value)
        return print_duration(round(since.total_seconds()) * _SECOND)

    def duration_round(self, value: Value) -> Value:
        """A duration by its largest unit alone."""
        nanoseconds = 0
        if isinstance(value, GoTime):
            nanoseconds = (self._now - value.moment) // timedelta(microseconds=1) * 1000
        elif _number(value):
            nanoseconds = int(value)  # type: ignore[call-overload]
        elif isinstance(value, str):
            try:
                nanoseconds = parse_duration(value)
            except ValueError:
                nanoseconds = 0
        size = abs(nanoseconds)
        return next((f"{size // unit}{name}" for name, unit in _ROUNDED if size > unit), "0s")

    def to_date(self, layout: str, text: str) -> Value:
        try:
            return GoTime(strptime(layout, text, self._local))
        except ValueError:
            return GoTime(ZERO)

    def must_to_date(self, layout: str, text: str) -> Value:
        try:
            return GoTime(strptime(layout, text, self._local))
        except ValueError as exc:
            raise FunctionError(str(exc)) from exc


def _zone(name: str) -> timezone | ZoneInfo:
    if not name or name == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (ValueError, OSError, LookupError):
        return UTC


def date_functions(now: datetime, local: timezone | ZoneInfo) -> Functions:
    """The date functions of one execution; `now` has a zone, `local` is the head node's."""
    dates = _Dates(now, local)

    def declared(params: tuple[str, ...], call: Callable[..., Value]) -> Callable[..., Value]:
        return function(params=params)(lambda *arguments: call(*arguments))

    in_zone = declared(("string", "any", "string"), lambda layout, value, name: strftime(layout, dates.zoned(value, name)))
    date = declared(("string", "any"), lambda layout, value: strftime(layout, dates.moment(value).astimezone(local)))
    return {
        "now": declared((), dates.now),
        "ago": declared(("any",), dates.ago),
        "date": date,
        "dateInZone": in_zone,
        "date_in_zone": in_zone,
        "htmlDate": declared(("any",), lambda value: strftime("2006-01-02", dates.moment(value).astimezone(local))),
        "htmlDateInZone": declared(("any", "string"), lambda value, name: strftime("2006-01-02", dates.zoned(value, name))),
        "dateModify": _date_modify,
        "date_modify": _date_modify,
        "mustDateModify": _must_date_modify,
        "must_date_modify": _must_date_modify,
        "duration": _duration,
        "durationRound": declared(("any",), dates.duration_round),
        "toDate": declared(("string", "string"), dates.to_date),
        "mustToDate": declared(("string", "string"), dates.must_to_date),
        "unixEpoch": _unix_epoch,
    }
