# mypy: disallow-untyped-calls=False
# (transformers annotates its classes, but not every method that they call)
"""One encoder with two heads: the intent of a sentence and the slots of its words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModel,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.utils.generic import ModelOutput

from dataprune.data.forward import signals_from_outputs
from dataprune.errors import InvalidValueError
from dataprune.models.loading import encoder_options, load_encoder_config, loading_quietly


class JointIntentSlotConfig(PreTrainedConfig):
    """Configuration of `JointIntentSlotModel`.

    Parameters
    ----------
    encoder : PreTrainedConfig, dict or None, default=None
        The encoder's configuration; required to build a model.
    intent_labels : sequence of str, default=()
        Names of the intents, in the order of their ids.
    slot_labels : sequence of str, default=()
        Names of the slot tags, in the order of their ids.
    dropout : float, default=0.1
        Dropout rate before both heads, in [0, 1).
    **kwargs : Any
        What every `PreTrainedConfig` takes.

    Examples
    --------
    >>> JointIntentSlotConfig(intent_labels=["book", "cancel"]).intent_labels
    ['book', 'cancel']
    """

    model_type = "dataprune-joint-intent-slot"

    def __init__(
        self,
        encoder: PreTrainedConfig | dict[str, Any] | None = None,
        *,
        intent_labels: Sequence[str] = (),
        slot_labels: Sequence[str] = (),
        dropout: float = 0.1,
        **kwargs: Any,
    ) -> None:
        self.encoder = AutoConfig.for_model(**encoder) if isinstance(encoder, dict) else encoder
        self.intent_labels = list(intent_labels)
        self.slot_labels = list(slot_labels)
        self.dropout = dropout
        super().__init__(**kwargs)


AutoConfig.register(JointIntentSlotConfig.model_type, JointIntentSlotConfig, exist_ok=True)


@dataclass
class JointOutput(ModelOutput):
    """What `JointIntentSlotModel` returns.

    Parameters
    ----------
    loss : Tensor or None
        Scalar; the mean over the examples, when labels were given.
    intent_logits : Tensor
        Shape (B, I).
    slot_logits : Tensor
        Shape (B, T, S).
    """

    loss: Tensor | None = None
    intent_logits: Tensor | None = None
    slot_logits: Tensor | None = None


class JointIntentSlotModel(PreTrainedModel):
    """Intent from the first token's state, one slot tag from each token's state, over any encoder.

    Parameters
    ----------
    config : JointIntentSlotConfig
        The encoder's configuration and the label names.
    encoder : PreTrainedModel or None, default=None
        A ready encoder; None builds one with random weights.

    References
    ----------
    Chen, Zhuo & Wang 2019, *BERT for Joint Intent Classification and Slot Filling*, arXiv 1902.10909.

    Examples
    --------
    >>> from transformers import BertConfig
    >>> encoder = BertConfig(vocab_size=9, hidden_size=8, num_hidden_layers=1, num_attention_heads=2)
    >>> config = JointIntentSlotConfig(encoder, intent_labels=["book", "cancel"], slot_labels=["B-a", "I-a", "O"])
    >>> output = JointIntentSlotModel(config)(torch.ones(1, 4, dtype=torch.long))
    >>> tuple(output.intent_logits.shape), tuple(output.slot_logits.shape)
    ((1, 2), (1, 4, 3))
    """

    config_class = JointIntentSlotConfig
    base_model_prefix = "encoder"

    def __init__(self, config: JointIntentSlotConfig, encoder: PreTrainedModel | None = None) -> None:
        super().__init__(config)
        if config.encoder is None:
            raise InvalidValueError(
                "JointIntentSlotConfig.encoder must be an encoder's configuration, got None. "
                "Use JointIntentSlotModel.from_encoder."
            )
        if encoder is None:
            encoder = AutoModel.from_config(config.encoder, **encoder_options(config.encoder))
        self.encoder = encoder
        self.dropout = nn.Dropout(config.dropout)
        self.intent_head = nn.Linear(config.encoder.hidden_size, len(config.intent_labels))
        self.slot_head = nn.Linear(config.encoder.hidden_size, len(config.slot_labels))
        self.post_init()

    @classmethod
    def from_encoder(
        cls,
        name_or_path: str | Path,
        *,
        intent_labels: Sequence[str],
        slot_labels: Sequence[str],
        dropout: float = 0.1,
    ) -> Self:
        """Load a pretrained encoder and put two new heads on it.

        Parameters
        ----------
        name_or_path : str or Path
            A folder saved by `save_pretrained`, or a hub name.
        intent_labels : sequence of str
            Names of the intents, in the order of their ids.
        slot_labels : sequence of str
            Names of the slot tags, in the order of their ids.
        dropout : float, default=0.1
            Dropout rate before both heads, in [0, 1).

        Returns
        -------
        JointIntentSlotModel
            In float32 and eval mode; the heads are drawn from torch's global generator (`torch.manual_seed`).

        Raises
        ------
        InvalidValueError
            If there is no such model, or its files are damaged.
        InvalidTypeError
            If the model is no encoder.
        """
        encoder_config = load_encoder_config(name_or_path)
        with loading_quietly(name_or_path):
            encoder = AutoModel.from_pretrained(
                name_or_path, config=encoder_config, dtype=torch.float32, **encoder_options(encoder_config)
            )
        config = JointIntentSlotConfig(
            encoder.config, intent_labels=intent_labels, slot_labels=slot_labels, dropout=dropout
        )
        model = cls(config, encoder)
        model.eval()
        return model

    def forward(  # noqa: PLR0917 - positional, as in every model of transformers
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        intent_labels: Tensor | None = None,
        slot_labels: Tensor | None = None,
    ) -> JointOutput:
        """Return the logits of both heads, and the loss if labels are given.

        Parameters
        ----------
        input_ids : Tensor or None, default=None
            Token ids, shape (B, T).
        attention_mask : Tensor or None, default=None
            1 for tokens, 0 for padding, shape (B, T).
        token_type_ids : Tensor or None, default=None
            Segment ids, shape (B, T), for encoders that have them.
        inputs_embeds : Tensor or None, default=None
            Embeddings in place of `input_ids`, shape (B, T, H).
        intent_labels : Tensor or None, default=None
            Intent ids, shape (B,); negative ids do not count.
        slot_labels : Tensor or None, default=None
            Slot ids, shape (B, T); negative ids do not count.

        Returns
        -------
        JointOutput
            ``loss`` (scalar or None), ``intent_logits`` (B, I), ``slot_logits`` (B, T, S).

        Notes
        -----
        An example's loss is the negative log likelihood of its intent and of all its tags that count: the sum of
        their cross entropies, Chen et al.'s objective. ``loss`` is the mean of what pruning sees per example.
        """
        # No **kwargs in the signature: Trainer would take them as a promise to handle gradient accumulation.
        inputs = {
            "input_ids": input_ids,
            "attention_mask": attention_mask,
            "token_type_ids": token_type_ids,
            "inputs_embeds": inputs_embeds,
        }
        states = self.encoder(**{k: v for k, v in inputs.items() if v is not None}).last_hidden_state  # (B, T, H)
        states = self.dropout(states)
        logits = {
            "intent_logits": self.intent_head(states[:, 0]),  # (B, I)
            "slot_logits": self.slot_head(states),  # (B, T, S)
        }
        if intent_labels is None and slot_labels is None:
            return JointOutput(**logits)
        labels = {"intent_labels": intent_labels, "slot_labels": slot_labels}
        return JointOutput(loss=signals_from_outputs(logits, labels)["loss"].mean(), **logits)
