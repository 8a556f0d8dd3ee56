"""Layouts made of Go's reference time (package time): how a moment is printed, and what is read by one."""

import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

MONTHS = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")

# The longest of what begins alike comes first. A fraction is one only behind a second or a sign that parts it (`.000`).
_ELEMENT = re.compile(
    r"January|Jan(?!u)|Monday|Mon(?!d)|MST|2006|__2|_2006|_2|002|01|02|03|04|05|06|15|PM|pm"
    r"|Z07:00:00|Z070000|Z07:00|Z0700|Z07|-07:00:00|-070000|-07:00|-0700|-07"
    r"|[.,]0+(?![0-9])|[.,]9+(?![0-9])|[123456]"
)
_ZONES = {"07": (False, ""), "0700": (True, ""), "07:00": (True, ":"), "070000": (True, ""), "07:00:00": (True, ":")}


def elements(layout: str) -> Iterator[tuple[str, bool]]:
    """The layout in pieces, and whether each is an element of the reference time."""
    at = 0
    while match := _ELEMENT.search(layout, at):
        if match[0] == "_2006":
            # `_` and then the year, as Go reads it.
            yield layout[at : match.start() + 1], False
            yield "2006", True
        else:
            if match.start() > at:
                yield layout[at : match.start()], False
            yield match[0], True
        at = match.end()
    if at < len(layout):
        yield layout[at:], False


def zone_name(moment: datetime) -> str:
    """The zone's abbreviation, as Go prints MST."""
    return moment.tzname() or "UTC"


def _offset(moment: datetime, kind: str) -> str:
    seconds = int((moment.utcoffset() or timedelta()).total_seconds())
    sign, seconds = ("-" if seconds < 0 else "+"), abs(seconds)
    minutes, separator = _ZONES[kind]
    text = f"{sign}{seconds // 3600:02}"
    if minutes:
        text += f"{separator}{seconds // 60 % 60:02}"
    return text + f"{separator}{seconds % 60:02}" if kind.endswith(("070000", ":00:00")) else text


_SIMPLE: dict[str, Callable[[datetime], str]] = {
    "January": lambda moment: MONTHS[moment.month - 1],
    "Jan": lambda moment: MONTHS[moment.month - 1][:3],
    "Monday": lambda moment: DAYS[moment.weekday()],
    "Mon": lambda moment: DAYS[moment.weekday()][:3],
    "MST": zone_name,
    "2006": lambda moment: f"{moment.year:04}",
    "06": lambda moment: f"{moment.year % 100:02}",
    "01": lambda moment: f"{moment.month:02}",
    "1": lambda moment: str(moment.month),
    "02": lambda moment: f"{moment.day:02}",
    "_2": lambda moment: f"{moment.day:2}",
    "2": lambda moment: str(moment.day),
    "002": lambda moment: f"{moment.timetuple().tm_yday:03}",
    "__2": lambda moment: f"{moment.timetuple().tm_yday:3}",
    "15": lambda moment: f"{moment.hour:02}",
    "03": lambda moment: f"{moment.hour % 12 or 12:02}",
    "3": lambda moment: str(moment.hour % 12 or 12),
    "04": lambda moment: f"{moment.minute:02}",
    "4": lambda moment: str(moment.minute),
    "05": lambda moment: f"{moment.second:02}",
    "5": lambda moment: str(moment.second),
    "PM": lambda moment: "PM" if moment.hour >= 12 else "AM",
    "pm": lambda moment: "pm" if moment.hour >= 12 else "am",
}


def strftime(layout: str, moment: datetime) -> str:
    """The moment as Go's Time.Format prints it."""
    result = ""
    for piece, is_element in elements(layout):
        result += _formatted(piece, moment) if is_element else piece
    return result


def _formatted(element: str, moment: datetime) -> str:
    simple = _SIMPLE.get(element)
    if simple is not None:
        return simple(moment)
    if element[0] in ".,":
        digits = f"{moment.microsecond:06}000"[: len(element) - 1].ljust(len(element) - 1, "0")
        digits = digits.rstrip("0") if element[1] == "9" else digits
        return element[0] + digits if digits else ""
    if element[0] == "Z":
        return "Z" if not moment.utcoffset() else _offset(moment, element[1:])
    if element[0] == "-":
        return _offset(moment, element[1:])
    return element


