"""The contract tests' benches, for copies that go wrong."""

from __future__ import annotations

from tests.contract.copyman.conftest import bench, home, plain_bench, schema, tls_bench

__all__ = ["bench", "home", "plain_bench", "schema", "tls_bench"]
