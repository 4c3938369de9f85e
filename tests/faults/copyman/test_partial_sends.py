"""Sends cut short and timed out again and again, each reconciled: every byte arrives once.

``COPYD_RECONCILED`` is how many are reconciled at least on each link; 10000 takes seconds more.
"""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING

import pytest

from copyd.copyman import CopyManager, ReceiverFault
from tests.support.proxy import Action, Proxy

if TYPE_CHECKING:
    from tests.contract.copyman.conftest import Bench

FAULTS = int(os.environ.get("COPYD_RECONCILED", "400"))
FAULTS_A_STALL = 20
HASH = "SELECT count(*), md5(string_agg(md5(t::text), '' ORDER BY i)) FROM {} t"


@pytest.mark.parametrize("form", ["TEXT", "BINARY"])
def test_every_cut_send_is_reconciled_and_the_hashes_are_equal(bench: Bench, form: str) -> None:
    """A destination stalls at random bytes; a receiver gets no time at all to drain a chunk."""
    stalls = FAULTS // FAULTS_A_STALL
    bench.execute(f"""
        CREATE TABLE source AS SELECT i, repeat(chr(65 + i % 26), i % 400) AS x
            FROM generate_series(1, {50_000 + 300 * stalls}) i;
        CREATE TABLE t (i int, x text); CREATE TABLE u (i int, x text)
    """)
    chance = random.Random(4)
    faults = 0
    with Proxy(bench.server.port) as proxy:
        stalling = bench.receiver(
            f"COPY t FROM STDIN (FORMAT {form})", bench.connect(port=proxy.port)
        )
        good = bench.receiver(f"COPY u FROM STDIN (FORMAT {form})")
        producer = bench.producer(f"COPY source TO STDOUT (FORMAT {form})")
        with CopyManager(producer, stalling, good) as copy:
            copy.stall_timeout = 0.0
            proxy.to_server.after(chance.randrange(1, 50_000), Action.STALL)
            while copy.receivers:
                try:
                    for _ in copy:
                        pass
                except ReceiverFault as fault:
                    for receiver, cause in fault.faults.items():
                        assert isinstance(cause, TimeoutError)
                        copy.reconcile(receiver)
                    if not proxy.to_server.reached.is_set() or stalling not in fault.faults:
                        continue
                    faults += 1
                    if faults % FAULTS_A_STALL == 0:
                        proxy.to_server.release()
                        # Not near the end: what is left would fit into the sockets' buffers.
                        if len(proxy.to_server.seen) < 50_000 * stalls:
                            proxy.to_server.after(chance.randrange(1, 50_000), Action.STALL)
            assert copy.completed == {stalling, good}
        stalling.connection.close()
    assert faults >= FAULTS
    expected = bench.rows(HASH.format("source"))
    assert bench.rows(HASH.format("t")) == expected
    assert bench.rows(HASH.format("u")) == expected
