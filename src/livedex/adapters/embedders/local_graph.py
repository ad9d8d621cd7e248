"""Builds the ONNX graph of a BERT sentence encoder from its weights.

    ids ▸ embeddings ▸ (attention ▸ feed-forward) for each layer ▸ mean over real tokens ▸ length 1

The three attention projections are one multiplication, the attention scale lies in the query's weights, and the only
token type lies in the position table: same result, fewer passes over memory.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from livedex.errors import WeightsUnavailable

if TYPE_CHECKING:
    from onnx import NodeProto, TensorProto

GRAPH_VERSION = 1
"""Raise it when a change here alters the graph, so that cached graphs are built again."""

OPSET = 20
IR_VERSION = 9
HIDDEN_BY_MASK = -1e9
"""Added to a padded position's score before the softmax; its weight is then exactly zero in float32."""

Tensor = npt.NDArray[np.float32]
Tensors = Mapping[str, Tensor]


@dataclass(frozen=True, slots=True)
class BertShape:
    """What the tensors alone do not tell."""

    heads: int = 12
    epsilon: float = 1e-12

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> BertShape:
        """Read a model's config.json. Raises WeightsUnavailable for an architecture that is not built here."""
        for key, accepted in (
            ("model_type", "bert"),
            ("hidden_act", "gelu"),
            ("position_embedding_type", "absolute"),
        ):
            if config.get(key, accepted) != accepted:
                raise WeightsUnavailable(
                    f"config.json has {key} {config[key]!r}, and only {accepted!r} is supported. "
                    "Give a folder that holds model.onnx instead."
                )
        return cls(
            heads=int(config.get("num_attention_heads", cls().heads)),
            epsilon=float(config.get("layer_norm_eps", cls().epsilon)),
        )


@dataclass(slots=True)
class _Graph:
    """Nodes and constants in the making. A method that adds one returns the name of what it computes or holds."""

    nodes: list[NodeProto] = field(default_factory=list)
    constants: dict[str, TensorProto] = field(default_factory=dict)

    def add(self, op: str, inputs: Sequence[str], outputs: int = 1, **attributes: Any) -> list[str]:
        from onnx import helper

        name = attributes.pop("name", f"{op.lower()}_{len(self.nodes)}")
        names = [name] if outputs == 1 else [f"{name}_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(op, list(inputs), names, name=name, **attributes))
        return names

    def op(self, op: str, *inputs: str, **attributes: Any) -> str:
        return self.add(op, inputs, **attributes)[0]

    def constant(self, name: str, value: npt.NDArray[Any]) -> str:
        from onnx import numpy_helper

        if name not in self.constants:
            self.constants[name] = numpy_helper.from_array(np.ascontiguousarray(value), name)
        return name

    def integers(self, *values: int) -> str:
        return self.constant("i_" + "_".join(str(v) for v in values), np.array(values, dtype=np.int64))

    def number(self, name: str, value: float) -> str:
        return self.constant(name, np.array(value, dtype=np.float32))

    def dense(self, x: str, name: str, weight: Tensor, bias: Tensor) -> str:
        """`weight` as PyTorch stores it: (outputs, inputs)."""
        product = self.op("MatMul", x, self.constant(f"{name}.weight", weight.T))
        return self.op("Add", product, self.constant(f"{name}.bias", bias))


def build(tensors: Tensors, shape: BertShape) -> bytes:
    """The serialised model: `input_ids` and `attention_mask`, both int64 (batch, tokens), to `embedding`, float32
    (batch, dimensions) of length 1.

    Raises WeightsUnavailable when a tensor is missing.
    """
    from onnx import TensorProto, checker, helper

    graph = _Graph()
    try:
        x = _embeddings(graph, tensors, shape)
        mask = _float_mask(graph)
        hidden = _hidden_positions(graph, mask)
        for layer in range(_layers(tensors)):
            x = _layer(graph, tensors, shape, f"encoder.layer.{layer}", x, hidden)
        _pool(graph, x, mask)
    except KeyError as error:
        raise WeightsUnavailable(
            f"The weights have no tensor {error}, so they are not those of a BERT encoder. "
            "Give a folder with another model, or run: livedex models fetch"
        ) from error

    dimensions = tensors["embeddings.word_embeddings.weight"].shape[1]
    inputs = ("input_ids", "attention_mask")
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "sentence-encoder",
            [helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "tokens"]) for name in inputs],
            [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", dimensions])],
            list(graph.constants.values()),
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="livedex",
    )
    # The quantizer logs advice to pre-process a graph unless it is told that this is done; here nothing is left to do.
    helper.set_model_props(model, {"onnx.quant.pre_process": "onnxruntime.quant"})
    checker.check_model(model)
    return bytes(model.SerializeToString(deterministic=True))


