from __future__ import annotations

import json
import shutil

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    AutoModel,
    AutoTokenizer,
    BartConfig,
    BertModel,
    DistilBertConfig,
    DistilBertModel,
    GPT2Config,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaModel,
    ViTConfig,
)
from transformers.utils import logging

from dataprune.data.forward import default_forward
from dataprune.data.tasks import ClassificationTask, JointNLUTask, Task
from dataprune.errors import InvalidTypeError, InvalidValueError, NotFittedError
from dataprune.models import JointIntentSlotConfig, JointIntentSlotModel, build_model, load_tokenizer


@pytest.fixture
def joint_task(joint_dataset):
    return JointNLUTask(max_length_tokens=32).fit(joint_dataset)


@pytest.fixture
def joint_batch(joint_task, joint_dataset, tokenizer):
    encoded = joint_task.encode(joint_dataset, tokenizer)
    return joint_task.collator(tokenizer)([encoded[i] for i in range(8)])


def byte_level_tokenizer(split_digits=False):
    """What RoBERTa's tokenizer is: byte-level BPE that tells a word's start by the space before it."""
    backend = Tokenizer(models.BPE())
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.pre_tokenizer = (
        pre_tokenizers.Sequence([pre_tokenizers.Digits(), byte_level]) if split_digits else byte_level
    )
    backend.decoder = decoders.ByteLevel()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator([" fly to dallas on monday"] * 9, trainer)
    backend.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    names = ["cls_token", "pad_token", "sep_token", "unk_token", "mask_token"]
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        model_max_length=32,
        model_input_names=["input_ids", "attention_mask"],
        **dict(zip(names, special, strict=True)),
    )


@pytest.fixture(params=["generic", "generic, in a sequence", "RobertaTokenizer"])
def roberta_dir(request, tmp_path):
    tokenizer = byte_level_tokenizer(split_digits="sequence" in request.param)
    tokenizer.save_pretrained(tmp_path)
    if request.param == "RobertaTokenizer":
        path = tmp_path / "tokenizer_config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "tokenizer_class": request.param}))
    config = RobertaConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=40,
        pad_token_id=1,
    )
    RobertaModel(config).save_pretrained(tmp_path)
    return tmp_path


def test_the_encoders_weights_are_loaded_and_no_pooler_is_made(joint_task, tiny_encoder_dir):
    model = build_model(joint_task, tiny_encoder_dir)
    assert isinstance(model, JointIntentSlotModel)
    original = BertModel.from_pretrained(tiny_encoder_dir, add_pooling_layer=False).state_dict()
    loaded = model.encoder.state_dict()
    assert set(loaded) == set(original)
    assert all(torch.equal(loaded[name], original[name]) for name in original)
    assert not any("pooler" in name for name, _ in model.named_parameters())
    assert not model.training
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


def test_a_saved_half_precision_encoder_is_trained_in_float32(joint_task, text_dataset, tiny_encoder_dir, tmp_path):
    AutoModel.from_pretrained(tiny_encoder_dir, dtype=torch.bfloat16).save_pretrained(tmp_path)
    for task in (joint_task, ClassificationTask(max_length_tokens=32).fit(text_dataset)):
        model = build_model(task, tmp_path)
        assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


def test_the_same_seed_gives_the_same_heads(joint_task, tiny_encoder_dir):
    weights = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        weights.append(build_model(joint_task, tiny_encoder_dir).slot_head.weight)
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_a_saved_joint_model_loads_back_and_predicts_the_same(joint_task, joint_batch, tiny_encoder_dir, tmp_path):
    model = build_model(joint_task, tiny_encoder_dir)
    model.save_pretrained(tmp_path)
    again = JointIntentSlotModel.from_pretrained(tmp_path)
    with torch.inference_mode():
        first, second = model(**joint_batch), again(**joint_batch)
    assert torch.equal(first.intent_logits, second.intent_logits)
    assert torch.equal(first.slot_logits, second.slot_logits)
    assert again.config.intent_labels == joint_task.labels_["intent"]
    assert again.config.slot_labels == joint_task.labels_["slot"]
    assert again.config.dropout == model.config.dropout == 0.1
    assert not list(tmp_path.glob("*.bin"))  # safetensors only


