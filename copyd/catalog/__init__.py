"""Tables and queries as a server's catalogs describe them, digests of rows, session settings.

Used at the source and at the destinations; nothing here changes data.
"""

from copyd.catalog import read_access
from copyd.catalog.columns import binary_refusal, copied, match_refusal, require_key, selected
from copyd.catalog.digest import Digest, Form, compute, digest_of, forms
from copyd.catalog.keys import ForeignKey, Key, deferrable_constraints, foreign_keys
from copyd.catalog.order import Order, load_order
from copyd.catalog.relations import (
    Column,
    Relation,
    find_tables,
    look_up,
    look_up_all,
    query_columns,
)
from copyd.catalog.session import (
    OUR_PATH,
    begin,
    look_in,
    looking_in,
    milliseconds,
    path_statement,
    set_local,
    settings,
)
