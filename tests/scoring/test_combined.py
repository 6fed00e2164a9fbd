"""Combined: the weighted mean of ranks."""

import numpy as np
import pytest
import torch
from dataset_scorer_laws import check_dataset_scorer
from sklearn.base import clone
from torch import nn
from transformers import BertConfig, BertModel, GPT2Config, GPT2LMHeadModel

from dataprune import EL2N, Loss
from dataprune.errors import DataPruneError, InvalidTypeError, InvalidValueError, NotFittedError
from dataprune.scoring.combined import Combined, rank_average, ranks_among
from dataprune.scoring.embedding import PrototypeDistance
from dataprune.scoring.gradient_variance import VarianceOfGradients
from dataprune.scoring.information import PVI
from dataprune.scoring.metadata import ColumnScore, FunctionScore
from dataprune.scoring.perplexity import Perplexity
from dataprune.scoring.text import TfidfDistance

WORDS = ["jazz", "rock", "pop", "jazz", "soul", "jazz"]
ROWS = [{"text": f"play {word}", "votes": i % 4} for i, word in enumerate(WORDS)]
POINTS = [(torch.tensor([float(i % 5), 1.0]), i % 2) for i in range(12)]


def first_value(rows):
    return [float(x[0]) for x, _ in rows]


def parts():
    return [("tfidf", TfidfDistance()), ("votes", ColumnScore("votes", negate=True))]


def test_the_contract_holds():
    check_dataset_scorer(Combined(parts()), ROWS)
    check_dataset_scorer(Combined(parts(), weights=[1, 0.5]), ROWS)
    check_dataset_scorer(Combined([("el2n", EL2N()), ("x", FunctionScore(first_value))]), POINTS, model=nn.Identity())


def test_the_score_is_the_weighted_mean_of_the_ranks():
    scorer = Combined(parts(), weights=(3, 1)).fit(ROWS)
    each = [part.fit(ROWS).scores_ for _, part in parts()]
    np.testing.assert_array_equal(scorer.scores_, rank_average(each, [3, 1]))
    ranks = [ranks_among(scores, scores) for scores in each]
    np.testing.assert_allclose(scorer.scores_, (3 * ranks[0] + ranks[1]) / 4, rtol=1e-6)
    assert list(scorer.scorers_) == ["tfidf", "votes"]
    np.testing.assert_array_equal(scorer.scorers_["votes"].scores_, each[1])


def test_a_scale_does_not_matter():
    small, large = [0.1, 0.2, 0.3], [3e9, 1e9, 2e9]
    assert rank_average([small, large]).tolist() == [0.5, 0.25, 0.75]
    assert rank_average([small]).tolist() == [0.0, 0.5, 1.0]
    assert rank_average([[-np.inf, 0.0, np.inf]]).tolist() == [0.0, 0.5, 1.0]


def test_an_example_that_a_score_has_not_seen_stays_unseen():
    found = rank_average([[1.0, np.nan, 3.0, 2.0], [5.0, 6.0, 7.0, 8.0]])
    np.testing.assert_allclose(found, [0.0, np.nan, (1 + 2 / 3) / 2, 0.75], rtol=1e-6)


def test_the_given_scorers_are_templates():
    given = parts()
    scorer = Combined(given).fit(ROWS)
    assert scorer.scorers[0][1] is given[0][1]
    assert not hasattr(given[0][1], "scores_")
    assert not hasattr(clone(scorer), "scorers_")
    assert clone(scorer).scorers[0][1] is not given[0][1]


def test_nested_parameters_are_reached_by_name():
    scorer = Combined(parts())
    assert scorer.get_params()["votes__negate"] is True
    assert scorer.set_params(votes__negate=False, weights=[2, 1]) is scorer
    assert scorer.scorers[1][1].negate is False
    scorer.set_params(tfidf=ColumnScore("votes"))
    assert isinstance(scorer.scorers[0][1], ColumnScore)
    assert set(scorer.get_params(deep=False)) == {"scorers", "weights"}
    with pytest.raises(ValueError, match="nobody"):
        scorer.set_params(nobody__negate=True)


