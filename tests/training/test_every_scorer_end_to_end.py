"""Every public scorer chooses what a model is trained on, on real images and real texts: a new one is tried at once."""

import inspect
import os

import numpy as np
import pytest
import torch
from datasets import Dataset
from sklearn.datasets import load_digits
from torch import nn
from transformers import BertForSequenceClassification, GPT2Config, GPT2LMHeadModel

import dataprune
from dataprune import (
    ClassificationTask,
    ConstantScheduler,
    CyclicScheduler,
    DynamicPruner,
    JointNLUTask,
    StaticPruner,
    TopK,
    build_model,
    load_data,
)
from dataprune.data.forward import default_forward

CLASSES = sorted(
    (
        cls
        for name in dataprune.__all__
        if inspect.isclass(cls := getattr(dataprune, name))
        and issubclass(cls, dataprune.Scorer)
        and not inspect.isabstract(cls)
    ),
    key=lambda cls: cls.__name__,
)
TEXT_ALONE = {"NearDuplicate", "Perplexity", "TfidfDistance"}  # look at words: images have none
N_DIGITS, N_TEXTS, KEEP = 400, 200, 0.5


def seeded(make):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return make()


def two_heads(model, batch):
    """A class as two labels of an example: the digit, and whether it is even."""
    signals = default_forward(model, batch)
    logits, labels = signals["logits"], signals["labels"]
    pairs = logits.view(len(logits), -1, 2).logsumexp(1) if logits.shape[1] % 2 == 0 else logits[:, :2]
    return {
        **signals,
        "intent_logits": logits,
        "intent_labels": labels,
        "slot_logits": pairs.unsqueeze(1),
        "slot_labels": (labels % 2).unsqueeze(1),
    }


def arguments(cls, n_rows):
    """What the constructors of some classes need."""
    return {
        "ReducibleLoss": {"irreducible_loss": np.zeros(n_rows)},
        "ColumnScore": {"column": "difficulty"},
        "FunctionScore": {"function": lambda rows: rows["difficulty"]},
        "Combined": {"scorers": [("difficulty", dataprune.ColumnScore("difficulty"))]},
        "PrototypeDistance": {"n_prototypes": 5},
    }.get(cls.__name__, {})


def prune_and_train(scorer, dataset, model, *, forward=default_forward, collate_fn=None):
    """Train on a warm-up epoch over everything and three over half; check what was kept, and that the model learned."""
    needs_a_pass = isinstance(scorer, (dataprune.GraNd, dataprune.LastLayerGraNd))
    pruner = DynamicPruner(
        scorer,
        TopK(),
        CyclicScheduler(keep_fraction=KEEP, n_warmup_epochs=1),
        refresh="full" if needs_a_pass else "observed",
    )

    def loss():
        passed = dataprune.Loss().fit(dataset, model=model, forward=forward, collate_fn=collate_fn)
        return passed.scores_.mean()

    before = loss()
    pruner.fit(
        dataset, model=model, n_epochs=4, batch_size=16, learning_rate=1e-2, forward=forward, collate_fn=collate_fn
    )
    assert [record.n_kept for record in pruner.history_] == [len(dataset)] + 3 * [len(dataset) // 2]
    scores = pruner.scorer_.scores_
    assert np.isfinite(scores).all()
    assert len(np.unique(scores)) > 1
    assert loss() < 0.5 * before


def checked_static(scorer, dataset):
    """A scorer that is fitted already keeps the half that it scores highest, before any training."""
    static = StaticPruner(scorer, TopK(keep_fraction=KEEP)).fit(dataset)
    assert len(static.indices_) == len(dataset) // 2
    rest = np.setdiff1d(np.arange(len(dataset)), static.indices_)
    assert scorer.scores_[static.indices_].min() >= scorer.scores_[rest].max()


@pytest.mark.parametrize(
    "cls", [cls for cls in CLASSES if cls.__name__ not in TEXT_ALONE], ids=lambda cls: cls.__name__
)
def test_every_scorer_prunes_images_of_digits(cls):
    images, digits = load_digits(return_X_y=True)
    x = torch.tensor(images[:N_DIGITS] / 16, dtype=torch.float32)
    y = torch.from_numpy(digits[:N_DIGITS])
    n_outputs, name = 10, cls.__name__
    if name == "MultiLabelEL2N":
        y = nn.functional.one_hot(y, 10).float()
    elif name == "RegressionError":
        y, n_outputs = (y.float() - 4.5) / 3, 1
    rows = list(zip(x, y, strict=True))

    def network():
        return nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, n_outputs))

    model, scorer = seeded(network), cls(**arguments(cls, N_DIGITS))
    if name in {"ColumnScore", "FunctionScore", "Combined"}:
        scorer.fit(Dataset.from_dict({"difficulty": x.std(1).tolist()}))  # the images' contrast
    elif name == "PrototypeDistance":
        scorer.fit(list(x.numpy()))
    elif name in {"PVI", "VarianceOfGradients"}:
        trained = [seeded(network) for _ in range(2)]
        for n_epochs, checkpoint in enumerate(trained, start=1):
            DynamicPruner(None, dataprune.RandomK(), ConstantScheduler(keep_fraction=1.0)).fit(
                rows, model=checkpoint, n_epochs=n_epochs, learning_rate=1e-2
            )
        scorer.fit(rows, model=trained if name == "VarianceOfGradients" else trained[-1])
    if hasattr(scorer, "scores_"):
        checked_static(scorer, rows)
    if name == "VarianceOfGradients":  # its scores need checkpoints of a finished run: static alone
        return
    prune_and_train(scorer, rows, model, forward=two_heads if name == "JointEL2N" else default_forward)


