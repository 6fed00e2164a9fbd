"""Parts that many tests share: a tiny encoder with a real tokenizer, and tiny data sets. All are built on the fly."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from datasets import Dataset
from hypothesis import settings
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import BertConfig, BertModel, GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

settings.register_profile(
    "dataprune", deadline=None
)  # how long an example takes says more of the machine than of the code
settings.load_profile("dataprune")
torch.set_num_threads(1)  # spinning threads of neighbours on the same cores slow torch down many times

CITIES = ["boston", "dallas", "denver", "new york", "san francisco"]


def joint_rows() -> dict[str, list]:
    """30 rows of 3 intents and 5 tags; the words of a city are one span."""
    rows = {"tokens": [], "intent": [], "slots": []}
    templates = [("flight", "fly to {city} on {day}"), ("fare", "how much is {city}"), ("greet", "hello there")]
    for i in range(30):
        intent, template = templates[i % 3]
        city, day = CITIES[i % 5].split(), ["monday", "friday"][i % 2]
        tokens, slots = [], []
        for word in template.split():
            if word == "{city}":
                tokens += city
                slots += ["B-city", "I-city"][: len(city)]
            else:
                tokens.append(day if word == "{day}" else word)
                slots.append("B-day" if word == "{day}" else "O")
        rows["tokens"].append(tokens)
        rows["intent"].append(intent)
        rows["slots"].append(slots)
    return rows


@pytest.fixture
def joint_dataset() -> Dataset:
    """30 rows: tokens, intent (3 names), slots (B-city, I-city, B-day, O)."""
    return Dataset.from_dict(joint_rows())


@pytest.fixture
def text_dataset() -> Dataset:
    """30 rows: text, label (3 names)."""
    rows = joint_rows()
    return Dataset.from_dict({"text": [" ".join(tokens) for tokens in rows["tokens"]], "label": rows["intent"]})


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    """A lower-casing WordPiece tokenizer that knows the common words whole and cuts the others."""
    backend = Tokenizer(models.WordPiece(unk_token="[UNK]"))  # noqa: S106 - not a password
    backend.normalizer = normalizers.BertNormalizer()
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    words = [word for tokens in joint_rows()["tokens"] for word in tokens if word not in {"dallas", "francisco"}]
    alphabet = list("abcdefghijklmnopqrstuvwxyz0123456789.,'")
    trainer = trainers.WordPieceTrainer(
        vocab_size=200, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    backend.train_from_iterator([" ".join(words)], trainer)
    backend.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    names = ["pad_token", "unk_token", "cls_token", "sep_token", "mask_token"]
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        model_max_length=64,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
        **dict(zip(names, special, strict=True)),
    )


@pytest.fixture(scope="session")
def tiny_config(tokenizer: PreTrainedTokenizerFast) -> BertConfig:
    """A BERT of 2 layers and 16 dimensions."""
    return BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=64,
        pad_token_id=tokenizer.pad_token_id,
    )


@pytest.fixture(scope="session")
def tiny_encoder_dir(
    tmp_path_factory: pytest.TempPathFactory, tiny_config: BertConfig, tokenizer: PreTrainedTokenizerFast
) -> Path:
    """A folder with a random encoder and its tokenizer, as `save_pretrained` leaves it. Do not write into it."""
    folder = tmp_path_factory.mktemp("tiny_encoder")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        BertModel(tiny_config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_language_model_dir(tmp_path_factory: pytest.TempPathFactory, tokenizer: PreTrainedTokenizerFast) -> Path:
    """A folder with a random causal language model and its tokenizer. Do not write into it."""
    folder = tmp_path_factory.mktemp("tiny_language_model")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        sizes = {"n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 64}
        GPT2LMHeadModel(GPT2Config(vocab_size=len(tokenizer), **sizes)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
