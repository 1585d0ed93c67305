"""The errors that a user can mend."""


class IDGuardError(ValueError):
    """Wrong input: the message says what was expected, what was found and what to do.

    The command line prints the message alone and exits with a code other than zero.
    """


class WeightsError(IDGuardError):
    """A weights file is missing, damaged, unsafe, or does not fit the model."""


class NullAttackWarning(UserWarning):
    """An attack has no effect: its gradient is zero, or it returned its input."""
