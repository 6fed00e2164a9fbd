"""The same pruner inside the training code of others: `dataprune.integrations.huggingface` for transformers' Trainer.

Nothing is imported here: each module needs its own library, which loads only when the module is imported.
"""
