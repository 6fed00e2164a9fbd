"""The perplexity of texts under a reference language model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import nn

from dataprune.data.columns import check_inputs, read_column
from dataprune.data.forward import is_causal, model_device, unwrapped
from dataprune.data.losses import IGNORED_LABEL, cross_entropy_per_example
from dataprune.errors import InvalidTypeError, InvalidValueError, check_count
from dataprune.scoring.base import DatasetScorer
from dataprune.scoring.scoring_pass import keeping_modes


class Perplexity(DatasetScorer):
    """How surprising a text is to a Hugging Face causal language model: the exponential of its mean token surprise.

    For pruning a corpus before training, with a small reference model. Higher = harder or stranger; the top also holds
    garbled texts, the bottom boilerplate. One forward pass over the texts, batched by length.

    Parameters
    ----------
    column : str or None, default="text"
        Column of texts; None: the rows themselves.
    per_byte : bool, default=False
        Score bits per UTF-8 byte instead, which can be compared between tokenizers.
    max_length_tokens : int, default=1024
        Largest window; the model's own limit if that is smaller.
    stride_tokens : int or None, default=None
        A text longer than the window is read in windows that move by so many tokens; each token is scored once, with at
        least the window minus the stride before it. None: half the window.

    Attributes
    ----------
    scores_ : ndarray of float32, shape (n_examples,)
        Perplexity, at least 1; or bits per byte, at least 0.

    Notes
    -----
    If the tokenizer has a beginning-of-sequence token, each text starts with it and all of its own tokens are scored;
    else its first token is context only. A text of which nothing is scored has a surprise of 0: perplexity 1, 0 bits.
    Other special tokens are not added. A token's surprise is float32, their sum float64. A float32 model's own rounding
    depends on the batch's shape, and the exponential turns an absolute error of the mean surprise into a relative one
    of the score: with a model of 135 M parameters up to 1.7e-5 between batches of another layout. Memory: the logits of
    one batch, 4 bytes per token and entry of the vocabulary.

    References
    ----------
    Ankner et al. 2024, *Perplexed by Perplexity*, arXiv 2405.20541; the windows are those of Hugging Face's guide
    *Perplexity of fixed-length models*.

    Examples
    --------
    >>> from transformers import GPT2Config, GPT2LMHeadModel
    >>> model = GPT2LMHeadModel(GPT2Config(vocab_size=7, n_embd=4, n_layer=1, n_head=1, bos_token_id=0, eos_token_id=0))
    >>> _ = torch.nn.init.zeros_(model.transformer.ln_f.weight)  # knows nothing: each of 7 words is as likely
    >>> class Letters:
    ...     bos_token_id = 0
    ...
    ...     def __call__(self, texts, **options):
    ...         return {"input_ids": [[ord(c) - ord("a") + 1 for c in text] for text in texts]}
    >>> Perplexity(column=None).fit(["abc", "f"], model=model, tokenizer=Letters()).scores_.round(4)
    array([7., 7.], dtype=float32)
    """

    def __init__(
        self,
        *,
        column: str | None = "text",
        per_byte: bool = False,
        max_length_tokens: int = 1024,
        stride_tokens: int | None = None,
    ) -> None:
        self.column = column
        self.per_byte = per_byte
        self.max_length_tokens = max_length_tokens
        self.stride_tokens = stride_tokens

    def fit(
        self, dataset: Any, *, model: nn.Module | None = None, tokenizer: Any = None, batch_tokens: int = 2048
    ) -> Self:
        """Score the texts of `dataset` and keep the result in ``scores_``.

        Parameters
        ----------
        dataset : map-style data set
            Rows with a text.
        model : transformers.PreTrainedModel
            A causal language model.
        tokenizer : transformers.PreTrainedTokenizerBase
            Its tokenizer.
        batch_tokens : int, default=2048
            Tokens in a batch, padding included, unless a single window is longer; changes the scores by the model's
            rounding only.

        Returns
        -------
        self
            The scorer.

        Raises
        ------
        InvalidTypeError
            If the model is no causal language model, or an encoder that reads both ways, or there is no tokenizer.
        InvalidValueError
            If a parameter is out of range.
        DataError
            If there is no such column, or a row has no text.
        """
        values = self.score_dataset(dataset, model=model, tokenizer=tokenizer, batch_tokens=batch_tokens)
        return self._keep(values, n_examples=len(dataset))

    def transform(
        self, dataset: Any, *, model: nn.Module | None = None, tokenizer: Any = None, batch_tokens: int = 2048
    ) -> NDArray[np.float32]:
        """Return the scores of any rows and leave ``scores_`` untouched.

        Parameters
        ----------
        dataset : map-style data set
            Rows with a text.
        model : transformers.PreTrainedModel
            A causal language model.
        tokenizer : transformers.PreTrainedTokenizerBase
            Its tokenizer.
        batch_tokens : int, default=2048
            Tokens in a batch, padding included, unless a single window is longer; changes the scores by the model's
            rounding only.

        Returns
        -------
        ndarray of float32, shape (n,)
            Scores.
        """
        values = self.score_dataset(dataset, model=model, tokenizer=tokenizer, batch_tokens=batch_tokens)
        return self._checked(values, n_examples=len(dataset))

    def score_dataset(
        self, dataset: Any, *, model: nn.Module | None = None, tokenizer: Any = None, batch_tokens: int = 2048
    ) -> NDArray[np.float64]:
        """Score rows.

        Parameters
        ----------
        dataset : map-style data set
            Rows with a text.
        model : transformers.PreTrainedModel
            A causal language model.
        tokenizer : transformers.PreTrainedTokenizerBase
            Its tokenizer.
        batch_tokens : int, default=2048
            Tokens in a batch, padding included; changes the scores by the model's rounding only.

        Returns
        -------
        ndarray of float64, shape (n,)
            Perplexities, or bits per byte.
        """
        from dataprune.models.loading import reads_both_ways  # loads transformers, as the model has

        if not isinstance(model, nn.Module) or not is_causal(model) or reads_both_ways(_config(model)):
            raise InvalidTypeError(
                f"Perplexity needs model=... as a causal language model of transformers, got {type(model).__name__}. "
                "Load one with AutoModelForCausalLM."
            )
        if not callable(tokenizer):
            raise InvalidTypeError(f"Perplexity needs tokenizer=..., got {type(tokenizer).__name__}.")
        check_count("Perplexity.fit()", "batch_tokens", batch_tokens, minimum=1)
        window, stride = self._window(model)
        texts = read_column(dataset, self.column)
        check_inputs(texts, column=str(self.column), row_names=range(len(texts)), split=False)
        sequences = _token_ids(texts, tokenizer)
        nats = _surprise(sequences, model, window=window, stride=stride, batch_tokens=batch_tokens)
        if self.per_byte:
            return bits_per_byte(nats, [len(text.encode()) for text in texts])
        return perplexity(nats, [len(ids) - 1 for ids in sequences])

    def _window(self, model: nn.Module) -> tuple[int, int]:
        window = check_count("Perplexity", "max_length_tokens", self.max_length_tokens, minimum=2)
        limit = getattr(getattr(unwrapped(model), "config", None), "max_position_embeddings", None)
        window = window if limit is None else min(window, int(limit))
        stride = window // 2 if self.stride_tokens is None else self.stride_tokens
        if check_count("Perplexity", "stride_tokens", stride, minimum=1) >= window:
            raise InvalidValueError(
                f"Perplexity.stride_tokens must be less than the window of {window} tokens, got {stride}."
            )
        return window, stride


def perplexity(nats: ArrayLike, n_tokens: ArrayLike) -> NDArray[np.float64]:
    """Return the perplexity of texts: the exponential of their mean surprise.

    Parameters
    ----------
    nats : array-like of float, shape (n,)
        Negative log likelihood of each text.
    n_tokens : array-like of int, shape (n,)
        Tokens that it was summed over.

    Returns
    -------
    ndarray of float64, shape (n,)
        At least 1; 1 where nothing was scored, inf where the exponential is too large.

    Examples
    --------
    >>> perplexity([np.log(8), 0.0], [3, 0])
    array([2., 1.])
    """
    with np.errstate(over="ignore"):  # a hopeless model gives inf
        return np.asarray(np.exp(np.asarray(nats) / np.maximum(n_tokens, 1)))


def bits_per_byte(nats: ArrayLike, n_bytes: ArrayLike) -> NDArray[np.float64]:
    """Return the surprise of texts in bits per byte, which can be compared between tokenizers.

    Parameters
    ----------
    nats : array-like of float, shape (n,)
        Negative log likelihood of each text.
    n_bytes : array-like of int, shape (n,)
        Its length in UTF-8.

    Returns
    -------
    ndarray of float64, shape (n,)
        At least 0; 0 for an empty text.

    Examples
    --------
    >>> bits_per_byte([np.log(8), 0.0], [6, 0])
    array([0.5, 0. ])
    """
    return np.asarray(np.asarray(nats) / np.log(2) / np.maximum(n_bytes, 1))


def _config(model: nn.Module) -> Any:
    return unwrapped(model).config


def _token_ids(texts: Sequence[str], tokenizer: Any) -> list[list[int]]:
    """Return each text's tokens, the first of which is context only."""
    if not texts:
        return []
    ids = tokenizer(list(texts), add_special_tokens=False, return_attention_mask=False, verbose=False)["input_ids"]
    bos = getattr(tokenizer, "bos_token_id", None)
    return [list(row) if bos is None else [bos, *row] for row in ids]


