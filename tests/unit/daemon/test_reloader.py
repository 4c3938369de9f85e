"""One reload after the other, each answered: with fakes, a manual clock and no thread."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from copyd import events
from copyd.config import ConfigError
from copyd.daemon.messages import Reload
from copyd.daemon.reloader import REFUSAL, Reloader
from tests.support.environment import FILE, Bench, read

if TYPE_CHECKING:
    from copyd.config import Config

CHANGED = FILE.replace("workers = 2", "workers = 3")


class Site(Bench):
    """A reloader in a fake environment."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.applied: list[Config] = []
        self.answers: list[Any] = []
        self.reloader = Reloader(
            self.config,
            self.environment,
            post=self.posted.append,
            apply=self.applied.append,
            now=self.now,
        )

    def request(self, *, is_dry: bool = False) -> None:
        self.reloader.request(Reload(self.answers.append, is_dry=is_dry), self.now)

    def load(self, found: Config | Exception) -> None:
        """Have the thread that reads the file end, and its message handled."""
        self.to_load = found
        self.work("load")
        self.reloader.loaded(self.posted.pop(), self.pass_time(1))


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_a_changed_configuration_is_applied_told_and_answered(site: Site, tmp_path: Path) -> None:
    site.request()
    assert site.answers == []
    wanted = read(tmp_path, CHANGED)
    site.load(wanted)
    assert [each.daemon.workers for each in site.applied] == [3]
    assert site.reloader.config.daemon.workers == 3
    assert site.answers == [{"changes": ["daemon changed: workers"]}]
    assert site.seen == [events.ConfigReloaded(("daemon changed: workers",))]
    assert site.notifier.states() == ["RELOADING", "READY"]
    assert site.reloader.status.succeeded_at == site.now.wall


@pytest.mark.parametrize(
    ("error", "problem"),
    [
        (ConfigError(Path("file"), ["line 3 is wrong"]), "line 3 is wrong"),
        (ZeroDivisionError("secret"), "a defect of copyd: ZeroDivisionError"),
    ],
)
def test_a_file_with_errors_changes_nothing(site: Site, error: Exception, problem: str) -> None:
    site.request()
    site.load(error)
    assert (site.applied, site.reloader.config) == ([], site.config)
    assert site.answers == [{"problems": [problem]}]
    assert site.seen == [events.ConfigRefused((problem,))]
    assert (site.reloader.status.is_successful, site.reloader.status.problems) == (
        False,
        (problem,),
    )
    assert site.notifier.states() == ["RELOADING", "READY"]


def test_a_dry_run_only_answers(site: Site, tmp_path: Path) -> None:
    site.request(is_dry=True)
    site.load(read(tmp_path, CHANGED))
    assert site.answers == [{"changes": ["daemon changed: workers"]}]
    assert (site.applied, site.seen, site.notifier.told) == ([], [], [])


def test_reloads_are_carried_out_one_after_the_other(site: Site, tmp_path: Path) -> None:
    site.request()
    site.request()
    assert site.threads() == ["load"]
    site.load(read(tmp_path, CHANGED))
    assert site.threads() == ["load"]
    site.load(read(tmp_path, CHANGED))
    assert site.answers == [{"changes": ["daemon changed: workers"]}, {"changes": []}]
    assert site.threads() == []


def test_once_closed_nothing_is_applied_and_everybody_is_answered(
    site: Site, tmp_path: Path
) -> None:
    site.request()
    site.request()
    site.reloader.close()
    assert site.answers == [REFUSAL, REFUSAL]
    site.load(read(tmp_path, CHANGED))
    site.request()
    assert site.answers == [REFUSAL] * 3
    assert (site.applied, site.seen, site.threads()) == ([], [], [])
    assert site.notifier.states() == ["RELOADING"]
