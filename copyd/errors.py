"""The base classes of copyd's exceptions; standard library only."""


class CopydError(Exception):
    """An error with one sentence for the operator: the fault, its place and the remedy.

    Errors of a server stay psycopg's own and are chained (``__cause__``), never translated.
    """


class SetupError(CopydError):
    """Something that the configuration names cannot be used; a retry will not help.

    Commands end with the exit code of a bad configuration.
    """


class UnsafeFolderError(SetupError):
    """A folder is unsafe: other accounts could change its files, or redirect them by a link."""
