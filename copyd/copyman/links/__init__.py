"""How COPY data travels: on the connection's own byte stream (`wire`), or through libpq (`libpq`).

Only these two write to a connection in COPY.
"""

from copyd.copyman.links.choice import LinkName, choose, open_copy_in, open_copy_out
from copyd.copyman.links.conversation import CANCEL_TIMEOUT
from copyd.copyman.links.libpq import LibpqCopyIn
from copyd.copyman.links.query import Preamble, Query
from copyd.copyman.links.wire import WireCopyIn
