"""COPY from one PostgreSQL connection to many, after py-postgresql's copyman.

Usable from a script with two connections and no configuration::

    with psycopg.connect(...) as source, psycopg.connect(...) as destination:
        producer = StatementProducer(source, "COPY t TO STDOUT")
        receiver = StatementReceiver(destination, "COPY t FROM STDIN")
        total_messages, total_bytes = transfer(producer, receiver)
"""

from copyd.copyman.batches import BatchReceiver
from copyd.copyman.faults import (
    CannotReconcile,
    CopyFail,
    Fault,
    OutcomeUnknown,
    ProducerFault,
    ReceiverFault,
)
from copyd.copyman.links import LinkName
from copyd.copyman.manager import CopyManager, transfer
from copyd.copyman.ports import Link, Producer, Receiver
from copyd.copyman.producers import IteratorProducer, NullProducer, StatementProducer
from copyd.copyman.receivers import CallReceiver, NullReceiver, StatementReceiver
from copyd.copyman.refusal import Refusal, Reject

__all__ = [
    "BatchReceiver",
    "CallReceiver",
    "CannotReconcile",
    "CopyFail",
    "CopyManager",
    "Fault",
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
    "StatementProducer",
    "StatementReceiver",
    "transfer",
]
