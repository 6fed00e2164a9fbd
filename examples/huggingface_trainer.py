"""Prune inside Hugging Face's Trainer: PruningTrainer(..., pruner=pruner) instead of Trainer(...).

Here with a tiny BERT from scratch, so that nothing is downloaded. Run: python examples/huggingface_trainer.py
"""

import tempfile

import torch
from datasets import Dataset
from transformers import BertConfig, BertForSequenceClassification, TrainingArguments

from dataprune import EL2N, CyclicScheduler, DynamicPruner, PruningTrainer, TopK

# The label is the sign of the token: learned at once for most, and some tokens are rare.
rows = {"input_ids": [[2, 5 + (i * i) % 40, 3] for i in range(400)]}
rows["labels"] = [int(ids[1] > 20) for ids in rows["input_ids"]]
dataset = Dataset.from_dict(rows)

torch.manual_seed(0)
sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
model = BertForSequenceClassification(BertConfig(vocab_size=50, **sizes))

pruner = DynamicPruner(EL2N(), TopK(), CyclicScheduler(keep_fraction=0.3, n_warmup_epochs=1))
with tempfile.TemporaryDirectory() as folder:
    args = TrainingArguments(
        folder,
        num_train_epochs=4,
        learning_rate=1e-2,
        eval_strategy="epoch",
        save_strategy="epoch",
        disable_tqdm=True,
        report_to="none",
        use_cpu=True,
    )
    trainer = PruningTrainer(model=model, args=args, train_dataset=dataset, eval_dataset=dataset, pruner=pruner)
    trainer.train()
print(pruner.plan_)
print(pruner.history_)
