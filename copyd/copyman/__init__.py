"""COPY from one PostgreSQL connection to many, after py-postgresql's copyman.

Usable from a script with two connections and no configuration::

    with psycopg.connect(...) as source, psycopg.connect(...) as destination:
        producer = StatementProducer(source, "COPY t TO STDOUT")
        receiver = StatementReceiver(destination, "COPY t FROM STDIN")
        total_messages, total_bytes = transfer(producer, receiver)
"""

from copyd.copyman.batching import (
    BatchReceiver,
    Found,
    Isolation,
    Refusal,
    Reject,
    Span,
    is_about_a_row,
)
from copyd.copyman.chunk import Chunk
from copyd.copyman.faults import (
    CannotReconcile,
    CopyFail,
    Fault,
    OutcomeUnknown,
    ProducerFault,
    ReceiverFault,
)
from copyd.copyman.links import LinkName
from copyd.copyman.local import CallReceiver, IteratorProducer, NullProducer, NullReceiver
from copyd.copyman.manager import CopyManager, transfer
from copyd.copyman.ports import Link, Producer, Receiver
from copyd.copyman.statement import StatementProducer, StatementReceiver

__all__ = [
    "BatchReceiver",
    "CallReceiver",
    "CannotReconcile",
    "Chunk",
    "CopyFail",
    "CopyManager",
    "Fault",
    "Found",
    "Isolation",
    "IteratorProducer",
    "Link",
    "LinkName",
    "NullProducer",
    "NullReceiver",
    "OutcomeUnknown",
    "Producer",
    "ProducerFault",
    "Receiver",
    "ReceiverFault",
    "Refusal",
    "Reject",
    "Span",
    "StatementProducer",
    "StatementReceiver",
    "is_about_a_row",
    "transfer",
]
