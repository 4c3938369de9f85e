"""The root of every exception that copyd raises on purpose; standard library only."""


class CopydError(Exception):
    """One sentence for a person: what is wrong, where, and what to do about it.

    Errors of a server stay psycopg's own and are chained (``__cause__``), never translated.
    """


class SetupError(CopydError):
    """What the configuration names cannot be used as it is; its operator has to change something.

    It ends a command with the exit code of a bad configuration.
    """


class UnsafeFolderError(SetupError):
    """A folder cannot be used: other accounts could change its files, or lead them elsewhere."""
