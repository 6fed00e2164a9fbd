"""PruningTrainer on a causal language model: whole, with LoRA adapters, and inside TRL's SFTTrainer."""

import copy

import numpy as np
import pytest
import torch
from datasets import Dataset
from huggingface_run import make_args
from peft import LoraConfig, TaskType, get_peft_model
from transformers import GPT2Config, GPT2LMHeadModel
from trl import SFTConfig, SFTTrainer

from dataprune import EL2N, CyclicScheduler, DynamicPruner, GraNd, Loss, PruningTrainer, SoftPrune, TopK
from dataprune.data.forward import signals_from_model
from dataprune.errors import InvalidValueError

N, VOCABULARY = 24, 40
SIZES = {"n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 48, "resid_pdrop": 0, "embd_pdrop": 0, "attn_pdrop": 0}


def make_model():
    torch.manual_seed(0)
    return GPT2LMHeadModel(GPT2Config(vocab_size=VOCABULARY, **SIZES))


def with_adapters(**config):
    return get_peft_model(make_model(), LoraConfig(r=2, target_modules=["c_attn"], fan_in_fan_out=True, **config))


def make_rows():
    """Prompts of 2 to 4 tokens that do not count, answers of 2 to 6 that do."""
    rows = []
    for i in range(N):
        prompt, answer = [2 + i % 7] * (2 + i % 3), [10 + (i * j) % 30 for j in range(1, 3 + i % 5)]
        rows.append({"input_ids": prompt + answer, "labels": [-100] * len(prompt) + answer})
    return rows


def pad(examples):
    width = max(len(example["input_ids"]) for example in examples)
    return {
        name: torch.tensor([example[name] + [filler] * (width - len(example[name])) for example in examples])
        for name, filler in (("input_ids", 0), ("labels", -100))
    }


def train(folder, model, scorer, *, trainer=PruningTrainer, refresh="observed", **changes):
    pruner = DynamicPruner(scorer, TopK(), CyclicScheduler(keep_fraction=0.5), refresh=refresh)
    run = trainer(
        model=model,
        args=make_args(folder, **{"num_train_epochs": 3, **changes}),
        train_dataset=Dataset.from_list(make_rows()),
        data_collator=pad,
        pruner=pruner,
    )
    run.train()
    return run


def answer_losses(model, rows=None):
    """The negative log likelihood of each answer, one example at a time."""
    losses = []
    for row in make_rows() if rows is None else rows:
        with torch.no_grad():
            logits = model.eval()(torch.tensor([row["input_ids"]])).logits[0].log_softmax(-1)
        answers = [(t, token) for t, token in enumerate(row["labels"]) if token != -100]
        losses.append(-sum(float(logits[t - 1, token]) for t, token in answers))
    return np.array(losses)


@pytest.mark.parametrize("make", [make_model, lambda: with_adapters(task_type=TaskType.CAUSAL_LM), with_adapters])
def test_the_score_is_that_of_the_answer_alone(tmp_path, make):
    model = make()
    expected = answer_losses(model)
    run = train(tmp_path, model, Loss(), learning_rate=0.0)
    np.testing.assert_allclose(run.pruner.scorer_.scores_, expected, rtol=1e-5)
    assert set(run.pruner.indices_) == set(np.argsort(-expected)[: N // 2])
    assert run.state.global_step == run.pruner.plan_.n_updates == 6 + 3 + 3


def test_training_with_adapters_alone_lowers_the_loss(tmp_path):
    model = with_adapters(task_type=TaskType.CAUSAL_LM)
    before, base = answer_losses(model), model.get_base_model().transformer.wte.weight.clone()
    train(tmp_path, model, EL2N(reduction="mean"), num_train_epochs=6, learning_rate=0.05)
    assert answer_losses(model).mean() < before.mean() - 0.1
    torch.testing.assert_close(model.get_base_model().transformer.wte.weight, base, rtol=0, atol=0)


def adapter_norms(model):
    """The norm of the gradient of each answer's loss over the adapters, one example at a time and without padding."""
    names, adapters = zip(*[(name, p) for name, p in model.named_parameters() if p.requires_grad], strict=True)
    assert names
    assert all("lora_" in name for name in names)
    norms = []
    for row in make_rows():
        logits = model.eval()(torch.tensor([row["input_ids"]])).logits[0].log_softmax(-1)
        answers = [(t, token) for t, token in enumerate(row["labels"]) if token != -100]
        loss = -sum(logits[t - 1, token] for t, token in answers)
        found = torch.autograd.grad(loss, adapters)
        norms.append(float(sum(gradient.double().square().sum() for gradient in found) ** 0.5))
    return np.array(norms)


@pytest.mark.parametrize("scorer", [GraNd(), GraNd(parameters=lambda name: "lora_" in name)], ids=["all", "named"])
def test_grand_of_the_adapters_alone(tmp_path, scorer):
    # Both factors are random: neither gradient is 0.
    model = with_adapters(task_type=TaskType.CAUSAL_LM, init_lora_weights=False)
    expected = adapter_norms(model)
    run = train(tmp_path, model, scorer, learning_rate=0.0, refresh="full")
    np.testing.assert_allclose(run.pruner.scorer_.scores_, expected, rtol=1e-5)
    assert set(run.pruner.indices_) == set(np.argsort(-expected)[: N // 2])


def test_the_losses_add_up_to_the_models_own():
    model = make_model()
    batch = pad(make_rows()[:4])
    outputs = model(**batch)
    losses = signals_from_model(model, outputs, batch)["loss"]
    counted = int((batch["labels"][:, 1:] != -100).sum())
    torch.testing.assert_close(losses.sum() / counted, outputs.loss)


class PruningSFT(PruningTrainer, SFTTrainer):
    """What the documentation tells users of TRL to write."""


def sft(folder, tokenizer, *, selector=None, **changes):
    torch.manual_seed(0)
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.eos_token = tokenizer.sep_token
    model = GPT2LMHeadModel(GPT2Config(vocab_size=len(tokenizer), bos_token_id=0, eos_token_id=0, **SIZES))
    args = {"num_train_epochs": 3, "per_device_train_batch_size": 4, "max_length": 48, "save_strategy": "no"}
    args |= {"report_to": "none", "disable_tqdm": True, "use_cpu": True, "logging_strategy": "no", "bf16": False}
    words = ["boston", "monday", "fly to", "taxi in", "new york"]
    rows = [{"prompt": f"{words[i % 5]} {words[i % 3]}", "completion": f" {words[i % 4]}"} for i in range(N)]

    def losses(outputs, batch):
        if "log_probs" in outputs:  # as the documentation tells users of TRL 1.16 to write
            return {"loss": -outputs.log_probs.sum(-1)}
        return signals_from_model(model, outputs, batch)  # earlier ones hold the logits and need no signals=...

    pruner = DynamicPruner(Loss(), TopK() if selector is None else selector, CyclicScheduler(keep_fraction=0.5))
    return PruningSFT(
        model=model,
        args=SFTConfig(str(folder), **(args | changes)),
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
        pruner=pruner,
        signals=losses,
    )


@pytest.mark.parametrize("selector", [TopK(), SoftPrune()])
def test_sft_trainer_is_pruned_by_inheriting_from_both(tmp_path, tokenizer, selector):
    run = sft(tmp_path, tokenizer, selector=selector)
    before = run.model.lm_head.weight.detach().clone()
    run.train()
    assert not torch.equal(run.model.lm_head.weight, before)
    assert [record.n_kept for record in run.pruner.history_] == [N, N // 2, N // 2]
    assert run.state.global_step == run.pruner.plan_.n_updates == 12
    assert np.isfinite(run.pruner.scorer_.scores_).all()


def completion_labels(row):
    """TRL of today has them in its data set, earlier ones a mask."""
    if "labels" in row:
        return row["labels"]
    return [token if m else -100 for token, m in zip(row["input_ids"], row["completion_mask"], strict=True)]


def test_sft_trainers_losses_are_those_of_the_completions(tmp_path, tokenizer):
    run = sft(tmp_path, tokenizer, learning_rate=0.0)
    rows = [{"input_ids": row["input_ids"], "labels": completion_labels(row)} for row in run.train_dataset]
    expected = answer_losses(run.model, rows)
    run.train()
    np.testing.assert_allclose(run.pruner.scorer_.scores_, expected, rtol=1e-5)


@pytest.mark.parametrize("option", ["packing", "padding_free"])
def test_rows_that_hold_several_examples_are_refused(tmp_path, tokenizer, option):
    with pytest.raises(InvalidValueError, match=rf"args\.{option} must be left out, got True"):
        sft(tmp_path, tokenizer, **{option: True})
