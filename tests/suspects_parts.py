"""What the tests of suspects share: an encoder that can learn the built-in data, and reviews as people edit them."""

import csv

import torch
from transformers import BertConfig, BertModel

from dataprune.runs.demo import make_tokenizer

SETTINGS = {"n_epochs": 8, "learning_rate": 5e-3, "batch_size": 32}


def save_encoder(folder, sentences, *, n_positions=64):
    """Save a random encoder of one layer whose tokenizer knows the words."""
    tokenizer = make_tokenizer(sentences)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=n_positions,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        BertModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def read_csv(path):
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def write_csv(path, rows, *, delimiter=",", encoding="utf-8-sig"):
    with path.open("w", encoding=encoding, newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)