def test_the_loss_is_the_mean_of_the_examples_losses(joint_task, joint_batch, tiny_encoder_dir):
    model = build_model(joint_task, tiny_encoder_dir)
    with torch.inference_mode():
        output = model(**joint_batch)
        signals = default_forward(model, joint_batch)
    assert signals["loss"].shape == (8,)
    assert torch.equal(output.loss, signals["loss"].mean())
    assert torch.equal(output.slot_logits, signals["slot_logits"])
    assert list(output) == ["loss", "intent_logits", "slot_logits"]  # Trainer reads the loss from the first place


def test_without_labels_there_is_no_loss(joint_task, joint_batch, tiny_encoder_dir):
    inputs = {name: value for name, value in joint_batch.items() if not name.endswith("labels")}
    output = build_model(joint_task, tiny_encoder_dir)(**inputs)
    assert output.loss is None
    assert output.intent_logits.shape == (8, 3)
    assert output.slot_logits.shape == (*joint_batch["slot_labels"].shape, 4)


def test_one_head_may_have_labels_alone(joint_task, joint_batch, tiny_encoder_dir):
    model = build_model(joint_task, tiny_encoder_dir)
    intent_only = {name: value for name, value in joint_batch.items() if name != "slot_labels"}
    expected = torch.nn.functional.cross_entropy(model(**intent_only).intent_logits, joint_batch["intent_labels"])
    assert model(**intent_only).loss.item() == pytest.approx(expected.item(), rel=1e-6)


def test_every_parameter_is_trained(joint_task, joint_batch, tiny_encoder_dir):
    model = build_model(joint_task, tiny_encoder_dir).train()
    model(**joint_batch).loss.backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []


def test_padding_does_not_change_the_logits(joint_task, joint_dataset, tokenizer, tiny_encoder_dir):
    model = build_model(joint_task, tiny_encoder_dir)
    encoded = joint_task.encode(joint_dataset, tokenizer)
    collate = joint_task.collator(tokenizer)
    together = collate([encoded[i] for i in range(6)])
    with torch.inference_mode():
        padded = model(**together)
        for i in range(6):
            alone = model(**collate([encoded[i]]))
            torch.testing.assert_close(padded.intent_logits[i : i + 1], alone.intent_logits)
            torch.testing.assert_close(padded.slot_logits[i : i + 1, : encoded[i]["length"]], alone.slot_logits)


