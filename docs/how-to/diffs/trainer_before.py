from datasets import Dataset
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments

sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
model = BertForSequenceClassification(BertConfig(vocab_size=40, **sizes))
train = Dataset.from_dict({"input_ids": [[2, 5 + i % 30, 3] for i in range(80)], "labels": [i % 2 for i in range(80)]})
quiet = {"save_strategy": "no", "report_to": "none", "disable_tqdm": True, "dataloader_pin_memory": False}
args = TrainingArguments("out", num_train_epochs=4, use_cpu=True, **quiet)

trainer = Trainer(
    model=model,
    args=args,
    train_dataset=train,
)
trainer.train()
