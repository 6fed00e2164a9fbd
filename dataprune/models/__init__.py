"""Models for the tasks: a Hugging Face encoder with one head or two, a decoder, or a network for images."""

from dataprune.models.building import build_model
from dataprune.models.joint import JointIntentSlotConfig, JointIntentSlotModel
from dataprune.models.loading import load_encoder, load_tokenizer

__all__ = ["JointIntentSlotConfig", "JointIntentSlotModel", "build_model", "load_encoder", "load_tokenizer"]
