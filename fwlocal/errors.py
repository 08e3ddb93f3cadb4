"""What can go wrong for a user, as one small family of exceptions.

Every message is one line that names the thing and the remedy: the command line prints it as it
stands, after ``fwlocal: ``, and leaves with the class's ``exit_code``. Any other exception is a
bug.

    FwlocalError            1   the base; the work failed
    ├── ModelNotFound       1   no such model, or it is not on this disk
    ├── BadModelFile        1   a file that is no sound GGUF, or that llama.cpp refuses
    ├── BadCheckpoint       1   a source of weights that cannot be converted
    ├── RegistryError       1   a models.toml or config.toml that cannot be used
    ├── BadGrammar          1   a grammar or JSON schema that cannot be used
    ├── PromptTooLong       1   more tokens than the context holds
    ├── StoreError          1   the models folder, or another target, cannot be read or written
    ├── UsageError          2   options or input that make no sense together
    ├── Damaged             3   a file of the models folder is no longer what it was
    ├── NetworkError        4   something could not be fetched
    │   └── WorkerLost      4   what computed an answer was lost on the way
    ├── DoesNotFit          5   not enough memory or disk
    └── Interrupted         130 the user stopped it (143 when terminated)
"""

from __future__ import annotations


class FwlocalError(Exception):
    """Base of every error that a user can cause or meet; its text is one line."""

    exit_code = 1


class ModelNotFound(FwlocalError):
    """No model of that name is known, or its file is not on this disk."""


class BadModelFile(FwlocalError):
    """A model file is damaged, of another format, or refused by llama.cpp."""


class BadCheckpoint(FwlocalError):
    """A checkpoint, its tokenizer or its configuration is damaged, incomplete or not supported."""


class RegistryError(FwlocalError):
    """A models.toml or config.toml has an unknown key, a missing key or a wrong type."""


class BadGrammar(FwlocalError):
    """A GBNF grammar or a JSON schema is invalid."""


class PromptTooLong(FwlocalError):
    """A prompt has more tokens than the context holds."""


class StoreError(FwlocalError):
    """The folder of models, or another target, cannot be read or written."""


class UsageError(FwlocalError):
    """Options or input that make no sense together."""

    exit_code = 2


class Damaged(FwlocalError):
    """A file of the models folder is no longer what was put there."""

    exit_code = 3


class NetworkError(FwlocalError):
    """Something could not be fetched."""

    exit_code = 4


class WorkerLost(NetworkError):
    """A worker, or the process that the engine runs in, was lost on the way.

    ``lost`` is the text up to its last step, ``then``: a chat has another than a command.
    """

    def __init__(self, lost: str, then: str = "run the command again") -> None:
        super().__init__(f"{lost} {then}")
        self.lost = lost


class DoesNotFit(FwlocalError):
    """Not enough memory or disk."""

    exit_code = 5


class Interrupted(FwlocalError):
    """The user, or the system, stopped the work before it was done."""

    exit_code = 130

    def __init__(self, message: str = "interrupted", *, exit_code: int = 130) -> None:
        super().__init__(message)
        self.exit_code = exit_code