def _surprise(
    sequences: Sequence[Sequence[int]], model: nn.Module, *, window: int, stride: int, batch_tokens: int
) -> NDArray[np.float64]:
    """Return each sequence's negative log likelihood in nats; position 0 is not scored."""
    parts = []  # (row, first position, first position scored, end)
    for row, ids in enumerate(sequences):
        begin, scored = 0, 1
        while scored < len(ids):
            end = min(begin + window, len(ids))
            parts.append((row, begin, scored, end))
            begin, scored = begin + stride, end
    lengths = np.array([end - begin for _, begin, _, end in parts], dtype=np.int64)
    nats = np.zeros(len(sequences), dtype=np.float64)
    device = model_device(model)
    with keeping_modes(model), torch.inference_mode():
        model.eval()
        for batch in _batches_of_tokens(lengths, batch_tokens):
            shape = len(batch), int(lengths[batch].max())
            ids, mask = torch.zeros(2, *shape, dtype=torch.int64)  # both (B, T), padded on the right
            labels = torch.full(shape, IGNORED_LABEL)
            for i, (row, begin, scored, end) in enumerate(parts[p] for p in batch):
                ids[i, : end - begin] = torch.tensor(sequences[row][begin:end])
                mask[i, : end - begin] = 1
                labels[i, scored - begin : end - begin] = ids[i, scored - begin : end - begin]
            logits = model(input_ids=ids.to(device), attention_mask=mask.to(device)).logits  # (B, T, V)
            targets = labels[:, 1:].to(device)
            # Token by token, so that they add up in float64: a long text's sum in float32 depends on its padding.
            losses = torch.stack([cross_entropy_per_example(z[:-1], y) for z, y in zip(logits, targets, strict=True)])
            np.add.at(nats, [parts[p][0] for p in batch], losses.cpu().double().sum(1).numpy())  # (B, T - 1) -> (B,)
    return nats


def _batches_of_tokens(lengths: NDArray[np.int64], batch_tokens: int) -> list[NDArray[np.int64]]:
    """Cut all windows into batches of at most `batch_tokens` with their padding; the longest come first."""
    order = np.argsort(-lengths, kind="stable")
    batches, start = [], 0
    while start < len(order):
        size = max(1, batch_tokens // int(lengths[order[start]]))
        batches.append(order[start : start + size])
        start += size
    return batches
