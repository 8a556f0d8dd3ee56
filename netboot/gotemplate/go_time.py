"""Go's time.Time as a template's value, with its methods."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from netboot.gotemplate.errors import FunctionError
from netboot.gotemplate.time_layouts import DAYS, MONTHS, strftime
from netboot.gotemplate.values import MISSING, Function, Value, function

ZERO = datetime(1, 1, 1, tzinfo=UTC)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class GoTime:
    """A time.Time of a template."""

    moment: datetime

    def go_type(self) -> str:
        return "time.Time"

    def go_field(self, name: str) -> Value:
        return MISSING

    def go_method(self, name: str) -> Function | None:
        found = _METHODS.get(name)
        if found is None:
            return None
        moment = self.moment

        @function(params=_PARAMETERS.get(name, ()))
        def call(*arguments: Value) -> Value:
            return found(moment, *arguments)

        return call

    def go_string(self) -> str:
        return strftime("2006-01-02 15:04:05.999999999 -0700 MST", self.moment)

    def go_json(self) -> Value:
        return strftime("2006-01-02T15:04:05.999999999Z07:00", self.moment)


_PARAMETERS = {
    "Format": ("string",),
    "AddDate": ("int", "int", "int"),
    **dict.fromkeys(("Before", "After", "Equal"), ("any",)),
}


def _other(value: Value) -> datetime:
    if isinstance(value, GoTime):
        return value.moment
    raise FunctionError("a time is compared with a time")


def _add_date(moment: datetime, years: int, months: int, days: int) -> GoTime:
    count = moment.month - 1 + months
    first = moment.replace(year=moment.year + years + count // 12, month=count % 12 + 1, day=1)
    return GoTime(first + timedelta(days=moment.day - 1 + days))


def unix(moment: datetime) -> int:
    """Seconds since 1970."""
    return (moment - _EPOCH) // timedelta(seconds=1)


_METHODS: dict[str, Callable[..., Value]] = {
    "Year": lambda moment: moment.year,
    "Month": lambda moment: MONTHS[moment.month - 1],
    "Day": lambda moment: moment.day,
    "Hour": lambda moment: moment.hour,
    "Minute": lambda moment: moment.minute,
    "Second": lambda moment: moment.second,
    "Nanosecond": lambda moment: moment.microsecond * 1000,
    "YearDay": lambda moment: moment.timetuple().tm_yday,
    "Weekday": lambda moment: DAYS[moment.weekday()],
    "Unix": unix,
    "UTC": lambda moment: GoTime(moment.astimezone(UTC)),
    "Before": lambda moment, other: moment < _other(other),
    "After": lambda moment, other: moment > _other(other),
    "Equal": lambda moment, other: moment == _other(other),
    "IsZero": lambda moment: moment == ZERO,
    "Format": lambda moment, layout: strftime(layout, moment),
    "AddDate": _add_date,
    "String": lambda moment: GoTime(moment).go_string(),
}