def test_a_few_updates_learn_the_tiny_data_set(joint_task, joint_dataset, tokenizer, tiny_encoder_dir):
    torch.manual_seed(0)
    model = build_model(joint_task, tiny_encoder_dir)
    encoded = joint_task.encode(joint_dataset, tokenizer)
    batch = joint_task.collator(tokenizer)([encoded[i] for i in range(30)])
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.02)
    for _ in range(40):
        model(**batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    with torch.inference_mode():
        scores = joint_task.metrics([default_forward(model, batch)])
    assert scores["frame_accuracy"] > 0.9
    assert scores["span_f1"] > 0.9


def test_a_classifier_gets_the_names_of_its_classes(text_dataset, tokenizer, tiny_encoder_dir, tmp_path):
    task = ClassificationTask(max_length_tokens=32).fit(text_dataset)
    model = build_model(task, tiny_encoder_dir)
    assert model.config.id2label == {0: "fare", 1: "flight", 2: "greet"}
    assert model.config.label2id == {"fare": 0, "flight": 1, "greet": 2}
    encoded = task.encode(text_dataset, tokenizer)
    batch = task.collator(tokenizer)([encoded[i] for i in range(5)])
    model.save_pretrained(tmp_path)
    again = type(model).from_pretrained(tmp_path)
    with torch.inference_mode():
        signals = default_forward(model, batch)
        assert signals["logits"].shape == (5, 3)
        assert torch.equal(again(**batch).logits, signals["logits"])
        assert model(**batch).loss.item() == pytest.approx(signals["loss"].mean().item(), rel=1e-6)
    assert set(task.metrics([signals])) == {"accuracy", "macro_f1"}


def test_a_classifier_for_other_classes_gets_a_new_head(text_dataset, joint_dataset, tiny_encoder_dir, tmp_path):
    two = text_dataset.filter(lambda row: row["label"] != "greet")
    build_model(ClassificationTask(max_length_tokens=32).fit(two), tiny_encoder_dir).save_pretrained(tmp_path)
    model = build_model(ClassificationTask(max_length_tokens=32).fit(text_dataset), tmp_path)
    assert model.config.num_labels == 3


def test_an_encoder_without_pooler_and_segments_works_too(joint_task, joint_dataset, tokenizer, tmp_path):
    config = DistilBertConfig(vocab_size=len(tokenizer), dim=16, n_layers=1, n_heads=2, hidden_dim=16)
    DistilBertModel(config).save_pretrained(tmp_path / "encoder")
    encoded = joint_task.encode(joint_dataset, tokenizer).remove_columns("token_type_ids")
    batch = joint_task.collator(tokenizer)([encoded[0], encoded[2]])
    model = build_model(joint_task, tmp_path / "encoder")
    model.save_pretrained(tmp_path / "joint")
    again = JointIntentSlotModel.from_pretrained(tmp_path / "joint")
    assert torch.equal(model(**batch).slot_logits, again(**batch).slot_logits)


def test_byte_level_tokenizers_see_whole_words(roberta_dir, tmp_path_factory):
    tokenizer = load_tokenizer(roberta_dir)
    folder = tmp_path_factory.mktemp("saved")
    tokenizer.save_pretrained(folder)
    for loaded in (tokenizer, load_tokenizer(folder), AutoTokenizer.from_pretrained(folder)):
        tokens = loaded(["fly", "to", "dallas"], is_split_into_words=True).tokens()
        assert tokens == ["<s>", "Ġfly", "Ġto", "Ġdallas", "</s>"]


def test_a_roberta_goes_through_the_joint_task(roberta_dir, joint_task, joint_dataset):
    tokenizer = load_tokenizer(roberta_dir)
    encoded = joint_task.encode(joint_dataset, tokenizer)
    words = [[label for label in labels if label != -100] for labels in encoded["slot_labels"]]
    names = joint_task.labels_["slot"]
    assert [[names[i] for i in row] for row in words] == joint_dataset["slots"][:]
    batch = joint_task.collator(tokenizer)([encoded[i] for i in range(4)])
    assert "token_type_ids" not in batch
    output = build_model(joint_task, roberta_dir)(**batch)
    assert output.loss.isfinite()


def test_other_tokenizers_are_loaded_as_they_are(tiny_encoder_dir, tokenizer):
    words = ["fly", "to", "dallas"]
    loaded = load_tokenizer(tiny_encoder_dir)
    assert loaded(words, is_split_into_words=True) == tokenizer(words, is_split_into_words=True)


def test_a_tokenizer_is_found_beside_a_saved_joint_model(joint_task, tiny_encoder_dir, tmp_path):
    build_model(joint_task, tiny_encoder_dir).save_pretrained(tmp_path)
    load_tokenizer(tiny_encoder_dir).save_pretrained(tmp_path)
    assert load_tokenizer(tmp_path)(["fly"], is_split_into_words=True)["input_ids"]


def test_loading_is_silent_and_leaves_the_log_settings_alone(joint_task, text_dataset, tiny_encoder_dir, capfd):
    before = logging.get_verbosity(), logging.is_progress_bar_enabled()
    build_model(joint_task, tiny_encoder_dir)
    build_model(ClassificationTask(max_length_tokens=32).fit(text_dataset), tiny_encoder_dir)
    load_tokenizer(tiny_encoder_dir)
    assert capfd.readouterr() == ("", "")
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (BartConfig(), "must be a text encoder .* got a Seq2Seq model of type 'bart'"),
        (GPT2Config(), "got a decoder of type 'gpt2'"),
        (RobertaConfig(is_decoder=True), "got a decoder of type 'roberta'"),
        (ViTConfig(), "got a model of type 'vit'"),
    ],
)
def test_what_is_no_text_encoder_is_refused(config, message, joint_task, text_dataset, tmp_path):
    config.save_pretrained(tmp_path)
    for task in (joint_task, ClassificationTask().fit(text_dataset)):
        with pytest.raises(InvalidTypeError, match=message):
            build_model(task, tmp_path)