def _layers(tensors: Tensors) -> int:
    return len({name.split(".")[2] for name in tensors if name.startswith("encoder.layer.")})


def _normalise_layer(graph: _Graph, tensors: Tensors, shape: BertShape, name: str, x: str) -> str:
    scale = graph.constant(f"{name}.weight", tensors[f"{name}.weight"])
    bias = graph.constant(f"{name}.bias", tensors[f"{name}.bias"])
    return graph.op("LayerNormalization", x, scale, bias, axis=-1, epsilon=shape.epsilon)


def _embeddings(graph: _Graph, tensors: Tensors, shape: BertShape) -> str:
    words = graph.constant("words", tensors["embeddings.word_embeddings.weight"])
    first_type = tensors["embeddings.token_type_embeddings.weight"][0]
    places = graph.constant("places", tensors["embeddings.position_embeddings.weight"] + first_type)
    tokens = graph.op("Shape", "input_ids", start=1, end=2)
    used_places = graph.op("Slice", places, graph.integers(0), tokens, graph.integers(0))
    total = graph.op("Add", graph.op("Gather", words, "input_ids", axis=0), used_places)
    return _normalise_layer(graph, tensors, shape, "embeddings.LayerNorm", total)


def _float_mask(graph: _Graph) -> str:
    from onnx import TensorProto

    return graph.op("Cast", "attention_mask", to=TensorProto.FLOAT)


def _hidden_positions(graph: _Graph, mask: str) -> str:
    """(batch, 1, 1, tokens): 0 for a token, a large negative number for padding."""
    absent = graph.op("Sub", graph.number("one", 1.0), mask)
    return graph.op("Unsqueeze", graph.op("Mul", absent, graph.number("hide", HIDDEN_BY_MASK)), graph.integers(1, 2))


def _layer(graph: _Graph, tensors: Tensors, shape: BertShape, name: str, x: str, hidden: str) -> str:
    def dense(part: str, value: str) -> str:
        full = f"{name}.{part}"
        return graph.dense(value, full, tensors[f"{full}.weight"], tensors[f"{full}.bias"])

    mixed = dense("attention.output.dense", _attention(graph, tensors, shape, name, x, hidden))
    x = _normalise_layer(graph, tensors, shape, f"{name}.attention.output.LayerNorm", graph.op("Add", mixed, x))
    widened = graph.op("Gelu", dense("intermediate.dense", x))
    narrowed = graph.op("Add", dense("output.dense", widened), x)
    return _normalise_layer(graph, tensors, shape, f"{name}.output.LayerNorm", narrowed)


def _attention(graph: _Graph, tensors: Tensors, shape: BertShape, name: str, x: str, hidden: str) -> str:
    weights = [tensors[f"{name}.attention.self.{part}.weight"] for part in ("query", "key", "value")]
    biases = [tensors[f"{name}.attention.self.{part}.bias"] for part in ("query", "key", "value")]
    width = weights[0].shape[0]
    scale = np.float32(1 / math.sqrt(width // shape.heads))
    weights[0], biases[0] = weights[0] * scale, biases[0] * scale

    projected = graph.dense(x, f"{name}.attention.self", np.concatenate(weights), np.concatenate(biases))
    by_head = graph.op("Reshape", projected, graph.integers(0, 0, 3, shape.heads, width // shape.heads))
    by_part = graph.op("Transpose", by_head, perm=[2, 0, 3, 1, 4])
    query, key, value = graph.add("Split", [by_part, graph.integers(1, 1, 1)], outputs=3, axis=0)
    first = graph.integers(0)
    query, key, value = (graph.op("Squeeze", part, first) for part in (query, key, value))

    scores = graph.op("MatMul", query, graph.op("Transpose", key, perm=[0, 1, 3, 2]))
    weight = graph.op("Softmax", graph.op("Add", scores, hidden), axis=-1)
    mixed = graph.op("Transpose", graph.op("MatMul", weight, value), perm=[0, 2, 1, 3])
    return graph.op("Reshape", mixed, graph.integers(0, 0, width))


def _pool(graph: _Graph, x: str, mask: str) -> None:
    """The mean of the real tokens, brought to length 1; the length makes dividing by their number unnecessary."""
    axis = graph.integers(1)
    real = graph.op("Mul", x, graph.op("Unsqueeze", mask, graph.integers(2)))
    total = graph.op("ReduceSum", real, axis, keepdims=0)
    length = graph.op("Max", graph.op("ReduceL2", total, axis, keepdims=1), graph.number("smallest_length", 1e-12))
    graph.op("Div", total, length, name="embedding")