_FIELDS = {
    "2006": ("year", r"[0-9]{4}"),
    "06": ("year2", r"[0-9]{2}"),
    "01": ("month", r"[0-9]{2}"),
    "1": ("month", r"[0-9]{1,2}"),
    "02": ("day", r"[0-9]{2}"),
    "_2": ("day", r" ?[0-9]{1,2}"),
    "2": ("day", r"[0-9]{1,2}"),
    "002": ("yday", r"[0-9]{3}"),
    "__2": ("yday", r" {0,2}[0-9]{1,3}"),
    "15": ("hour", r"[0-9]{2}"),
    "03": ("hour", r"[0-9]{2}"),
    "3": ("hour", r"[0-9]{1,2}"),
    "04": ("minute", r"[0-9]{2}"),
    "4": ("minute", r"[0-9]{1,2}"),
    "05": ("second", r"[0-9]{2}(?:[.,][0-9]+)?"),
    "5": ("second", r"[0-9]{1,2}(?:[.,][0-9]+)?"),
    "PM": ("half", "AM|PM"),
    "pm": ("half", "am|pm"),
    "January": ("name", "(?i:" + "|".join(MONTHS) + ")"),
    "Jan": ("name", "(?i:" + "|".join(month[:3] for month in MONTHS) + ")"),
    "Monday": ("weekday", "(?i:" + "|".join(DAYS) + ")"),
    "Mon": ("weekday", "(?i:" + "|".join(day[:3] for day in DAYS) + ")"),
    "MST": ("zone", r"[A-Z]{3,5}|[+-][0-9]{2}"),
}


def strptime(layout: str, text: str, zone: timezone | ZoneInfo) -> datetime:
    """What Go's ParseInLocation reads; raises ValueError. A zone that the text does not give is `zone`."""
    found: dict[str, str] = {}
    rest = text
    pieces = list(elements(layout))
    for at, (piece, is_element) in enumerate(pieces):
        if not is_element:
            if not rest.startswith(piece):
                raise ValueError(f'parsing time "{text}" as "{layout}": cannot parse "{rest}" as "{piece}"')
            rest = rest[len(piece) :]
            continue
        name, pattern = _field(piece)
        if name == "second" and at + 1 < len(pieces) and pieces[at + 1][0][0] in ".," and pieces[at + 1][1]:
            pattern = pattern.partition("(")[0]
        match = re.match(pattern, rest)
        if match is None:
            raise ValueError(f'parsing time "{text}" as "{layout}": cannot parse "{rest}" as "{piece}"')
        found[name] = match[0]
        rest = rest[match.end() :]
    if rest:
        raise ValueError(f'parsing time "{text}": extra text: "{rest}"')
    try:
        return _moment(found, zone)
    except ValueError as exc:
        raise ValueError(f'parsing time "{text}": {exc}') from exc


def _field(element: str) -> tuple[str, str]:
    if element in _FIELDS:
        return _FIELDS[element]
    if element[0] in ".,":
        return "fraction", r"(?:[.,][0-9]+)?" if element[1] == "9" else rf"[.,][0-9]{{{len(element) - 1}}}"
    colon = ":" if ":" in element else ""
    pattern = r"[+-][0-9]{2}" + (f"{colon}[0-9]{{2}}" * (len(element.strip("Z-").replace(":", "")) // 2 - 1))
    return "offset", f"Z|{pattern}" if element[0] == "Z" else pattern


def _moment(found: dict[str, str], zone: timezone | ZoneInfo) -> datetime:
    second, _, fraction = found.get("second", "0").replace(",", ".").partition(".")
    fraction = fraction or found.get("fraction", "")[1:]
    hour = int(found.get("hour", "0"))
    if half := found.get("half", "").lower():
        hour = hour % 12 + (12 if half == "pm" else 0) if hour <= 12 else hour
    year = int(found.get("year", "0"))
    if two := found.get("year2"):
        year = int(two) + (1900 if int(two) >= 69 else 2000)
    month = int(found.get("month", "1"))
    if name := found.get("name"):
        month = next(at for at, known in enumerate(MONTHS, 1) if known.lower().startswith(name.lower()[:3]))
    if year == 0:
        # Go has a year 0; the first year is the nearest that there is here.
        year = 1
    naive = datetime(year, month, int(found.get("day", "1")), hour, int(found.get("minute", "0")), int(second))
    if yday := found.get("yday"):
        naive = naive.replace(month=1, day=1) + timedelta(days=int(yday) - 1)
    naive = naive.replace(microsecond=int(fraction[:6].ljust(6, "0")) if fraction else 0)
    return naive.replace(tzinfo=_zone(found, naive, zone))


def _zone(found: dict[str, str], naive: datetime, zone: timezone | ZoneInfo) -> timezone | ZoneInfo:
    offset = found.get("offset")
    if offset == "Z":
        return UTC
    if offset:
        digits = offset[1:].replace(":", "").ljust(6, "0")
        given = timedelta(hours=int(digits[:2]), minutes=int(digits[2:4]), seconds=int(digits[4:6]))
        given = -given if offset[0] == "-" else given
        return zone if naive.replace(tzinfo=zone).utcoffset() == given else timezone(given, offset.replace(":", ""))
    name = found.get("zone")
    if name in ("UTC", None):
        return UTC if name else zone
    # Go gives an abbreviation that the place does not know the offset 0.
    return zone if naive.replace(tzinfo=zone).tzname() == name else timezone(timedelta(), name)