def test_a_missing_folder_is_one_clear_sentence(joint_task, tmp_path):
    for load in (load_tokenizer, lambda path: build_model(joint_task, path)):
        for path in (tmp_path / "none", str(tmp_path / "none"), "./none"):
            with pytest.raises(InvalidValueError, match=r"none' must be an existing folder or a hub name"):
                load(path)


def test_a_folder_without_a_model_is_one_clear_sentence(joint_task, tmp_path):
    for load in (load_tokenizer, lambda path: build_model(joint_task, path)):
        with pytest.raises(InvalidValueError, match=r"could not be loaded: .* Pass a folder saved") as error:
            load(tmp_path)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_damaged_files_are_one_clear_sentence(name, joint_task, text_dataset, tiny_encoder_dir, tmp_path):
    folder = tmp_path / "damaged"
    shutil.copytree(tiny_encoder_dir, folder)
    file = folder / name
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    for task in (joint_task, ClassificationTask(max_length_tokens=32).fit(text_dataset)):
        with pytest.raises(InvalidValueError, match="could not be loaded"):
            build_model(task, folder)


def test_inputs_longer_than_the_model_takes_are_refused_before_training(joint_dataset, tiny_encoder_dir):
    task = JointNLUTask(max_length_tokens=65).fit(joint_dataset)
    with pytest.raises(InvalidValueError, match=r"max_length_tokens must be at most 64 for the model .* got 65"):
        build_model(task, tiny_encoder_dir)


def test_a_task_without_label_maps_has_no_model(tiny_encoder_dir):
    with pytest.raises(NotFittedError, match=r"JointNLUTask\.build_model needs label maps"):
        build_model(JointNLUTask(), tiny_encoder_dir)


def test_a_task_of_another_kind_has_no_model(tiny_encoder_dir, text_dataset):
    class Other(ClassificationTask):
        name = "other"

    task: Task = Other(max_length_tokens=32).fit(text_dataset)
    with pytest.raises(InvalidTypeError, match="knows no model for the task 'other'"):
        build_model(task, tiny_encoder_dir)


def test_a_joint_model_needs_an_encoders_configuration():
    with pytest.raises(InvalidValueError, match="must be an encoder's configuration, got None"):
        JointIntentSlotModel(JointIntentSlotConfig(intent_labels=["a"], slot_labels=["O"]))


def test_a_trained_joint_model_is_loaded_with_its_heads(joint_task, tiny_encoder_dir, tmp_path):
    model = build_model(joint_task, tiny_encoder_dir)
    model.save_pretrained(tmp_path)
    again = build_model(joint_task, tmp_path)
    assert all(torch.equal(old, new) for old, new in zip(model.parameters(), again.parameters(), strict=True))
    assert not again.training


def test_a_trained_joint_model_of_other_labels_gives_its_encoder_alone(joint_task, tiny_encoder_dir, tmp_path):
    model = build_model(joint_task, tiny_encoder_dir)
    with torch.no_grad():
        for parameter in model.encoder.parameters():
            parameter.add_(1.0)
    model.save_pretrained(tmp_path)
    joint_task.labels_["intent"] = [*joint_task.labels_["intent"], "another"]
    again = build_model(joint_task, tmp_path)
    assert again.intent_head.out_features == model.intent_head.out_features + 1
    assert again.config.intent_labels[-1] == "another"
    pairs = zip(model.encoder.parameters(), again.encoder.parameters(), strict=True)
    assert all(torch.equal(old, new) for old, new in pairs)
