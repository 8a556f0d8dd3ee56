from bootsvc.cli.table import table


def test_table() -> None:
    assert table(("NODE NAME", "NETWORK"), [("n1", "default"), ("a-long-name", "")]) == (
        "NODE NAME    NETWORK\n"
        "---------    -------\n"
        "n1           default\n"
        "a-long-name  --\n"
    )  # fmt: skip


def test_without_rows() -> None:
    assert table(("A", "BC"), []) == "A  BC\n-  --\n"


def test_other_word_for_empty() -> None:
    assert table(("A",), [("",)], empty="") == "A\n-\n\n"
