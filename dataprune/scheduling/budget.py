"""Budget: what a run may spend, where a share of the examples is not what the user has."""

from __future__ import annotations

from dataclasses import dataclass, fields

from dataprune.errors import InvalidValueError, check_count, check_fraction, check_positive


@dataclass(frozen=True, repr=False)
class Budget:
    """What pruned epochs may spend: a share of the tokens, or what a whole run may: updates, or seconds.

    It takes the place of a scheduler's ``keep_fraction``; one of the parameters is given.

    Parameters
    ----------
    token_fraction : float, optional
        Share of all tokens (or of any ``cost``) that a pruned epoch trains on at most, in (0, 1]. Each selection keeps
        as many examples as that holds; `ScorePerCost` has the most score in it.
    n_updates : int, optional
        Optimizer updates of the whole run at most; the share of the examples follows from it before the start.
    seconds : float, optional
        Wall-clock of the whole run: training, scoring, selecting and evaluating. Each selection keeps what the rest of
        the time is enough for, by the time that the epochs before took for a token. It needs a warm-up epoch to
        measure, is kept to within what an epoch's time varies, and makes a run depend on the machine.

    Examples
    --------
    >>> Budget(token_fraction=0.5)
    Budget(token_fraction=0.5)
    """

    token_fraction: float | None = None
    n_updates: int | None = None
    seconds: float | None = None

    def check(self) -> None:
        """Raise unless exactly one parameter is given, and in range.

        Raises
        ------
        InvalidTypeError
            If it is no number.
        InvalidValueError
            If it is out of range, or none or several are given.
        """
        given = [field.name for field in fields(self) if getattr(self, field.name) is not None]
        if len(given) != 1:
            raise InvalidValueError(
                f"Budget needs one of token_fraction, n_updates and seconds, got {' and '.join(given) or 'none'}."
            )
        if self.token_fraction is not None:
            check_fraction("Budget", "token_fraction", self.token_fraction)
        if self.n_updates is not None:
            check_count("Budget", "n_updates", self.n_updates, minimum=1)
        if self.seconds is not None:
            check_positive("Budget", "seconds", self.seconds)

    @property
    def is_exact(self) -> bool:
        """Whether the examples of each epoch are known before the run."""
        return self.n_updates is not None

    def __repr__(self) -> str:
        given = ((field.name, getattr(self, field.name)) for field in fields(self))
        return f"Budget({', '.join(f'{name}={value!r}' for name, value in given if value is not None)})"
