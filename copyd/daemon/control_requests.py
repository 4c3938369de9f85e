"""The requests of the control socket."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

from copyd.daemon.messages import Pause, Reload, Reply, Trigger
from copyd.errors import CopydError

if TYPE_CHECKING:
    from copyd.control_socket import Request
    from copyd.daemon.messages import Answer, Message, Post

Handler = Callable[["Request"], "Answer"]  # answers a request at once, without the supervisor

WITHIN = 30.0  # seconds for the supervisor's answer: a reload reads files


class ControlRequests:
    """Answers requests: by a handler of the same name, else through the supervisor's inbox."""

    def __init__(self, post: Post, handlers: Mapping[str, Handler]) -> None:
        self._post = post
        self._handlers = handlers

    def __call__(self, request: Request) -> Answer:
        """Return the answer; raises CopydError for the caller."""
        command = request.get("command")
        if isinstance(command, str) and command in self._handlers:
            return self._handlers[command](request)
        answers: SimpleQueue[Answer] = SimpleQueue()
        self._post(_message(command, request, answers.put))
        try:
            return answers.get(timeout=WITHIN)
        except Empty:
            raise CopydError(f"the daemon did not answer within {WITHIN:g} s") from None


def _message(command: object, request: Request, reply: Reply) -> Message:
    match command:
        case "trigger":
            return Trigger(
                _text_of(request, "transfer"),
                tuple(map(str, _list_of(request, "destinations"))),
                is_full=request.get("full") is True,
                reply=reply,
            )
        case "pause" | "resume":
            return Pause(_text_of(request, "transfer"), is_paused=command == "pause", reply=reply)
        case "reload":
            return Reload(reply, is_dry=request.get("dry_run") is True)
    raise CopydError("the daemon does not know this command: is it another version of copyd?")


def _text_of(request: Request, key: str) -> str:
    value = request.get(key)
    if not isinstance(value, str):
        raise CopydError(f"the request names no {key}")
    return value


def _list_of(request: Request, key: str) -> list[object]:
    value = request.get(key, [])
    return value if isinstance(value, list) else []
