"""Made-up data of known redundancy and label noise, to see and to test what pruning finds.

Sentences to a voice assistant are built from templates. The *head*: a few templates and values that come again and
again, learned within an epoch. The *tail*: many templates and values, each of them rare, whose words mean different
things in different places. That is the shape of real data, where a small model needs many epochs for the tail alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Real

import datasets
import numpy as np
from numpy.typing import NDArray

from dataprune.data.sentences import TEMPLATES, VALUES
from dataprune.errors import InvalidTypeError, InvalidValueError, check_count

N_HEAD_TEMPLATES = 2
"""Templates of each intent that make up the head: the first in its table."""
N_HEAD_VALUES = 3
"""Values of each slot that make up the head: the first in its table."""


@dataclass(frozen=True, eq=False)
class SyntheticData:
    """Made-up rows, and what is known of each.

    Parameters
    ----------
    dataset : datasets.Dataset
        The rows: ``tokens``, ``intent`` and ``slots``, or ``text`` and ``label``.
    is_redundant : ndarray of bool, shape (n_examples,)
        Rows of the head with the right label: each says what many others say.
    is_mislabelled : ndarray of bool, shape (n_examples,)
        Rows whose intent or label was replaced by another; never redundant ones.

    Examples
    --------
    >>> data = make_classification(200)
    >>> data.dataset.num_rows, int(data.is_redundant.sum()), int(data.is_mislabelled.sum())
    (200, 120, 10)
    """

    dataset: datasets.Dataset
    is_redundant: NDArray[np.bool_]
    is_mislabelled: NDArray[np.bool_]


def make_joint_nlu(
    n_examples: int = 1000, *, redundant_fraction: float = 0.6, noise_fraction: float = 0.05, random_state: int = 0
) -> SyntheticData:
    """Make sentences with one intent each and BIO slot tags.

    Make the test set with another `random_state` and ``noise_fraction=0``.

    Parameters
    ----------
    n_examples : int, default=1000
        Rows to make, at least 1.
    redundant_fraction : float, default=0.6
        Share of redundant rows, in [0, 1].
    noise_fraction : float, default=0.05
        Share of rows with a wrong intent, in [0, 1]; the slots stay right. The two shares add up to 1 at most.
    random_state : int, default=0
        Seed; the same seed makes the same rows.

    Returns
    -------
    SyntheticData
        A data set with the columns ``tokens``, ``intent`` (8 classes, equally often before the noise) and ``slots``.

    Raises
    ------
    InvalidValueError
        If a number is out of range.
    InvalidTypeError
        If a number is of another kind.

    Notes
    -----
    Mislabelled rows are drawn from head and tail in the proportion of the rest, so noise cannot be told by its form.

    Examples
    --------
    >>> row = make_joint_nlu(100).dataset[0]
    >>> list(row), len(row["tokens"]) == len(row["slots"])
    (['tokens', 'intent', 'slots'], True)
    """
    n_redundant, n_mislabelled = _counts("make_joint_nlu", n_examples, redundant_fraction, noise_fraction, random_state)
    rng = np.random.default_rng(random_state)
    is_redundant, is_mislabelled = np.zeros((2, n_examples), dtype=bool)
    order = rng.permutation(n_examples)
    is_redundant[order[:n_redundant]] = True
    is_mislabelled[order[n_redundant : n_redundant + n_mislabelled]] = True
    head_share = n_redundant / max(1, n_examples - n_mislabelled)
    in_head = is_redundant | (is_mislabelled & (rng.random(n_examples) < head_share))

    names = list(TEMPLATES)
    rows: dict[str, list[object]] = {"tokens": [], "intent": [], "slots": []}
    for row, number in enumerate(rng.permutation(np.arange(n_examples) % len(names))):
        tokens, slots = _sentence(names[number], rng, head=bool(in_head[row]))
        shift = int(rng.integers(1, len(names))) if is_mislabelled[row] else 0
        rows["tokens"].append(tokens)
        rows["intent"].append(names[(number + shift) % len(names)])
        rows["slots"].append(slots)
    return SyntheticData(datasets.Dataset.from_dict(rows), is_redundant, is_mislabelled)


def make_classification(
    n_examples: int = 1000, *, redundant_fraction: float = 0.6, noise_fraction: float = 0.05, random_state: int = 0
) -> SyntheticData:
    """Make sentences with one label each: those of `make_joint_nlu`, without slots.

    Parameters
    ----------
    n_examples : int, default=1000
        Rows to make, at least 1.
    redundant_fraction : float, default=0.6
        Share of redundant rows, in [0, 1].
    noise_fraction : float, default=0.05
        Share of rows with a wrong label, in [0, 1]. The two shares add up to 1 at most.
    random_state : int, default=0
        Seed; the same seed makes the same rows.

    Returns
    -------
    SyntheticData
        A data set with the columns ``text`` and ``label`` (8 classes).

    Raises
    ------
    InvalidValueError
        If a number is out of range.
    InvalidTypeError
        If a number is of another kind.

    Examples
    --------
    >>> make_classification(100).dataset.column_names
    ['text', 'label']
    """
    _counts("make_classification", n_examples, redundant_fraction, noise_fraction, random_state)
    joint = make_joint_nlu(
        n_examples,
        redundant_fraction=redundant_fraction,
        noise_fraction=noise_fraction,
        random_state=random_state,
    )
    texts = [" ".join(tokens) for tokens in joint.dataset["tokens"]]
    rows = datasets.Dataset.from_dict({"text": texts, "label": joint.dataset["intent"][:]})
    return SyntheticData(rows, joint.is_redundant, joint.is_mislabelled)


def _sentence(intent: str, rng: np.random.Generator, *, head: bool) -> tuple[list[str], list[str]]:
    """Draw a template and its values: all of the head, or at least one of the tail."""
    templates = TEMPLATES[intent]
    in_head = not head
    while in_head != head:
        number = _draw(len(templates), N_HEAD_TEMPLATES, rng, head=head)
        in_head = number < N_HEAD_TEMPLATES
        tokens: list[str] = []
        slots: list[str] = []
        for word in templates[number].split():
            if not word.startswith("{"):
                tokens.append(word)
                slots.append("O")
                continue
            slot = word.strip("{}")
            number = _draw(len(VALUES[slot]), N_HEAD_VALUES, rng, head=head)
            in_head &= number < N_HEAD_VALUES
            value = VALUES[slot][number].split()
            tokens += value
            slots += [f"B-{slot}"] + [f"I-{slot}"] * (len(value) - 1)
    return tokens, slots


def _draw(n: int, n_head: int, rng: np.random.Generator, *, head: bool) -> int:
    """Draw from the first `n_head` uniformly, or from all with odds that fall slowly along the table."""
    if head:
        return int(rng.integers(n_head))
    odds = 1 / (np.arange(n) + n_head)
    return int(rng.choice(n, p=odds / odds.sum()))


def _counts(
    owner: str, n_examples: int, redundant_fraction: float, noise_fraction: float, seed: int
) -> tuple[int, int]:
    """Check the parameters and return how many rows are redundant and mislabelled."""
    check_count(owner, "n_examples", n_examples, minimum=1)
    check_count(owner, "random_state", seed)
    for name, share in {"redundant_fraction": redundant_fraction, "noise_fraction": noise_fraction}.items():
        if isinstance(share, bool) or not isinstance(share, Real):
            raise InvalidTypeError(f"{owner}.{name} must be a number in [0, 1], got {share!r}.")
        if not 0 <= share <= 1:
            raise InvalidValueError(f"{owner}.{name} must be in [0, 1], got {share!r}.")
    if redundant_fraction + noise_fraction > 1:
        raise InvalidValueError(
            f"{owner}.noise_fraction must be at most 1 - redundant_fraction, "
            f"got {noise_fraction!r} with redundant_fraction={redundant_fraction!r}. Lower one of them."
        )
    n_redundant = int(redundant_fraction * n_examples + 0.5)
    return n_redundant, min(int(noise_fraction * n_examples + 0.5), n_examples - n_redundant)
