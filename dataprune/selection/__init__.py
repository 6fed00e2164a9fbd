"""Selectors turn scores and a budget into the examples to keep, each with a loss weight."""

from dataprune.selection.base import Selector, take_rows
from dataprune.selection.random import RandomK, WeightedK
from dataprune.selection.ranked import TopK

__all__ = ["RandomK", "Selector", "TopK", "WeightedK", "take_rows"]
