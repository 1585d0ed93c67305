"""The errors that a user can mend."""


class IDGuardError(ValueError):
    """Wrong input: the message says what was expected, what was found and what to do.

    The command line prints the message alone and exits with a code other than zero.

    Examples:
        >>> from art_idguard import Protector
        >>> Protector(epsilon=3.0)
        Traceback (most recent call last):
        ...
        art_idguard.errors.IDGuardError: epsilon is on the [-1, 1] scale, in (0, 2]; found 3.0
    """


class WeightsError(IDGuardError):
    """A weights file is missing, damaged, unsafe, or does not fit the model.

    Examples:
        >>> from art_idguard import MANIPULATORS
        >>> MANIPULATORS["stargan"].from_checkpoint("no.ckpt")
        Traceback (most recent call last):
        ...
        art_idguard.errors.WeightsError: no weights file at no.ckpt; give the path of a .safetensors or torch file
    """


class NullAttackWarning(UserWarning):
    """An attack has no effect: its gradient is zero, or it returned its input."""
