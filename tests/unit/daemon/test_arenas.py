"""How many arenas the allocator makes; asked of glibc itself, in a process of its own."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")

SCRIPT = """
import ctypes, sys, threading
from copyd.daemon.arenas import limit_arenas

if sys.argv[1] == "limited":
    limit_arenas()
everybody = threading.Barrier(20)

def work():
    everybody.wait()
    held = [bytearray(10_000) for _ in range(100)]
    everybody.wait()

threads = [threading.Thread(target=work) for _ in range(20)]
for thread in threads: thread.start()
for thread in threads: thread.join()
libc = ctypes.CDLL(None)
stdout = ctypes.c_void_p.in_dll(libc, "stdout")
libc.malloc_info(0, stdout)
libc.fflush(stdout)
"""


def arenas(way: str, **environ: str) -> int:
    ran = subprocess.run(
        [sys.executable, "-c", SCRIPT, way],
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        check=True,
    )
    return ran.stdout.count("<heap nr=")


def test_threads_share_two_arenas() -> None:
    assert arenas("unlimited", MALLOC_ARENA_MAX="8") > 2
    assert arenas("limited") == 2


def test_what_the_environment_says_stands() -> None:
    assert arenas("limited", MALLOC_ARENA_MAX="5") == 5
