"""Schedulers turn the epoch into the budget: how many examples each epoch keeps, and when they are chosen anew."""

from dataprune.scheduling.base import FULL, Decision, Scheduler
from dataprune.scheduling.budget import Budget
from dataprune.scheduling.cyclic import ConstantScheduler, CyclicScheduler
from dataprune.scheduling.plan import Plan

__all__ = ["FULL", "Budget", "ConstantScheduler", "CyclicScheduler", "Decision", "Plan", "Scheduler"]
