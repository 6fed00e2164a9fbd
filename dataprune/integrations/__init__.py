"""The same pruner inside the training code of others: transformers' Trainer, Accelerate and Lightning.

Nothing is imported here: each module needs its own library, which loads only when the module is imported.
"""
