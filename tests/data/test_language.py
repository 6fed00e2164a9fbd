"""Texts for language models: what is read, which tokens count, what is measured, and what is refused."""

import math

import pytest
import torch
from datasets import Dataset
from decoder_parts import TEMPLATE, byte_level_tokenizer, save_decoder

from dataprune.data.chat import render_chat
from dataprune.data.forward import default_forward
from dataprune.data.language import CausalLMTask
from dataprune.data.loading import load_data
from dataprune.data.roles import find_columns
from dataprune.data.tasks import guess_task, load_task
from dataprune.errors import DataError, InvalidTypeError, InvalidValueError
from dataprune.models import build_model, load_tokenizer
from dataprune.training.evaluation import evaluate

TURNS = [
    {"role": "user", "content": "What is 1 plus 2?"},
    {"role": "assistant", "content": "It is 3."},
    {"role": "user", "content": "and 2 plus 2?"},
    {"role": "assistant", "content": "It is 4."},
]
PAIR = {"prompt": "prompt", "response": "response"}


@pytest.fixture(scope="module")
def plain():
    return byte_level_tokenizer()


@pytest.fixture(scope="module")
def chatty():
    return byte_level_tokenizer(TEMPLATE)


def encode(rows, tokenizer, **settings):
    rows = Dataset.from_list(rows)
    task = CausalLMTask(columns=find_columns(rows), **settings).fit(rows)
    return task, task.encode(rows, tokenizer)


def counted_text(row, tokenizer):
    """What the labels that count say, with a bar at each gap."""
    said, gap = "", False
    for token, label in zip(row["input_ids"], row["labels"], strict=True):
        assert label in {-100, token}
        said += ("|" if gap and said else "") + tokenizer.decode([token]) if label != -100 else ""
        gap = label == -100
    return said


def test_every_token_of_a_text_counts_and_it_ends_with_the_end_token(plain):
    _, encoded = encode([{"text": "What is 1 plus 2?"}], plain)
    assert encoded[0]["labels"] == encoded[0]["input_ids"]
    assert plain.decode(encoded[0]["input_ids"]) == "What is 1 plus 2?<|end|>"
    assert encoded[0]["length"] == len(encoded[0]["input_ids"])


def test_of_a_prompt_with_a_response_the_response_counts(plain):
    task, encoded = encode([{"instruction": "Add.", "input": "1, 2", "output": "It is 3."}], plain)
    assert task.read_roles == ("prompt", "response", "context")
    assert plain.decode(encoded[0]["input_ids"]) == "Add.\n\n1, 2\nIt is 3.<|end|>"
    assert counted_text(encoded[0], plain) == "It is 3.<|end|>"


def test_of_a_conversation_each_answer_counts_up_to_its_end_token(chatty, plain):
    _, encoded = encode([{"messages": TURNS}], chatty)
    whole = chatty.apply_chat_template(TURNS, tokenize=False)
    assert chatty.decode(encoded[0]["input_ids"]) == whole
    assert counted_text(encoded[0], chatty) == "It is 3.<|im_end|>|It is 4.<|im_end|>"
    _, encoded = encode([{"messages": TURNS[:2]}], plain)
    assert counted_text(encoded[0], plain).strip() == "It is 3.<|end|>"


def test_a_prompt_with_a_response_is_a_conversation_where_there_is_a_template(chatty):
    _, pair = encode([{"prompt": TURNS[0]["content"], "response": TURNS[1]["content"]}], chatty)
    _, turns = encode([{"messages": TURNS[:2]}], chatty)
    assert pair[0] == turns[0]


def test_the_first_token_is_the_tokenizers_own_where_it_writes_one(tokenizer):
    _, encoded = encode([{"text": "fly to boston"}], tokenizer)  # a tokenizer without an end token
    assert encoded[0]["input_ids"] == tokenizer("fly to boston")["input_ids"]


