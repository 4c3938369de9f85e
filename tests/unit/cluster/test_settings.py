"""Settings as a mapping over files: includes, overrides, and writes that are whole or not at all."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from copyd.cluster import Entry, OverriddenSettingWarning, Settings
from copyd.cluster.settings import replace_file

if TYPE_CHECKING:
    from pathlib import Path

SAMPLE = "# a comment\nport = 5432\nmax_connections = 100 # (change requires restart)\n#a.b = 'x'\n"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "postgresql.conf").write_text(SAMPLE)
    return Settings(tmp_path / "postgresql.conf")


def test_a_value_is_a_string(settings: Settings) -> None:
    assert settings["port"] == "5432"


def test_names_are_case_insensitive(settings: Settings) -> None:
    assert settings["PORT"] == "5432"
    settings["Port"] = 1
    assert settings["port"] == "1"
    assert len(settings) == 2


def test_a_missing_name_raises_or_gives_the_default(settings: Settings) -> None:
    with pytest.raises(KeyError):
        settings["work_mem"]
    assert settings.get("work_mem") is None
    assert settings.get("work_mem", "4MB") == "4MB"


def test_several_are_read_at_once_and_the_missing_are_none(settings: Settings) -> None:
    assert settings.getset({"port", "work_mem"}) == {"port": "5432", "work_mem": None}


@pytest.mark.parametrize(
    "changes", [{"port": "1", "work_mem": "2MB"}, [("port", "1"), ("work_mem", "2MB")]]
)
def test_several_are_written_at_once_and_comments_and_order_stay(
    settings: Settings, changes: dict[str, str] | list[tuple[str, str]]
) -> None:
    assert settings.update(changes) == ()
    assert settings.path.read_text() == (
        SAMPLE.replace("port = 5432", "port = '1'") + "work_mem = '2MB'\n"
    )


def test_keywords_are_changes_too(settings: Settings) -> None:
    settings.update({"port": 1}, work_mem="2MB")
    assert settings.getset(["port", "work_mem"]) == {"port": "1", "work_mem": "2MB"}


def test_numbers_booleans_and_none_can_be_set(settings: Settings) -> None:
    settings.update({"port": 6000, "ssl": True, "max_connections": None})
    assert dict(settings) == {"port": "6000", "ssl": "on"}
    assert "#max_connections = 100 # (change requires restart)" in settings.path.read_text()


def test_a_dotted_name_can_be_set(settings: Settings) -> None:
    settings["a.b"] = "y"
    assert settings["a.b"] == "y"
    assert settings.path.read_text() == SAMPLE.replace("#a.b = 'x'", "a.b = 'y'")


def test_what_is_deleted_is_gone(settings: Settings) -> None:
    del settings["port"]
    assert "port" not in settings


def test_what_is_absent_cannot_be_deleted(settings: Settings) -> None:
    with pytest.raises(KeyError):
        del settings["work_mem"]


def test_it_is_a_mapping(settings: Settings) -> None:
    assert "port" in settings
    assert "work_mem" not in settings
    assert list(settings) == ["port", "max_connections"]
    assert len(settings) == 2
    assert settings == {"port": "5432", "max_connections": "100"}
    assert settings.pop("port") == "5432"
    assert list(settings.items()) == [("max_connections", "100")]


@pytest.mark.parametrize(("name", "value"), [("work_mem", "a\nb"), ("a b", "x"), ("x", "\0")])
def test_what_is_refused_leaves_the_file_alone(settings: Settings, name: str, value: str) -> None:
    with pytest.raises(ValueError, match=r"expected the name|line break or a NUL"):
        settings[name] = value
    assert settings.path.read_text() == SAMPLE


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"postgresql\.conf"):
        Settings(tmp_path / "postgresql.conf")["port"]


def test_includes_count_where_they_stand(settings: Settings) -> None:
    folder = settings.path.parent
    settings.path.write_text(
        "port = 1\ninclude 'one.conf'\ninclude_if_exists = 'two.conf'\n"
        "Include_Dir 'conf.d'\nwork_mem = '9MB'\n"
    )
    (folder / "one.conf").write_text("port = 2\nwork_mem = '1MB'\ninclude 'nested/three.conf'\n")
    (folder / "nested").mkdir()
    (folder / "nested" / "three.conf").write_text("include 'four.conf'\n")
    (folder / "nested" / "four.conf").write_text("a.b = 'nested'\n")
    (folder / "conf.d").mkdir()
    for name, port in (("20.conf", 20), ("10.conf", 10), (".30.conf", 30), ("40.other", 40)):
        (folder / "conf.d" / name).write_text(f"port = {port}\n")
    assert dict(settings) == {"port": "20", "work_mem": "9MB", "a.b": "nested"}


def test_an_include_that_is_missing_is_an_error(settings: Settings) -> None:
    settings.path.write_text("include 'absent.conf'\n")
    with pytest.raises(FileNotFoundError, match=r"absent\.conf"):
        settings.get("port")


def test_an_include_of_itself_is_an_error(settings: Settings) -> None:
    settings.path.write_text("include 'postgresql.conf'\n")
    with pytest.raises(RecursionError, match="more than 10 files deep"):
        settings.get("port")


def test_what_alter_system_wrote_has_the_last_word(settings: Settings) -> None:
    (settings.path.parent / "postgresql.auto.conf").write_text("port = '7777'\n")
    assert settings["port"] == "7777"


def test_a_write_that_is_overridden_returns_what_overrides_it(settings: Settings) -> None:
    auto = settings.path.parent / "postgresql.auto.conf"
    auto.write_text("# by ALTER SYSTEM\nport = '7777'\n")
    assert settings.update({"port": 1, "work_mem": "2MB"}) == (Entry("port", "7777", auto, 2),)
    assert "port = '1'" in settings.path.read_text()


def test_a_single_write_that_is_overridden_warns(settings: Settings) -> None:
    (settings.path.parent / "postgresql.auto.conf").write_text("port = '7777'\n")
    with pytest.warns(OverriddenSettingWarning, match=r"auto\.conf, line 1: port = 7777 overrides"):
        settings["port"] = 1
    with pytest.warns(OverriddenSettingWarning):
        del settings["port"]


def test_a_write_after_an_include_is_not_overridden(settings: Settings) -> None:
    settings.path.write_text("include 'one.conf'\n")
    (settings.path.parent / "one.conf").write_text("port = 2\n")
    assert settings.update(port=3) == ()
    assert settings["port"] == "3"


def test_a_write_keeps_the_mode(settings: Settings) -> None:
    settings.path.chmod(0o640)
    settings["port"] = 1
    assert settings.path.stat().st_mode & 0o7777 == 0o640


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can write another's file")
def test_a_write_keeps_the_owner(settings: Settings) -> None:
    os.chown(settings.path, 65534, 65534)
    settings["port"] = 1
    assert (settings.path.stat().st_uid, settings.path.stat().st_gid) == (65534, 65534)


def test_a_write_through_a_link_keeps_the_link(settings: Settings, tmp_path: Path) -> None:
    link = tmp_path / "link.conf"
    link.symlink_to(settings.path)
    Settings(link)["port"] = 1
    assert link.is_symlink()
    assert settings["port"] == "1"


def test_bytes_that_are_no_utf8_survive(settings: Settings) -> None:
    settings.path.write_bytes(b"a = 'caf\xe9'\nport = 1\n")
    settings["port"] = 2
    assert settings.path.read_bytes() == b"a = 'caf\xe9'\nport = '2'\n"


def test_a_reader_never_sees_half_of_a_write(settings: Settings) -> None:
    with settings.path.open() as before:
        settings["port"] = 1
        assert before.read() == SAMPLE  # the old file is whole as long as somebody reads it


def test_a_disk_that_is_full_leaves_the_old_file_and_nothing_else(settings: Settings) -> None:
    script = (
        "import resource, signal, sys; from pathlib import Path; from copyd.cluster import Settings\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (16, 16))\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "try: Settings(Path(sys.argv[1]))['port'] = 1\n"
        "except OSError: sys.exit(7)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(settings.path)], check=False)
    assert done.returncode == 7
    assert settings.path.read_text() == SAMPLE
    assert list(settings.path.parent.iterdir()) == [settings.path]


def test_what_cannot_be_written_leaves_no_file_behind(settings: Settings) -> None:
    with pytest.raises(UnicodeEncodeError):
        replace_file(settings.path, "a = '\ud800'")
    assert list(settings.path.parent.iterdir()) == [settings.path]
