"""A file that is read while it is written."""

import os
import threading
from pathlib import Path

from images.growing import Growth, open_growing


def test_reading_waits_for_what_was_told(tmp_path: Path) -> None:
    with (tmp_path / "file").open("wb", buffering=0) as file:
        growth = Growth(file.fileno())
        reader = open_growing(os.dup(growth.file), os.dup(growth.event), 10)
        file.write(b"abcdef")
        growth.tell(4)
        assert reader.read(4) == b"abcd"
        growth.tell(3)

        def write_the_rest() -> None:
            file.write(b"ghij")
            growth.tell(6)
            growth.tell(10)

        late = threading.Thread(target=write_the_rest)
        late.start()
        assert reader.read(100) == b"efghij"
        late.join()
        assert reader.read(100) == b""
        reader.seek(0)
        assert reader.read() == b"abcdefghij"
        assert reader.tell() == 10
        reader.close()
        growth.close()


def test_the_writer_may_be_another_file_later(tmp_path: Path) -> None:
    with (tmp_path / "file").open("wb") as file, (tmp_path / "other").open("wb") as other:
        growth = Growth(file.fileno())
        assert growth.is_of(file.fileno())
        assert not growth.is_of(other.fileno())
        growth.close()
