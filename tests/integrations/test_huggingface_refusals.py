import datasets
import huggingface_run as small
import pytest
import torch
import transformers
from transformers import T5Config, T5ForConditionalGeneration, TrainingArguments

from dataprune import Loss, SoftPrune, SoftPruneScheduler
from dataprune.errors import InvalidTypeError, InvalidValueError
from dataprune.integrations.huggingface import PruningTrainer


class Stream(torch.utils.data.IterableDataset):
    def __iter__(self):
        return iter(small.make_dataset())


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"num_train_epochs": 1.5}, r"args.num_train_epochs must be a whole number of at least 1, got 1.5."),
        ({"num_train_epochs": 0}, r"args.num_train_epochs must be a whole number of at least 1, got 0."),
        ({"train_sampling_strategy": "batch_rebalance"}, r"must be one of 'random', .* got 'batch_rebalance'."),
        ({"train_dataset": []}, r"train_dataset must have examples, got an empty data set."),
    ],
)
def test_arguments_that_pruning_cannot_follow_are_refused(tmp_path, changes, sentence):
    with pytest.raises(InvalidValueError, match=sentence):
        small.make_trainer(tmp_path, **changes)


def test_a_number_of_updates_is_refused_where_the_scores_say_how_many_an_epoch_makes(tmp_path):
    pruner = small.make_pruner(scorer=Loss(), selector=SoftPrune(), scheduler=SoftPruneScheduler())
    trainer = small.make_trainer(tmp_path, pruner=pruner, max_steps=10)
    with pytest.raises(
        InvalidValueError, match=r"needs a number of epochs, got .* 10. .* in place of .* \(max_steps\)"
    ):
        trainer.train()


def test_a_transformers_that_divides_accumulated_gradients_twice_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(transformers, "__version__", "5.5.4")
    with pytest.raises(ImportError, match=r"pip install 'transformers>=5.6'"):
        small.make_trainer(tmp_path)


def test_one_process_for_several_devices_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(TrainingArguments, "n_gpu", property(lambda self: 2))
    with pytest.raises(InvalidValueError, match=r"needs a process per device, got one for 2. Start it with torchrun"):
        small.make_trainer(tmp_path)


@pytest.mark.parametrize("make_stream", [Stream, lambda: small.make_dataset().to_iterable_dataset()])
def test_streams_are_refused(tmp_path, make_stream):
    with pytest.raises(InvalidTypeError, match="Pass a map-style data set"):
        small.make_trainer(tmp_path, train_dataset=make_stream())


def test_encoder_decoders_are_refused(tmp_path):
    seq2seq = T5ForConditionalGeneration(T5Config(vocab_size=8, d_model=8, d_ff=8, d_kv=4, num_layers=1, num_heads=1))
    with pytest.raises(InvalidTypeError, match=r"Seq2Seq model T5ForConditionalGeneration. .* or pass signals=..."):
        small.make_trainer(tmp_path, model=seq2seq)


def test_the_pruner_must_be_one(tmp_path):
    with pytest.raises(InvalidTypeError, match=r"PruningTrainer.pruner must be a DynamicPruner, got str."):
        small.make_trainer(tmp_path, pruner="EL2N")


def test_grouping_by_length_needs_lengths(tmp_path):
    rows = [{"input_ids": [1, 2], "labels": 0}, {"input_ids": [1, 3], "labels": 1}]
    trainer = small.make_trainer(tmp_path, train_dataset=rows, train_sampling_strategy="group_by_length")
    with pytest.raises(InvalidValueError, match="'input_ids' for train_sampling_strategy='group_by_length', got list"):
        trainer.train()


def test_an_epoch_without_a_batch_is_refused(tmp_path):
    trainer = small.make_trainer(tmp_path, dataloader_drop_last=True, per_device_train_batch_size=32)
    with pytest.raises(InvalidValueError, match="drops the only batch of an epoch that keeps 19 examples"):
        trainer.train()


def test_a_collator_must_make_mappings(tmp_path):
    trainer = small.make_trainer(tmp_path)
    trainer.data_collator = lambda examples: torch.zeros(len(examples))
    with pytest.raises(InvalidTypeError, match="must return a mapping of the model's arguments, got Tensor"):
        trainer.train()


def test_training_needs_a_train_set_and_evaluation_does_not(tmp_path):
    trainer = PruningTrainer(
        small.make_model(), small.make_args(tmp_path), pruner=small.make_pruner(), data_collator=small.pad
    )
    assert trainer.evaluate(small.make_dataset(5))["eval_loss"] > 0
    with pytest.raises(InvalidValueError, match="train_dataset must be given to train, got None"):
        trainer.train()


def test_batches_of_another_loader_are_refused(tmp_path):
    trainer = small.make_trainer(tmp_path)
    batch = small.pad(small.make_dataset(4).select_columns(["input_ids", "labels"]).to_list())
    trainer.model.train()
    with pytest.raises(InvalidValueError, match="needs '__index__' in each training batch"):
        trainer.compute_loss(trainer.model, batch)


def test_the_users_arguments_stay_as_they_are(tmp_path):
    args = small.make_args(tmp_path, save_total_limit=1)
    trainer = PruningTrainer(small.make_model(), args, pruner=small.make_pruner(), train_dataset=small.make_dataset())
    assert trainer.args.ignore_data_skip
    assert not args.ignore_data_skip
    assert args.save_total_limit == 1
    assert isinstance(trainer.train_dataset, datasets.Dataset)