def test_each_scorer_gets_what_its_own_fit_takes():
    X = [(torch.tensor([float(i), float(-i)]), i % 2) for i in range(8)]
    scorer = Combined([("el2n", EL2N()), ("x", FunctionScore(first_value))]).fit(X, model=nn.Identity(), batch_size=3)
    np.testing.assert_array_equal(scorer.scorers_["el2n"].scores_, EL2N().fit(X, model=nn.Identity()).scores_)
    nested = Combined([("inner", Combined([("loss", Loss())]))]).fit(X, model=nn.Identity())
    assert nested.scores_.shape == (8,)
    with pytest.raises(InvalidTypeError, match=r"EL2N.fit\(\) needs model=..."):
        Combined([("el2n", EL2N())]).fit(X)


def seeded_linear(seed, n_inputs=2):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Linear(n_inputs, 2)


def test_pvi_takes_the_model_and_its_null_model_alone():
    model, null = (
        seeded_linear(0),
        {"null_model": seeded_linear(1), "null_dataset": [(torch.zeros(2), y) for _, y in POINTS]},
    )
    scorer = Combined([("pvi", PVI()), ("loss", Loss())]).fit(POINTS, model=model)
    np.testing.assert_array_equal(scorer.scorers_["pvi"].scores_, PVI().fit(POINTS, model=model).scores_)
    np.testing.assert_array_equal(scorer.transform(POINTS, model=model), scorer.scores_)
    scorer.fit(POINTS, model=model, fit_arguments={"pvi": null})
    np.testing.assert_array_equal(scorer.scorers_["pvi"].scores_, PVI().fit(POINTS, model=model, **null).scores_)
    inner = {"inner": {"fit_arguments": {"pvi": null}}}
    nested = Combined([("inner", Combined(scorer.scorers))]).fit(POINTS, model=model, fit_arguments=inner)
    np.testing.assert_allclose(nested.scorers_["inner"].scores_, scorer.scores_)


def test_the_variance_of_gradients_takes_its_own_checkpoints():
    checkpoints = [nn.Sequential(seeded_linear(seed), nn.Tanh(), seeded_linear(seed + 9)) for seed in range(3)]
    own = {"vog": {"model": checkpoints}}
    scorer = Combined([("el2n", EL2N()), ("vog", VarianceOfGradients())])
    scorer.fit(POINTS, model=checkpoints[-1], fit_arguments=own)
    expected = [
        EL2N().fit(POINTS, model=checkpoints[-1]).scores_,
        VarianceOfGradients().fit(POINTS, model=checkpoints).scores_,
    ]
    np.testing.assert_array_equal(scorer.scores_, rank_average(expected))
    found = scorer.transform(POINTS, model=checkpoints[-1], fit_arguments=own)
    np.testing.assert_array_equal(found, scorer.scores_)


def test_a_perplexity_and_an_encoder_get_models_of_their_own(tokenizer):
    sizes = {"vocab_size": len(tokenizer), "bos_token_id": 2, "eos_token_id": 3, "n_embd": 8, "n_layer": 1, "n_head": 2}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        decoder = GPT2LMHeadModel(GPT2Config(**sizes))
        bert = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
        encoder = BertModel(BertConfig(vocab_size=len(tokenizer), **bert))
    own = {
        "perplexity": {"model": decoder, "tokenizer": tokenizer, "batch_tokens": 64},
        "distance": {"model": encoder, "tokenizer": tokenizer, "max_length_tokens": 8},
    }
    parts = [("perplexity", Perplexity()), ("distance", PrototypeDistance(n_prototypes=2, column="text"))]
    task = [("votes", ColumnScore("votes"))]
    scorer = Combined(parts + task)
    unused = nn.Linear(1, 2)  # the task's, which goes before none of one's own
    check_dataset_scorer(scorer, ROWS, row_by_row=False, permutes=False, model=unused, fit_arguments=own)
    scorer.fit(ROWS, model=unused, fit_arguments=own)
    for name, part in parts:
        np.testing.assert_array_equal(scorer.scorers_[name].scores_, part.fit(ROWS, **own[name]).scores_)
    with pytest.raises(InvalidTypeError, match=r"Perplexity needs model=... as a causal language model .*, got Linear"):
        scorer.fit(ROWS, model=unused, fit_arguments={"distance": own["distance"]})


