import pytest

from images.errors import Error
from netboot.hwaddr import parse

INFINIBAND = ":".join(["80", "00", "02", "08", *["fe"] * 16])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("52:54:00:12:34:5F", "52:54:00:12:34:5f"),
        ("52-54-00-12-34-56", "52:54:00:12:34:56"),
        ("5254.0012.3456", "52:54:00:12:34:56"),
        ("525400123456", "52:54:00:12:34:56"),
        (" 52:54:00:12:34:56 ", "52:54:00:12:34:56"),
        (INFINIBAND, INFINIBAND),
    ],
)
def test_parse(text: str, expected: str) -> None:
    assert parse(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "52:54:00:12:34",
        "52:54:00:12:34:56:78",
        "52:54-00:12:34:56",
        "52-54:00-12-34-56",
        "01-00-5e-00-00-01",
        "00-00-00-00-00-00",
        "52:54:00:12:34:5g",
        "5:54:00:12:34:56",
        "01:00:5e:00:00:01",
        "ff:ff:ff:ff:ff:ff",
        "00:00:00:00:00:00",
        "5254:0012:3456",
    ],
)
def test_refused(text: str) -> None:
    with pytest.raises(Error) as caught:
        parse(text)
    assert repr(text) in caught.value.message
    assert caught.value.hint
