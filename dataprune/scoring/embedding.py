"""Scores of embeddings: how far an example is from the nearest prototype."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from dataprune.data.batching import length_sorted_batches
from dataprune.data.columns import read_column
from dataprune.data.forward import model_device
from dataprune.errors import DataError, InvalidTypeError, InvalidValueError, NotFittedError, check_count
from dataprune.scoring.base import DatasetScorer
from dataprune.scoring.scoring_pass import keeping_modes
from dataprune.scoring.text import read_texts

ROWS_PER_BLOCK = 10_000
"""Rows whose distances are taken at once."""


class PrototypeDistance(DatasetScorer):
    """How far an embedding is from the nearest of a few k-means centroids: the least typical examples score highest.

    Needs no labels. The embeddings are given, or made of texts by a Hugging Face encoder. Higher = farther; the top
    also holds outliers. One forward pass for an encoder, then mini-batch k-means.

    Parameters
    ----------
    n_prototypes : int, default=10
        Centroids.
    column : str or None, default=None
        Column of embeddings, or of texts with an encoder; None: the rows themselves, for example an array of shape
        (n_examples, n_features).
    random_state : int, default=0
        Seed of the k-means.

    Attributes
    ----------
    scores_ : ndarray of float32, shape (n_examples,)
        At least 0.
    prototypes_ : ndarray of float32, shape (n_prototypes, n_features)
        The centroids.
    kmeans_ : sklearn.cluster.MiniBatchKMeans
        The fitted clustering.

    Notes
    -----
    Distances are Euclidean; divide embeddings by their lengths beforehand for those of the cosine. The centroids of
    mini-batch k-means depend on the order of the rows and on the seed, so permuted rows get other scores. `transform`
    takes the distance to the fitted centroids, and needs the same encoder again.

    References
    ----------
    Sorscher, Geirhos, Shekhar, Ganguli and Morcos 2022, *Beyond neural scaling laws*, arXiv 2206.14486.

    Examples
    --------
    >>> points = np.array([[0.0, 0.0], [0.0, 0.2], [5.0, 5.0], [5.0, 5.2], [5.0, 6.7]])
    >>> PrototypeDistance(n_prototypes=2).fit(points).scores_.round(1)
    array([0.1, 0.1, 0.6, 0.4, 1.1], dtype=float32)
    """

    def __init__(self, *, n_prototypes: int = 10, column: str | None = None, random_state: int = 0) -> None:
        self.n_prototypes = n_prototypes
        self.column = column
        self.random_state = random_state

    def fit(
        self,
        dataset: Any,
        *,
        model: nn.Module | None = None,
        tokenizer: Any = None,
        batch_size: int = 64,
        max_length_tokens: int = 128,
    ) -> Self:
        """Find the prototypes of `dataset` and score its rows.

        Parameters
        ----------
        dataset : map-style data set
            The full data set.
        model : PreTrainedModel, optional
            An encoder, for texts; not used without `tokenizer`.
        tokenizer : PreTrainedTokenizerBase, optional
            The encoder's tokenizer; without one, the rows or their column hold embeddings.
        batch_size : int, default=64
            Texts in a batch; does not change the scores.
        max_length_tokens : int, default=128
            Longer texts are cut.

        Returns
        -------
        self
            The scorer.

        Raises
        ------
        InvalidValueError
            If a parameter is out of range, or there are fewer rows than prototypes.
        DataError
            If the rows hold no embeddings of one length, or no texts where an encoder is given.
        """
        from sklearn.cluster import MiniBatchKMeans

        check_count("PrototypeDistance", "n_prototypes", self.n_prototypes, minimum=1)
        X = self._embeddings(dataset, model, tokenizer, batch_size, max_length_tokens)
        if len(X) < self.n_prototypes:
            raise InvalidValueError(
                f"PrototypeDistance.n_prototypes must be at most the number of rows, {len(X)}, got {self.n_prototypes}."
            )
        self.kmeans_ = MiniBatchKMeans(self.n_prototypes, random_state=self.random_state).fit(X)
        self.prototypes_ = self.kmeans_.cluster_centers_
        return self._keep(self._distances(X), n_examples=len(X))

    def transform(
        self,
        dataset: Any,
        *,
        model: nn.Module | None = None,
        tokenizer: Any = None,
        batch_size: int = 64,
        max_length_tokens: int = 128,
    ) -> NDArray[np.float32]:
        """Return the distances of any rows to the fitted prototypes and leave ``scores_`` untouched.

        Parameters
        ----------
        dataset : map-style data set
            Rows to score.
        model : PreTrainedModel, optional
            The encoder of `fit`, for texts.
        tokenizer : PreTrainedTokenizerBase, optional
            The encoder's tokenizer.
        batch_size : int, default=64
            Texts in a batch; does not change the scores.
        max_length_tokens : int, default=128
            Longer texts are cut.

        Returns
        -------
        ndarray of float32, shape (n,)
            Scores.

        Raises
        ------
        NotFittedError
            Before `fit`.
        DataError
            If the rows hold no embeddings of the fitted length.
        """
        scores = self.score_dataset(
            dataset, model=model, tokenizer=tokenizer, batch_size=batch_size, max_length_tokens=max_length_tokens
        )
        return self._checked(scores, n_examples=len(scores))

    def score_dataset(
        self,
        dataset: Any,
        *,
        model: nn.Module | None = None,
        tokenizer: Any = None,
        batch_size: int = 64,
        max_length_tokens: int = 128,
    ) -> NDArray[Any]:
        """Score rows by their distance to the fitted prototypes.

        Parameters
        ----------
        dataset : map-style data set
            Rows to score.
        model : PreTrainedModel, optional
            The encoder of `fit`, for texts.
        tokenizer : PreTrainedTokenizerBase, optional
            The encoder's tokenizer.
        batch_size : int, default=64
            Texts in a batch; does not change the scores.
        max_length_tokens : int, default=128
            Longer texts are cut.

        Returns
        -------
        ndarray of float32, shape (n,)
            Distances.

        Raises
        ------
        NotFittedError
            Before `fit`.
        DataError
            If the rows hold no embeddings of the fitted length.
        """
        if not hasattr(self, "prototypes_"):
            raise NotFittedError("PrototypeDistance has no prototypes yet. Call fit(dataset) first.")
        X = self._embeddings(dataset, model, tokenizer, batch_size, max_length_tokens)
        if X.size and X.shape[1] != self.prototypes_.shape[1]:
            raise DataError(
                f"PrototypeDistance was fitted on embeddings of length {self.prototypes_.shape[1]}, got {X.shape[1]}. "
                "Use the encoder of fit()."
            )
        return self._distances(X)

    def _embeddings(
        self, dataset: Any, model: nn.Module | None, tokenizer: Any, batch_size: int, max_length_tokens: int
    ) -> NDArray[np.float32]:
        if tokenizer is None:
            return read_embeddings(dataset, self.column)
        texts = read_texts(dataset, self.column)
        return embed_texts(texts, model, tokenizer, batch_size=batch_size, max_length_tokens=max_length_tokens)

    def _distances(self, X: NDArray[np.float32]) -> NDArray[np.float32]:
        found = np.empty(len(X), dtype=np.float32)
        for start in range(0, len(X), ROWS_PER_BLOCK):
            block = X[start : start + ROWS_PER_BLOCK]
            # By subtraction, in blocks: k-means' own difference of squares is rounding near a centroid.
            nearest = self.prototypes_[self.kmeans_.predict(block)]  # (block, n_features)
            found[start : start + len(block)] = np.linalg.norm(block - nearest, axis=1)
        return found


def embed_texts(
    texts: Sequence[str], model: nn.Module | None, tokenizer: Any, *, batch_size: int = 64, max_length_tokens: int = 128
) -> NDArray[np.float32]:
    """Embed texts: the mean of an encoder's last hidden states over a text's tokens.

    In eval and inference mode, batched by length; the model gets its mode back. A text of no tokens is the zero vector.

    Parameters
    ----------
    texts : sequence of str
        Texts.
    model : PreTrainedModel
        An encoder, or a decoder without its head; stays on its device.
    tokenizer : PreTrainedTokenizerBase
        Its tokenizer.
    batch_size : int, default=64
        Texts in a batch; does not change the embeddings beyond rounding.
    max_length_tokens : int, default=128
        Longer texts are cut, and at the tokenizer's own limit where that is lower.

    Returns
    -------
    ndarray of float32, shape (n, n_features)
        One embedding per text; n_features is the width of the hidden states, 0 if no text has a token.

    Raises
    ------
    InvalidTypeError
        If the model is none, or returns no last hidden state.
    InvalidValueError
        If a size is out of range.

    Examples
    --------
    >>> from tokenizers import Tokenizer
    >>> from tokenizers.models import WordLevel
    >>> from transformers import BertConfig, BertModel, PreTrainedTokenizerFast
    >>> words = WordLevel({"[UNK]": 0, "jazz": 1}, unk_token="[UNK]")
    >>> tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(words))
    >>> encoder = BertModel(BertConfig(vocab_size=2, hidden_size=12, num_hidden_layers=1))
    >>> embed_texts(["jazz", "rock"], encoder, tokenizer).shape
    (2, 12)
    """
    check_count("embed_texts()", "batch_size", batch_size, minimum=1)
    check_count("embed_texts()", "max_length_tokens", max_length_tokens, minimum=1)
    if not isinstance(model, nn.Module):
        raise InvalidTypeError(f"embed_texts() needs model=... as a torch.nn.Module, got {type(model).__name__}.")
    if not len(texts):
        return np.empty((0, 0), dtype=np.float32)
    limit = min(max_length_tokens, getattr(tokenizer, "model_max_length", max_length_tokens))
    tokens = tokenizer(list(texts), truncation=True, max_length=limit, return_attention_mask=False)["input_ids"]
    lengths = np.array([len(ids) for ids in tokens], dtype=np.int64)
    embeddings: NDArray[np.float32] | None = None
    device = model_device(model)
    with keeping_modes(model), torch.inference_mode():
        model.eval()
        for rows in length_sorted_batches(np.flatnonzero(lengths), lengths, batch_size):
            ids = [torch.tensor(tokens[row]) for row in rows]
            # Padding is masked, so its id matters only to models that count positions by it.
            padded = pad_sequence(ids, batch_first=True, padding_value=tokenizer.pad_token_id or 0)  # (B, T)
            mask = torch.arange(padded.shape[1]) < torch.from_numpy(lengths[rows])[:, None]  # (B, T)
            part = _pooled(model, padded.to(device), mask.to(device)).cpu().numpy()  # (B, n_features)
            if embeddings is None:
                embeddings = np.zeros((len(texts), part.shape[1]), dtype=np.float32)
            embeddings[rows] = part
    return np.zeros((len(texts), 0), dtype=np.float32) if embeddings is None else embeddings


def _pooled(model: nn.Module, input_ids: Tensor, mask: Tensor) -> Tensor:
    hidden = getattr(model(input_ids=input_ids, attention_mask=mask.long()), "last_hidden_state", None)
    if hidden is None:
        raise InvalidTypeError(
            f"embed_texts() needs a model that returns a last_hidden_state, got {type(model).__name__}. "
            "Pass its base model without the head (model.base_model), or of an encoder-decoder model.get_encoder()."
        )
    counted = mask[..., None].float()  # (B, T, 1)
    mean: Tensor = (hidden.float() * counted).sum(1) / counted.sum(1)
    return mean


def read_embeddings(dataset: Any, column: str | None) -> NDArray[np.float32]:
    """Return the embeddings that a data set holds.

    Parameters
    ----------
    dataset : ndarray, Tensor or map-style data set
        Rows.
    column : str or None
        Column of embeddings; None: the rows themselves.

    Returns
    -------
    ndarray of float32, shape (n, n_features)
        One embedding per row; the given array itself if it is one of float32.

    Raises
    ------
    DataError
        If there is no such column, the embeddings are no numbers of one length, or one is not finite.

    Examples
    --------
    >>> read_embeddings([{"x": [1, 2]}, {"x": [3, 4]}], "x")
    array([[1., 2.],
           [3., 4.]], dtype=float32)
    """
    where = "Rows" if column is None else f"Column {column!r}"
    try:
        X = np.asarray(_values(dataset, column), dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise DataError(
            f"{where} must hold embeddings: lists of numbers of one length. Texts need fit(..., model=encoder, "
            "tokenizer=...)."
        ) from error
    if len(X) == 0:
        return X.reshape(0, X.shape[1] if X.ndim == 2 else 0)
    if X.ndim != 2:
        raise DataError(f"{where} must hold one embedding per row, (n, n_features) in all, got {X.shape}.")
    finite = np.isfinite(X).all(axis=1)
    if not finite.all():
        raise DataError(f"{where} must hold finite embeddings, got another in row {int(np.argmin(finite))}.")
    return X


def _values(dataset: Any, column: str | None) -> Any:
    if column is None and isinstance(dataset, np.ndarray):
        return dataset
    if column is None and isinstance(dataset, Tensor):
        return dataset.detach().cpu().float().numpy()
    if column is not None and hasattr(dataset, "with_format") and column in dataset.column_names:
        return dataset.with_format("numpy", columns=[column])[:][column]  # datasets: no Python float per number
    return read_column(dataset, column)