@pytest.mark.parametrize(
    ("own", "words"),
    [
        ({"vote": {}}, r"fit_arguments must be for scorers named 'tfidf', 'votes', got 'vote'"),
        (
            {"votes": {"tokenizer": 1}},
            r"\['votes'\] must be keywords of ColumnScore.fit\(\), got \['tokenizer'\]: .*unexpected",
        ),
        ({"votes": {"dataset": 1}}, r"got \['dataset'\]: multiple values for argument 'dataset'"),
        ({"votes": 1}, r"fit_arguments must be a mapping \{name: \{keyword: value\}\}, got \{'votes': 1\}"),
        ([], r"fit_arguments must be a mapping .*, got \[\]"),
    ],
)
def test_arguments_that_no_scorer_takes_are_refused(own, words):
    scorer = Combined(parts())
    with pytest.raises(DataPruneError, match=words):
        scorer.fit(ROWS, fit_arguments=own)
    assert not hasattr(scorer, "scorers_")
    with pytest.raises(DataPruneError, match=words.replace("fit\\(", "transform\\(")):
        scorer.fit(ROWS).transform(ROWS, fit_arguments=own)


def test_other_rows_rank_among_the_fitted_ones():
    scorer = Combined([("votes", ColumnScore("votes"))]).fit([{"votes": v} for v in (0, 10, 10, 30)])
    assert scorer.scores_.tolist() == [0.0, 0.5, 0.5, 1.0]
    found = scorer.transform([{"votes": v} for v in (-5, 0, 4, 10, 20, 99)])
    np.testing.assert_allclose(found, [0.0, 0.0, 1 / 6, 0.5, 5 / 6, 1.0], rtol=1e-6)
    with pytest.raises(NotFittedError, match="Combined has no fitted scorers yet"):
        Combined(parts()).transform(ROWS)


@pytest.mark.parametrize(
    ("scorers", "words"),
    [
        ([], r"must be a list of pairs \(name, scorer\), got \[\]"),
        ([EL2N()], "must be a list of pairs"),
        ([("a", PrototypeDistance)], "must be a list of pairs"),
        ({"a": EL2N()}, "must be a list of pairs"),
        ([("a", EL2N()), ("a", Loss())], "must have usable names: .*not unique"),
        ([("weights", EL2N())], "conflict with constructor arguments"),
        ([("a__b", EL2N())], "must not contain __"),
    ],
)
def test_what_is_no_list_of_scorers_is_refused(scorers, words):
    with pytest.raises(DataPruneError, match=words):
        Combined(scorers).fit(ROWS)


@pytest.mark.parametrize("weights", [[1], [1, -1], [0, 0], [1, float("nan")], [1, float("inf")], [[1, 1]]])
def test_weights_that_are_none_are_refused(weights):
    with pytest.raises(InvalidValueError, match=r"Combined.weights must be 2 numbers of at least 0, not all 0"):
        Combined(parts(), weights=weights).fit(ROWS)
    with pytest.raises(InvalidValueError, match=r"rank_average\(\).weights must be 2 numbers"):
        rank_average([[1, 2], [3, 4]], weights)


def test_scores_and_weights_that_are_no_numbers_are_refused():
    with pytest.raises(
        InvalidTypeError, match=r"rank_average\(\).scores must be an array of numbers, got \['a', 'b'\]"
    ):
        rank_average([["a", "b"], [1, 2]])
    with pytest.raises(InvalidTypeError, match=r"Combined.weights must be an array of numbers, got \['a', 'b'\]"):
        Combined(parts(), weights=["a", "b"]).fit(ROWS)


def test_scores_of_different_lengths_are_refused():
    with pytest.raises(InvalidValueError, match=r"scores of one shape \(n_examples,\), got \[\(1,\), \(2,\)\]"):
        rank_average([[1, 2], [3]])
    with pytest.raises(InvalidValueError, match=r"got \[\]"):
        rank_average([])
