from __future__ import annotations

import pytest

from copyd.wire import (
    CommandTag,
    CopyResponse,
    ProtocolError,
    copy_fail,
    copy_response,
    data_header,
    error_fields,
    query,
)


def test_a_query_carries_its_length_and_ends_in_nul() -> None:
    assert query(b"COPY t TO STDOUT") == b"Q\0\0\0\x15COPY t TO STDOUT\0"


def test_a_statement_with_a_nul_byte_is_refused() -> None:
    with pytest.raises(ValueError, match="NUL"):
        query(b"COPY t\0; DROP TABLE t")


def test_a_data_header_counts_its_own_length_bytes() -> None:
    assert data_header(6) == b"d\0\0\0\x0a"


def test_a_reason_with_a_nul_byte_cannot_end_its_message_early() -> None:
    assert copy_fail("a\0b") == b"f\0\0\0\x08a?b\0"


def test_a_command_tag_knows_its_rows() -> None:
    assert CommandTag.parse(b"COPY 42\0") == CommandTag("COPY 42", 42)
    assert CommandTag.parse(b"BEGIN\0") == CommandTag("BEGIN", None)


@pytest.mark.parametrize(
    ("body", "is_binary"), [(b"\0\0\2\0\0\0\0", False), (b"\1\0\2\0\1\0\1", True)]
)
def test_the_answer_to_copy_tells_format_and_columns(body: bytes, is_binary: bool) -> None:
    assert copy_response(body) == CopyResponse(is_binary=is_binary, columns=2)


def test_a_short_answer_to_copy_is_a_protocol_error() -> None:
    with pytest.raises(ProtocolError, match="too short"):
        copy_response(b"\0")


def test_error_fields_are_keyed_by_their_code() -> None:
    assert error_fields(b"SERROR\0C22P02\0Mbad\0\0") == {
        ord("S"): b"ERROR",
        ord("C"): b"22P02",
        ord("M"): b"bad",
    }