def test_a_cut_row_and_a_row_without_an_answer_are_told(plain):
    rows = [{"prompt": "What is 1 plus 2? " * 9, "response": "It is 3."}, {"prompt": "1?", "response": "It is 1."}]
    task, encoded = encode(rows, plain, max_length_tokens=20)
    assert encoded["length"][:] == [20, len(encoded[1]["input_ids"])]
    assert (task.n_cut_rows_, task.n_rows_without_answer_) == (1, 1)
    assert "Rows without an answer: 1, as no token of it is left within 20" in task.cut_report()[1]


@pytest.mark.parametrize(
    ("row", "roles", "task"),
    [
        ({"messages": TURNS}, {"messages"}, "causal-lm"),
        ({"conversations": TURNS}, {"messages"}, "causal-lm"),
        ({"prompt": "a", "completion": "b"}, {"prompt", "response"}, "causal-lm"),
        ({"question": "a", "answer": "b"}, {"prompt", "response"}, "causal-lm"),
        ({"instruction": "a", "input": "", "output": "b"}, {"prompt", "response", "context"}, "causal-lm"),
        ({"question": "a", "answer": "b", "label": 1}, {"text", "label"}, "classification"),
    ],
)
def test_columns_and_task_are_guessed(row, roles, task):
    columns = find_columns(Dataset.from_list([row]))
    assert set(columns) == roles
    assert guess_task(columns) == task


def test_a_column_that_is_named_goes_before_those_that_are_guessed():
    rows = Dataset.from_list([{"text": "a", "messages": TURNS, "q": "b", "answer": "c"}])
    assert CausalLMTask(columns=find_columns(rows, {"text": "text"})).read_roles == ("text",)
    assert CausalLMTask(columns=find_columns(rows, {"prompt": "q"})).read_roles == ("prompt", "response")
    assert CausalLMTask(columns=find_columns(rows)).read_roles == ("messages",)


def test_texts_alone_are_of_no_task_until_one_is_named():
    with pytest.raises(DataError, match="Texts alone are for --task causal-lm"):
        guess_task(find_columns(Dataset.from_dict({"text": ["a"]})))


def test_where_no_task_fits_the_columns_of_the_data_are_named():
    with pytest.raises(DataError, match=r"got 'text'; the columns are 'utt', 'cls'\. Name yours"):
        guess_task({"text": "utt"}, names=["utt", "cls", "source_row"])
    with pytest.raises(DataError, match=r"got none of these; the columns are 'a'\. Name yours"):
        guess_task({}, names=["a"])


def test_metrics_are_those_of_the_mean_surprise_per_token(plain, tmp_path):
    rows = [{"prompt": f"What is {i} plus 1?", "response": f"It is {i + 1}." * (1 + i % 3)} for i in range(7)]
    task, encoded = encode(rows, plain, max_length_tokens=64)
    model = build_model(task, save_decoder(tmp_path, plain))
    found = evaluate(encoded, model, metrics=task.metrics, collate_fn=task.collator(plain), batch_size=3)
    surprise, right = [], []
    for row in encoded:
        logits = model(input_ids=torch.tensor([row["input_ids"]])).logits[0, :-1].detach().log_softmax(-1)
        for position, label in enumerate(row["labels"][1:]):
            if label != -100:
                surprise.append(-float(logits[position, label]))
                right.append(int(logits[position].argmax()) == label)
    mean = sum(surprise) / len(surprise)
    assert list(found) == ["inverse_perplexity", "token_accuracy", "perplexity"]
    assert found["perplexity"] == pytest.approx(math.exp(mean), rel=1e-5)
    assert found["inverse_perplexity"] == pytest.approx(math.exp(-mean), rel=1e-5)
    assert found["token_accuracy"] == pytest.approx(sum(right) / len(right))


def test_a_split_of_which_no_token_counts_cannot_be_measured():
    batch = {"logits": torch.zeros(1, 2, 3), "labels": torch.full((1, 2), -100), "loss": torch.zeros(1)}
    with pytest.raises(InvalidValueError, match="at least one token that counts"):
        CausalLMTask().metrics([batch])


