"""The part of PostgreSQL's protocol 3 that a COPY needs: bytes in, values out, no socket.

Source: PostgreSQL documentation, "Frontend/Backend Protocol", sections
"COPY Operations" and "Message Formats".
"""

from copyd.wire.frames import BLOCK_LIMIT, HEADER_SIZE, Cut, Scanner
from copyd.wire.messages import (
    COPY_DONE,
    CommandTag,
    CopyResponse,
    Message,
    ProtocolError,
    copy_fail,
    copy_response,
    data_header,
    error_fields,
    query,
)
