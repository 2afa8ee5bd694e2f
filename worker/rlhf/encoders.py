"""Encoders as trunks of reward models: BERT, RoBERTa and their kin, each with the head that transformers gives it.

An encoder's score is what its own sequence-classification model says, so that its folder scores the same there. A
sentence encoder whose card asks for the mean over tokens gets that mean as one more layer of its own kind
(`add_mean_layer`), because those classification models read the first token only.
"""

import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

MEAN_WEIGHT = 30.0  # How much more the mean counts than the first token's own state, which a layer always adds.


def is_encoder(source: str | Path) -> bool:
    """Whether a folder's model writes no text: it has no causal language model, or its config says so."""
    from transformers import AutoConfig
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as CAUSAL
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES as MASKED

    config = AutoConfig.from_pretrained(str(source), trust_remote_code=False)
    return (config.model_type in MASKED or config.model_type not in CAUSAL) and not getattr(config, "is_decoder", False)


def wants_mean(source: str | Path) -> bool:
    """Whether the card of a sentence encoder, `1_Pooling/config.json`, asks for the mean over tokens."""
    card = Path(source) / "1_Pooling" / "config.json"
    return card.is_file() and bool(json.loads(card.read_text()).get("pooling_mode_mean_tokens"))


def linear_head(classifier: Any) -> nn.Linear:
    """The last linear map of a sequence-classification model, to one number.

    Raises:
        ValueError: it has none.
    """
    heads = [part for part in classifier.modules() if isinstance(part, nn.Linear) and part.out_features == 1]
    if not heads:
        raise ValueError(f"A {classifier.config.model_type} model has no linear head to one number.")
    return heads[-1]


@torch.no_grad()
def add_mean_layer(classifier: Any) -> None:
    """Give a BERT or RoBERTa one more layer that leaves the mean over all real tokens in the first token's place.

    Queries and keys are 0, so attention is even over real tokens (and stays so: their gradients are 0); values and
    the output map are the identity, times `MEAN_WEIGHT`; the feed-forward part adds 0. What comes out is
    the mean, normalised to deviation 1 by the layer's own norm. The layer is not trained. The dense map of the pooler,
    which sentence encoders never trained, starts as the identity.

    Raises:
        ValueError: the model is built otherwise.
    """
    from copy import deepcopy

    encoder = getattr(classifier.base_model, "encoder", None)
    if classifier.config.model_type not in {"bert", "roberta", "xlm-roberta"} or encoder is None:
        raise ValueError(
            f"This sentence encoder is a {classifier.config.model_type} model; the mean over tokens is known for bert and roberta."
        )
    layer = deepcopy(encoder.layer[-1])
    if hasattr(layer.attention.self, "layer_idx"):
        layer.attention.self.layer_idx = len(encoder.layer)
    for parameter in layer.parameters():
        parameter.zero_()
        parameter.requires_grad = False
    for part, scale in ((layer.attention.self.value, 1.0), (layer.attention.output.dense, MEAN_WEIGHT)):
        nn.init.eye_(part.weight).mul_(scale)
    for norm in (layer.attention.output.LayerNorm, layer.output.LayerNorm):
        norm.weight.fill_(1.0)
    encoder.layer.append(layer)
    classifier.config.num_hidden_layers += 1
    dense = getattr(getattr(classifier.base_model, "pooler", None) or classifier.classifier, "dense", None)
    if dense is not None:
        nn.init.eye_(dense.weight)
        dense.bias.zero_()