def test_padding_needs_no_token_and_changes_no_loss(plain, tmp_path):
    task, encoded = encode(
        [{"prompt": "1?", "response": "It is 1."}, {"prompt": "2?", "response": "It is 2." * 3}],
        plain,
        max_length_tokens=64,
    )
    model = build_model(task, save_decoder(tmp_path, plain))
    assert plain.pad_token is None
    collate = task.collator(plain)
    both = default_forward(model, collate([encoded[0], encoded[1]]))["loss"]
    alone = torch.cat([default_forward(model, collate([row]))["loss"] for row in encoded])
    torch.testing.assert_close(both, alone)


def test_a_task_survives_json(plain):
    task, _ = encode([{"prompt": "1?", "response": "1"}], plain, max_length_tokens=20)
    again = load_task(task.to_dict())
    assert repr(again) == repr(task)
    assert again.cut_report() == []
    rows = Dataset.from_list([{"prompt": "1?", "response": "1"}])
    assert again.encode(rows, plain)[0] == task.encode(rows, plain)[0]


def test_a_byte_level_tokenizer_stays_as_its_model_learned_it(chatty, tmp_path):
    chatty.save_pretrained(tmp_path)
    text = "<|im_start|>user"
    as_saved = load_tokenizer(tmp_path, add_prefix_space=CausalLMTask.add_prefix_space)
    assert as_saved.tokenize(text) == chatty.tokenize(text)
    assert load_tokenizer(tmp_path).tokenize(text) != chatty.tokenize(text)


def test_texts_of_every_kind_of_row_can_be_embedded():
    for row, text in [
        ({"text": "a"}, "a"),
        ({"prompt": "a", "response": "b"}, "a\nb"),
        ({"messages": TURNS[:2]}, "What is 1 plus 2?\nIt is 3."),
    ]:
        rows = Dataset.from_list([row])
        assert CausalLMTask(columns=find_columns(rows)).texts(rows) == [text]


@pytest.mark.parametrize(
    ("messages", "sentence"),
    [
        ([{"role": "user", "content": "a"}], "must have a turn of the role 'assistant' in each row, got none in row 0"),
        ([{"role": "assistant", "content": None}], "must hold lists of turns with the texts 'role' and 'content'"),
    ],
)
def test_a_conversation_that_teaches_nothing_is_refused(messages, sentence):
    rows = Dataset.from_list([{"messages": messages}])
    with pytest.raises(DataError, match=sentence):
        CausalLMTask(columns={"messages": "messages"}).fit(rows)


def test_a_template_that_rewrites_earlier_turns_or_refuses_them_is_refused(chatty):
    shortened = byte_level_tokenizer(
        "{% for m in messages %}{{ m['role'] }}: {{ m['content'] if loop.last else '-' }}\n{% endfor %}"
    )
    with pytest.raises(DataError, match=r"writes the answer 'It is 3.' in another way where more turns follow"):
        render_chat(TURNS, shortened)
    strict = byte_level_tokenizer("{{ raise_exception('No system turns') }}")
    with pytest.raises(DataError, match=r"begins with 'What is 1 plus 2\?': No system turns"):
        render_chat(TURNS, strict)


def test_a_model_of_another_kind_is_refused(tiny_encoder_dir, plain, tmp_path):
    task, _ = encode([{"text": "a"}], plain)
    with pytest.raises(InvalidTypeError, match=r"must be a causal language model .* got an encoder of type 'bert'"):
        build_model(task, tiny_encoder_dir)
    long = CausalLMTask(max_length_tokens=65).fit(Dataset.from_dict({"text": ["a"]}))
    with pytest.raises(InvalidValueError, match="max_length_tokens must be at most 64"):
        build_model(long, save_decoder(tmp_path, plain))


def test_files_of_conversations_are_loaded(tmp_path):
    Dataset.from_list([{"messages": TURNS}] * 20).to_json(tmp_path / "train.jsonl")
    data = load_data(tmp_path)
    assert data.columns == {"messages": "messages"}
    assert data.splits.num_rows == {"train": 18, "valid": 2}
