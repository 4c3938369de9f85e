"""The control socket alone: stale files, callers, answers."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

import pytest

from copyd.control_socket import ask
from copyd.daemon.control import Control
from copyd.daemon.control_requests import ControlRequests
from copyd.daemon.messages import Message, Pause, Reload, Trigger
from copyd.errors import CopydError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def echo(request: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"heard": dict(request)}


def test_a_question_gets_its_answer(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with Control(path, echo):
        assert path.stat().st_mode & 0o777 == 0o660
        assert ask(path, {"a": "b\n\u2713"}, within=5) == {"heard": {"a": "b\n\u2713"}}
    assert not path.exists()
    with pytest.raises(CopydError, match="no daemon listens at"):
        ask(path, {}, within=5)


def test_a_socket_that_a_killed_daemon_left_is_replaced(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(tmp_path / "s"))
    with Control(tmp_path / "s", echo):
        assert ask(tmp_path / "s", {}, within=5) == {"heard": {}}


def test_a_socket_that_another_daemon_uses_is_left_alone(tmp_path: Path) -> None:
    with Control(tmp_path / "s", echo):
        with (
            pytest.raises(CopydError, match="another daemon listens"),
            Control(tmp_path / "s", echo),
        ):
            pass
        assert ask(tmp_path / "s", {}, within=5) == {"heard": {}}


def test_a_defect_is_one_callers_and_a_refusal_is_a_sentence(tmp_path: Path) -> None:
    def fail(request: Mapping[str, Any]) -> Mapping[str, Any]:
        raise CopydError("not today") if request.get("ours") else ZeroDivisionError("secret")

    with Control(tmp_path / "s", fail):
        with pytest.raises(CopydError, match=r"^a defect of copyd: ZeroDivisionError$"):
            ask(tmp_path / "s", {}, within=5)
        with pytest.raises(CopydError, match=r"^not today$"):
            ask(tmp_path / "s", {"ours": True}, within=5)


def test_a_daemon_that_does_not_answer_is_told(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "s"))
        silent.listen()
        with pytest.raises(CopydError, match=r"did not answer within 0\.2 s"):
            ask(tmp_path / "s", {}, within=0.2)


@pytest.mark.parametrize(
    ("request_", "kind"),
    [
        ({"command": "trigger", "transfer": "t", "destinations": ["b"], "full": True}, Trigger),
        ({"command": "pause", "transfer": "t"}, Pause),
        ({"command": "resume", "transfer": "t"}, Pause),
        ({"command": "reload", "dry_run": True}, Reload),
    ],
)
def test_a_request_becomes_a_message_and_waits_for_its_reply(
    request_: dict[str, Any], kind: type[Message]
) -> None:
    posted: list[Message] = []

    def post(message: Message) -> None:
        posted.append(message)
        assert isinstance(message, (Trigger, Pause, Reload))
        message.reply({"done": True})

    assert ControlRequests(post, {})(request_) == {"done": True}
    assert isinstance(posted[0], kind)


def test_questions_are_answered_without_the_supervisor() -> None:
    def post(message: Message) -> None:
        raise AssertionError(message)

    assert ControlRequests(post, {"status": echo})({"command": "status"}) == {
        "heard": {"command": "status"}
    }