@pytest.fixture(scope="module")
def real_data():
    folder = os.environ.get("DATAPRUNE_DATA")
    if folder is None:
        pytest.skip("DATAPRUNE_DATA is not set: it names the folder of the real data sets")
    return folder


def encoded_part(real_data, task, tokenizer):
    rows = load_data(f"{real_data}/atis").splits["train"]
    chosen = np.random.default_rng(0).permutation(len(rows))
    rows = rows.select(chosen[:N_TEXTS])
    rows = rows.add_column("text", [" ".join(tokens) for tokens in rows["tokens"]])
    rows = rows.add_column("label", rows["intent"][:]).add_column("difficulty", list(range(N_TEXTS)))
    task.fit(rows)
    return rows, task.encode(rows, tokenizer)


@pytest.mark.slow
@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_every_scorer_prunes_real_texts(cls, real_data, tiny_encoder_dir, tokenizer):
    name = cls.__name__
    joint = name == "JointEL2N"
    task = (JointNLUTask if joint else ClassificationTask)(max_length_tokens=64)
    rows, encoded = encoded_part(real_data, task, tokenizer)
    collate = task.collator(tokenizer)
    known = {"collate_fn": collate}
    model, scorer = seeded(lambda: build_model(task, str(tiny_encoder_dir))), cls(**arguments(cls, N_TEXTS))
    if name in {"ColumnScore", "FunctionScore", "Combined", "NearDuplicate", "TfidfDistance"}:
        scorer.fit(rows)
    elif name == "PrototypeDistance":
        scorer.set_params(column="text").fit(rows, model=model.base_model, tokenizer=tokenizer, max_length_tokens=64)
    elif name == "Perplexity":
        sizes = {"n_embd": 16, "n_layer": 1, "n_head": 2, "bos_token_id": 2, "eos_token_id": 3}
        config = GPT2Config(vocab_size=len(tokenizer), **sizes)
        scorer.fit(rows, model=seeded(lambda: GPT2LMHeadModel(config)), tokenizer=tokenizer)
    elif name in {"PVI", "VarianceOfGradients"}:
        models = [model, seeded(lambda: BertForSequenceClassification(model.config))]
        scorer.fit(encoded, model=models if name == "VarianceOfGradients" else model, **known)
    elif name in {"MultiLabelEL2N", "RegressionError"}:
        n_classes = model.config.num_labels
        labels = np.array(encoded["labels"])
        targets = np.eye(n_classes, dtype=np.float32)[labels] if name == "MultiLabelEL2N" else labels / n_classes
        encoded = encoded.remove_columns("labels").add_column("labels", targets.tolist())
        n_outputs, problem = (n_classes, "multi_label") if name == "MultiLabelEL2N" else (1, "regression")
        config = model.config.__class__.from_dict({**model.config.to_dict()})
        config.num_labels = n_outputs
        config.problem_type = f"{problem}_classification" if name == "MultiLabelEL2N" else problem
        model = seeded(lambda: BertForSequenceClassification(config))

        def collate_floats(examples, pad=collate):
            batch = pad([{**example, "labels": 0} for example in examples])
            return {**batch, "labels": torch.tensor([example["labels"] for example in examples])}

        collate = collate_floats
    if hasattr(scorer, "scores_"):
        checked_static(scorer, rows)
    if name == "VarianceOfGradients":  # its scores need checkpoints of a finished run: static alone
        return
    prune_and_train(scorer, encoded, model, collate_fn=collate)
