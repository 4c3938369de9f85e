"""Load a configuration file, or raise one exception with every error in it."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import TYPE_CHECKING

from copyd.config.problems import ConfigError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from copyd.config.model import Config


DEFAULT_RUNTIME = "/run/copyd"


def load(path: Path, *, environ: Mapping[str, str], is_root: bool) -> Config:
    """Read the configuration file at `path`; paths in it are relative to its folder.

    ``environ`` names an ordinary user's folders (XDG Base Directory Specification); root has the
    system's. Raises ConfigError with everything that is wrong.
    """
    from copyd.config.validation import read  # noqa: PLC0415 - pydantic is slow to import; `runtime_directory` does without

    raw = _parse(path, _read_text(path))
    if not is_root:
        _default_to_home(path, raw, environ)
    config, problems = read(raw, path.absolute().parent)
    if problems:
        raise ConfigError(path, [str(problem) for problem in problems])
    return config


def runtime_directory(path: Path, *, environ: Mapping[str, str], is_root: bool) -> Path:
    """Return the folder of the daemon's control socket, even if the file has errors.

    The default, if the file cannot be read or does not name a folder.
    """
    raw: dict[str, object] = {}
    with suppress(ConfigError):
        raw = _parse(path, _read_text(path))
    if not is_root:
        with suppress(ConfigError):
            _default_to_home(path, raw, environ)
    daemon = raw.get("daemon")
    said = daemon.get("runtime_directory") if isinstance(daemon, dict) else None
    return path.absolute().parent / (said if isinstance(said, str) else DEFAULT_RUNTIME)


def _read_text(path: Path) -> str:
    try:
        return path.read_bytes().decode()
    except OSError as error:
        raise ConfigError(path, [f"cannot be read: {error.strerror}"]) from error
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise ConfigError(path, [f"line {line} is not UTF-8"]) from error


def _parse(path: Path, text: str) -> dict[str, object]:
    try:
        parsed: dict[str, object] = tomllib.loads(text)
    except RecursionError:
        raise ConfigError(path, ["is nested too deeply"]) from None
    except ValueError as error:  # from tomllib, or from int() for a number of too many digits
        raise ConfigError(path, [f"is not TOML: {error}"]) from None
    return parsed


def _default_to_home(path: Path, raw: dict[str, object], environ: Mapping[str, str]) -> None:
    daemon = raw.setdefault("daemon", {})
    if not isinstance(daemon, dict):
        return  # the model reports the error
    state, home = environ.get("XDG_STATE_HOME", ""), environ.get("HOME", "")
    if "state_directory" not in daemon:
        # XDG Base Directory Specification: paths that are not absolute are to be ignored.
        if not (state.startswith("/") or home.startswith("/")):
            text = "expected a path, as neither XDG_STATE_HOME nor HOME is set"
            raise ConfigError(path, [f"daemon.state_directory: {text}"])
        base = state if state.startswith("/") else f"{home}/.local/state"
        daemon["state_directory"] = f"{base}/copyd"
    if "runtime_directory" not in daemon:
        runtime = environ.get("XDG_RUNTIME_DIR", "")
        is_usable = runtime.startswith("/")
        fallback = f"{daemon['state_directory']}/run"
        daemon["runtime_directory"] = f"{runtime}/copyd" if is_usable else fallback
