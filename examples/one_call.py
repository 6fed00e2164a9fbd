"""Train a joint intent-and-slot model with pruning in one call, and see what was dropped.

The sentences are made up, and we know which of them are redundant. Run: python examples/one_call.py
"""

import torch
from transformers import BertConfig

from dataprune import (
    CyclicScheduler,
    DynamicPruner,
    JointEL2N,
    JointIntentSlotModel,
    JointNLUTask,
    TopK,
    make_joint_nlu,
)
from dataprune.models import JointIntentSlotConfig
from dataprune.runs.demo import make_tokenizer

data = make_joint_nlu(1000, redundant_fraction=0.6, noise_fraction=0.0, random_state=0)
test = make_joint_nlu(200, noise_fraction=0.0, random_state=1)
tokenizer = make_tokenizer(data.dataset["tokens"][:])

task = JointNLUTask().fit(data.dataset)
train, valid = task.encode(data.dataset, tokenizer), task.encode(test.dataset, tokenizer)

torch.manual_seed(0)
sizes = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128}
encoder = BertConfig(vocab_size=len(tokenizer), max_position_embeddings=64, **sizes)
labels = {"intent_labels": task.labels_["intent"], "slot_labels": task.labels_["slot"]}
model = JointIntentSlotModel(JointIntentSlotConfig(encoder, **labels))

pruner = DynamicPruner(JointEL2N(), TopK(), CyclicScheduler(keep_fraction=0.4, n_warmup_epochs=2))
pruner.fit(
    train,
    model=model,
    n_epochs=12,
    learning_rate=3e-3,
    collate_fn=task.collator(tokenizer),
    eval_dataset=valid,
    metrics=task.metrics,
)
print(pruner.history_)
n_pruned_epochs = 10
dropped = 1 - (pruner.n_epochs_trained_ - 2) / n_pruned_epochs
print(f"a pruned epoch left out {dropped[data.is_redundant].mean():.0%} of the redundant sentences,")
print(f"and {dropped[~data.is_redundant].mean():.0%} of the others")
